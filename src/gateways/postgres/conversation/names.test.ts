import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { describeSql } from '../describe.ts'
import { loadParser } from '../sql/parse.ts'
import { Cursors } from './cursors.ts'
import { Noted } from './noted.ts'
import { assertRoom, Names } from './prepared.ts'

test('rule 11: what names hold in memory is counted, whatever is done with them', () => {
  const name = fc.constantFrom('', 'a', 'bb')
  const step = fc.oneof(
    fc.record({
      does: fc.constantFrom('propose' as const, 'confirm' as const, 'know' as const),
      name,
      value: fc.option(fc.nat(9), { nil: undefined }),
    }),
    fc.record({ does: fc.constantFrom('sync' as const, 'clear' as const, 'withdraw' as const) }),
  )
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const names = new Names<number>((value) => value)
      const [known, since] = [new Map<string, number>(), new Map<string, number | undefined>()]
      for (const one of steps) {
        if (!('name' in one)) {
          names[one.does]()
          if (one.does === 'clear') known.clear()
          if (one.does === 'sync') since.clear()
          continue
        }
        names[one.does](one.name, one.value)
        if (one.does === 'propose') since.set(one.name, one.value)
        else if (one.value === undefined) known.delete(one.name)
        else known.set(one.name, one.value)
      }
      const weigh = (all: Map<string, number | undefined>) => [...all].reduce((sum, [key, value]) => sum + key.length + (value ?? 0), 0)
      assert.equal(names.weight, weigh(known) + weigh(since))
      assert.equal(names.sinceSync.weight, weigh(since))
    }),
  )
})

test('rule 11: few names that hold much are too many', () => {
  const names = new Names<string>((value) => value.length)
  const text = 'x'.repeat(1024 * 1024)
  assert.throws(
    () => {
      for (let i = 0; i < 1000; i++) {
        assertRoom(names, 10_000, 'prepared statements')
        names.know(`s${i}`, text)
      }
    },
    { code: 'too_many' },
  )
  assert.ok(names.weight < 40 * 1024 * 1024)
})

test('rule 11: cursors remember only so many characters; a FETCH from one that is not remembered is taken as anything', async () => {
  await loadParser()
  const cursors = new Cursors()
  const declare = (name: string) => describeSql(`declare ${name} cursor for select 1 /* ${'x'.repeat(60_000)} */`)[0]!
  for (let i = 0; i < 300; i++) cursors.follow(declare(`c${i}`), undefined, false)
  const fetch = (name: string) => cursors.follow(describeSql(`fetch all from ${name}`)[0]!, undefined, false)
  // The same again takes no more room.
  for (let i = 0; i < 300; i++) cursors.follow(declare('c1'), undefined, false)
  assert.equal(fetch('c1').stands?.[0]?.text.length, declare('c1').text.length)
  assert.deepEqual(fetch('c1').effects, ['read'])
  assert.equal(fetch('c299').opaque, true)
})

test('rule 11: refusals wait for the record', async () => {
  let went = 0
  const noted = new Noted(() => went++)
  const record = Promise.withResolvers<void>()
  while (!noted.isFull) noted.note(record.promise)
  record.reject(new Error('no record'))
  await record.promise.catch(() => {})
  await new Promise((done) => setImmediate(done))
  assert.equal(noted.isFull, false)
  assert.equal(went, 16)
})
