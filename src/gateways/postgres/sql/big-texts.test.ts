import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { manualClock } from '../../../clock.ts'
import { describeSql } from '../describe.ts'
import { BigTexts } from './big-texts.ts'
import { BIG_TEXT, isAtHand, loadParser, parseSql } from './parse.ts'
import { withoutRepeats } from './repeats.ts'

before(() => loadParser())
// Its own clock stands: on a busy machine no text is given up for its time.
const texts = new BigTexts(manualClock(0))
after(() => texts.close())

const rows = (n: number, row: (i: number) => string) => Array.from({ length: n }, (_, i) => row(i)).join(', ')

test('rule 11: a large text is parsed in another thread, and described as a small one of its kind', async () => {
  const big = `insert into app.t (a, b, c) values ${rows(40_000, (i) => `(${i}, 'text ${i}', default)`)}`
  assert.ok(big.length > 900_000)
  assert.equal(isAtHand(big), false)
  assert.deepEqual(describeSql(big)[0]?.unread, 'size')
  let turns = 0
  const ticking = setInterval(() => turns++, 5)
  await texts.read(big, 'somebody')
  clearInterval(ticking)
  assert.ok(turns > 5, `the thread that serves everybody had ${turns} turns meanwhile`)
  assert.ok(isAtHand(big))
  const [described] = describeSql(big)
  const [small] = describeSql("insert into app.t (a, b, c) values (1, 'text', default)")
  assert.deepEqual(
    [described!.kinds, described!.effects, described!.written, described!.unclear],
    [small!.kinds, small!.effects, small!.written, undefined],
  )
  assert.equal(described!.text, big)
})

test('what hides among thousands of values is found', async () => {
  const members = rows(20_000, String)
  for (const [sql, name] of [
    [`select 1 where 5 in (${members}, app.hidden(), ${members})`, 'app.hidden'],
    [`insert into t values ${rows(20_000, (i) => `(${i})`)}, (app.hidden())`, 'app.hidden'],
    [`select array[${members}, (select app.hidden())]`, 'app.hidden'],
    [`select ${members}, app.hidden()`, 'app.hidden'],
  ] as const) {
    await texts.read(sql, 'somebody')
    const [described] = describeSql(sql)
    assert.ok(described!.functions.includes(name) || described!.unread === 'size', sql.slice(-60))
  }
})

test('what cannot be read in time or room is refused, and the next text is read', async () => {
  const broken = `select ${rows(20_000, String)} from`
  await texts.read(broken, 'somebody')
  assert.equal(describeSql(broken)[0]?.unread, 'syntax')
  const deep = `select ${'('.repeat(200_000)}1${')'.repeat(200_000)}`
  await texts.read(deep, 'somebody').catch((error) => assert.equal(error.code, 'too_large'))
  assert.notEqual(describeSql(deep)[0]?.unread, undefined)
  const different = `select ${rows(30_000, (i) => `f${i}()`)}`
  await texts.read(different, 'somebody')
  assert.equal(describeSql(different)[0]?.unread, 'size')
  const good = `select 1 where 1 in (${rows(20_000, String)})`
  await texts.read(good, 'somebody')
  assert.deepEqual(describeSql(good)[0]?.effects, ['read'])
})

test('rule 11: a text that takes too long is given up, and the next one is read', async () => {
  const clock = manualClock(0)
  const slow = new BigTexts(clock)
  const text = (n: number) => `select ${n} where 1 in (${rows(12_000, String)})`
  const refused = assert.rejects(slow.read(text(301), 'somebody'), { code: 'too_large' })
  const next = slow.read(text(302), 'somebody')
  clock.advance(10_000)
  await refused
  await next
  assert.deepEqual([isAtHand(text(301)), isAtHand(text(302))], [false, true])
  slow.close()
})

test('rule 11: large texts take turns by person, and only so many wait', async () => {
  const one = (n: number) => `select ${n} where 1 in (${rows(12_000, String)})`
  const order: string[] = []
  const asked = [...Array.from({ length: 6 }, (_, i) => ['greedy', i] as const), ['modest', 100] as const].map(([whose, n]) =>
    texts.read(one(n), whose).then(() => order.push(whose)),
  )
  await Promise.all(asked)
  assert.ok(order.indexOf('modest') <= 2, order.join())
  const many = Array.from({ length: 80 }, (_, i) =>
    texts.read(one(200 + (i % 2)), `p${i}`).then(
      () => 'read',
      (error: { code: string }) => error.code,
    ),
  )
  assert.ok((await Promise.all(many)).filter((said) => said === 'too_many').length >= 10)
})

test('rule 11: one person does not take all places of those who wait', async () => {
  const one = (n: number) => `select ${n} where 1 in (${rows(12_000, String)})`
  const said = (n: number, whose: string) =>
    texts.read(one(n), whose).then(
      () => 'read',
      (error: { code: string }) => error.code,
    )
  const greedy = Array.from({ length: 70 }, () => said(300, 'greedy'))
  const modest = said(301, 'modest')
  assert.equal(await modest, 'read')
  assert.ok((await Promise.all(greedy)).includes('too_many'))
})

test('leaving out repeats changes nothing of what a statement does', () => {
  const value = fc.constantFrom('1', "'x'", '$1', 'null', 'now()', 'app.f(1)', "'a'::text", '(select 1 from app.t)', 'default')
  const row = fc.array(value, { minLength: 2, maxLength: 2 })
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 12 }), fc.constantFrom('values', 'in', 'array'), (all, form) => {
      const plain = all.flat().filter((one) => one !== 'default')
      const sql =
        form === 'values'
          ? `insert into app.w values ${all.map((one) => `(${one.join()})`).join()}`
          : form === 'in'
            ? `select 1 where a in (${[...plain, '1'].join()})`
            : `select array[${plain.join()}]`
      const parsed = parseSql(sql)
      assert.ok('statements' in parsed)
      const names = (tree: unknown) => new Set([...JSON.stringify(tree).matchAll(/"(?:relname|sval)":"([^"]*)"/g)].map((match) => match[1]))
      const { tree } = withoutRepeats(parsed.statements[0]!.tree)
      const before = names(parsed.statements[0]!.tree)
      const after = names(tree)
      for (const name of before) if (name !== 'x') assert.ok(after.has(name), `${name} is lost from ${sql}`)
    }),
  )
  assert.ok(BIG_TEXT > 0)
})
