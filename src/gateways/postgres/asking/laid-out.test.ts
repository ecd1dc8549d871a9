import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import fc from 'fast-check'
import { CORPUS } from '../../../../test/sql/corpus.ts'
import { mutate } from '../../../../test/sql/mutate.ts'
import { Random } from '../../../../test/sql/random.ts'
import { spentMs } from '../../../encoding/spent.fixture.ts'
import { loadParser } from '../sql/parse.ts'
import { laidOut, laidOutBy } from './laid-out.ts'
import { layOut } from './layout.ts'
import { type Token, tokensOf } from './tokens.ts'

before(loadParser)

const formattedOf = (sql: string) => {
  const result = laidOutBy(layOut, sql)
  return 'unformatted' in result ? undefined : (result.formatted ?? sql)
}
const tokens = (sql: string) => tokensOf(sql)?.map(({ type, text }) => [type, text])
/** Held to it here without the protection, so that a mistake of the layout shows. */
const assertSame = (sql: string) => {
  const all = tokensOf(sql)
  if (all) assert.deepEqual(tokens(layOut(all)), tokens(sql), sql)
}

test('each clause of a statement stands in a line of its own, and each part of one that is long', () => {
  const sql = `with late as (select id from customers where city = 'Berlin' and last_order < now() - interval '1 year') update orders set status = 'void', note = case when total > 100 then 'a big one, look at it again' else 'a small one' end from late where late.id = orders.customer_id and orders.shipped is null -- not the others
 and not exists (select 1 from refunds where refunds.order_id = orders.id) returning orders.id`
  assert.equal(
    formattedOf(sql),
    `with late as (
  select id
  from customers
  where city = 'Berlin' and last_order < now() - interval '1 year'
)
update orders
set
  status = 'void',
  note = case
    when total > 100 then 'a big one, look at it again'
    else 'a small one'
  end
from late
where
  late.id = orders.customer_id
  and orders.shipped is null -- not the others
  and not exists (select 1 from refunds where refunds.order_id = orders.id)
returning orders.id`,
  )
  assert.equal(formattedOf('delete   from\n\n orders where id=3'), 'delete from orders where id=3')
  const ids = Array.from({ length: 40 }, (_, i) => i * 1000)
  const many = formattedOf(`delete from orders where id in (${ids.join(',')})`)!.split('\n')
  assert.ok(many.length < 8 && many.every((line) => line.length <= 76), 'many values are a block, not a column')
})

test('rule 12: what an approver reads laid out has exactly the tokens of what will run: all corpora', () => {
  for (const sql of CORPUS) assertSame(sql)
  const random = new Random(5)
  for (let i = 0; i < 1_000; i++) assertSame(mutate(random.pick(CORPUS), random.pick(CORPUS), random))
})

test('rule 12: the same of any heap of tokens, comments and strings', () => {
  const piece = fc.constantFrom(
    ..."select from where and or case when then end ( ) [ ] , ; . :: = <> - -1 $1 a \"A b\" \"x\"\"y\" 1.5 's' 'it''s' E'\\'' $$ d\n\n  q $$ $x$ $$ $x$".split(
      ' ',
    ),
    "'two\n   lines'",
    "U&'d\\0061t' UESCAPE '!'",
    'U&"d\\0061t"',
    '-- to the end\n',
    "-- hides ' and $$ and /*\n",
    "/* a\n /* b */ -- ' */",
    "'a'\n  'b'",
    'left join',
    'between',
    'on conflict do update set',
    `'${'long '.repeat(40)}'`,
  )
  const space = fc.constantFrom('', ' ', '\n', '\t', ' \n\n  ', '\r\n')
  fc.assert(
    fc.property(fc.array(fc.tuple(piece, space), { maxLength: 40 }), (parts) => assertSame(parts.flat().join(''))),
    { numRuns: 3_000 },
  )
})

test('rule 12: a layout that changes, hides, adds, joins or moves anything is not shown, whatever mistake made it', () => {
  const sql = "delete from orders /* all */ where note = 'a\n  b' -- and id = 3\n and paid"
  const broken: Record<string, (text: string) => string> = {
    'a comment swallows what follows': (text) => text.replace('\n and paid', ' and paid'),
    'a string is reflowed': (text) => text.replace("'a\n  b'", "'a b'"),
    'a comment is left out': (text) => text.replace('/* all */', ''),
    'a word is written in another way': (text) => text.replace('delete', 'DELETE'),
    'something is added': (text) => `${text} and true`,
    'two tokens are one': (text) => text.replace('and paid', 'andpaid'),
    'the order is another': (text) => text.replace('from orders', 'orders from'),
    'a string has no end': (text) => `${text} '`,
  }
  for (const [how, change] of Object.entries(broken)) {
    assert.notEqual(change(sql), sql, how)
    assert.deepEqual(
      laidOutBy(() => change(sql), sql),
      { unformatted: 'laid out it would not be the same' },
      how,
    )
  }
  assert.deepEqual(
    laidOutBy(() => "select 'a'\n'b'", "select 'a' 'b'"),
    { unformatted: 'laid out it would not be the same' },
    'a line end makes one string of two',
  )
})

test('rule 12: what cannot be read, is odd, or is too long, is shown as it was written, with the reason', async () => {
  for (const sql of ["select 'no end", 'select /* no end', 'select $a$ no end', 'select 1\u00a0; delete from orders'])
    assert.deepEqual(await laidOut(sql), { unformatted: 'it cannot be read as SQL by itself' }, sql)
  // In the text as it was sent the carriage return ends the comment.
  assert.deepEqual(await laidOut('select 1 -- \\u{d} delete from orders'), { unformatted: 'it holds characters that cannot be seen' })
  assert.deepEqual(await laidOut("select '\u202e' from t"), { unformatted: 'it holds characters that cannot be seen' })
  assert.deepEqual(await laidOut(`select '${'x'.repeat(17_000)}'`), { unformatted: 'it is too long to be laid out' })
  assert.deepEqual(await laidOut(`select ${'('.repeat(200)}1${')'.repeat(200)}`), { unformatted: 'it is nested too deep to be laid out' })
  assert.deepEqual(await laidOut('select 1'), {})
  const stretched = `select 1${' '.repeat(5_000)}\n${'\n'.repeat(200)}; delete from orders`
  assert.deepEqual(await laidOut(stretched), { formatted: 'select 1; delete from orders' })
})

test('the largest text that is laid out takes no time to speak of', () => {
  for (const sql of [
    `select ${'a,'.repeat(8_000)}a`,
    'a '.repeat(8_000),
    `${'case '.repeat(99)}${'a '.repeat(7_500)}`,
    '('.repeat(99) + "'x\n',".repeat(2_500),
  ]) {
    const began = spentMs()
    const all = tokensOf(sql) as readonly Token[]
    layOut(all)
    assert.ok(spentMs() - began < 1_000, sql.slice(0, 20))
  }
})
