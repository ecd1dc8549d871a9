import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Afterwards } from './afterwards.ts'
import { LastCancels } from './database/last-cancels.ts'

const turn = () => new Promise<void>((done) => setImmediate(done))

test('what is left to do behind a cut is all done, in order, and others have their turns in between', async () => {
  const failures: unknown[] = []
  const afterwards = new Afterwards((error) => failures.push(error))
  const done: number[] = []
  for (let i = 0; i < 100; i++)
    afterwards.add(() => {
      if (i === 3) throw new Error('one fails')
      done.push(i)
    })
  assert.equal(done.length, 0, 'nothing before the goodbyes are said')
  await turn()
  assert.ok(done.length > 0 && done.length < 50, `${done.length} in one turn`)
  while (done.length < 99) await turn()
  assert.deepEqual(
    done,
    [...done].sort((a, b) => a - b),
  )
  assert.equal(failures.length, 1)
  afterwards.add(() => done.push(100))
  await turn()
  assert.equal(done.at(-1), 100)
})

test('rule 6: every statement of a cut is cancelled, a few at a time; what the server has ended by itself needs none', async () => {
  const cancels = new LastCancels()
  const waiting: (() => void)[] = []
  let most = 0
  let underWay = 0
  let cancelled = 0
  const ended = new Set<number>()
  for (let i = 0; i < 100; i++)
    cancels.add({
      isOver: () => ended.has(i),
      cancel: () => {
        most = Math.max(most, ++underWay)
        return new Promise<void>((done) =>
          waiting.push(() => {
            underWay--
            cancelled++
            done()
          }),
        )
      },
    })
  for (let i = 50; i < 60; i++) ended.add(i)
  while (waiting.length > 0) {
    waiting.shift()!()
    await turn()
  }
  assert.equal(cancelled, 90)
  assert.equal(most, 8)
})
