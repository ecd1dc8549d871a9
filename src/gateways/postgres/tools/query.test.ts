import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { READER, type Rig, startRig } from '../rig.fixture.ts'
import { sit, structured, textOf, toolsOf } from './tools.fixture.ts'

let rig: Rig
before(async () => {
  rig = await startRig({ roles: [READER] })
})
after(() => rig.stop())

const reader = (more = {}) => {
  const desk = sit(toolsOf(rig, more))
  return { ...desk, query: async (args: Record<string, unknown>) => structured(await desk.call('query', { as: 'reader', ...args })) }
}

test('NULL is not the empty string, and columns of one name are columns of their own (R79)', async () => {
  const { query } = reader()
  const result = await query({ sql: `select null as a, '' as a, $1::text as a, $2::text as a`, params: [null, ''] })
  assert.deepEqual(result.rows, [[null, '', null, '']])
  assert.deepEqual(
    result.columns.map(({ name }: { name: string }) => name),
    ['a', 'a', 'a', 'a'],
  )
})

test('values keep their type, and what JSON would change is text', async () => {
  const { query } = reader()
  const sql = `select true, 7::int2, 9007199254740993, 42::int8, 1.50, 1.5, 'NaN'::float8, 0.1::float4, '{"n":12345678901234567890}'::jsonb,
    '\\x00ff'::bytea, date '2026-02-03', timestamptz '2026-02-03 04:05:06+00', array[1,null,3], array['a','','NULL',null], '[0:1]={5,6}'::int[]`
  const result = await query({ sql })
  const [row] = JSON.parse(JSON.stringify(result.rows).replace('12345678901234567890', '"12345678901234567890"'))
  assert.deepEqual(row.slice(0, 8), [true, 7, '9007199254740993', 42, '1.50', 1.5, 'NaN', 0.1])
  assert.deepEqual(row[8], { n: '12345678901234567890' })
  assert.deepEqual(row[9], { base64: 'AP8=' })
  assert.equal(row[10], '2026-02-03')
  // In the zone of the database, which is that of the machine.
  assert.match(row[11], /^2026-02-0[234] /)
  assert.deepEqual(row.slice(12), [[1, null, 3], ['a', '', 'NULL', null], '[0:1]={5,6}'])
  assert.equal(result.columns[12].type, 'int4[]')
})

test('a result comes in pages, of one statement', async () => {
  const { query, call } = reader()
  const before = rig.records.length
  const first = await query({ sql: 'select id from customers order by id', max_rows: 20 })
  assert.equal(first.more, true)
  const second = structured(await call('query', { cursor: first.cursor, max_rows: 20 }))
  const third = structured(await call('query', { cursor: second.cursor }))
  assert.deepEqual(
    [...first.rows, ...second.rows, ...third.rows].flat(),
    Array.from({ length: 50 }, (_, i) => i + 1),
  )
  assert.deepEqual([third.more, third.cursor, third.first_row], [false, undefined, 40])
  assert.equal(rig.records.slice(before).filter(({ action }) => action.operation === 'select').length, 1)
  await assert.rejects(call('query', { cursor: first.cursor }), /no such cursor/)
})

test('a page that waits is gone when rights have changed', async () => {
  let revision = 1
  const { query, call } = reader({ revision: () => revision })
  const { cursor } = await query({ sql: 'select id from customers', max_rows: 1 })
  revision++
  await assert.rejects(call('query', { cursor }), /Rights have changed/)
})

test('a result that is too long says that it is cut', async () => {
  const { query } = reader({ limits: { rows: 30 } })
  const result = await query({ sql: 'select id from customers', max_rows: 100 })
  assert.equal(result.rows.length, 30)
  assert.equal(result.more, true)
  assert.match(result.cut[0], /first 30 rows/)
  const long = await query({ sql: `select repeat('x', 100000)` })
  assert.match(long.rows[0][0], /… \[cut: 100000 characters\]$/)
})

test('rule 11: one row of many long values, and JSON of many levels, are shown in part or as text', async () => {
  const { query } = reader()
  const wide = await query({ sql: `select ${Array.from({ length: 1_000 }, () => `repeat('y', 20000)`).join()}` })
  assert.equal(wide.rows[0].length, 1_000)
  assert.ok(JSON.stringify(wide.rows).length < 1024 * 1024)
  const deep = await query({ sql: `select (repeat('[', 3000) || repeat(']', 3000))::json, '"[[[["'::json` })
  assert.deepEqual([typeof deep.rows[0][0], deep.rows[0][1]], ['string', '[[[['])
})

test('a cap of a rule says that it cut, however many rows are asked for', async () => {
  rig.state.roles = [{ allow: [{ postgres: 'any', databases: ['shop'], as: 'reader', can: 'read', max_rows: 10 }] }]
  try {
    for (const rows of [5_000, 20]) {
      const result = await reader({ limits: { rows } }).query({ sql: 'select id from customers' })
      assert.deepEqual([result.rows.length, result.more], [10, true])
      assert.match(result.cut.join(), /Chaperone cut this result at 10 rows/)
    }
  } finally {
    rig.state.roles = [READER]
  }
})

test('the action that is judged and recorded is the SQL one, via mcp', async () => {
  const { query } = reader()
  const from = rig.records.length
  await query({ sql: 'select name from customers where id = $1', params: [3] })
  const made = rig.records.slice(from)
  assert.deepEqual(
    made.map(({ action: { kind, operation, via } }) => [kind, operation, via]),
    [
      ['postgres', 'connect', 'mcp'],
      ['postgres', 'select', 'mcp'],
    ],
  )
  assert.equal(made[1]!.bodies.statement, 'select name from customers where id = $1')
})

test('a refused statement is answered in the words of the refusal', async () => {
  const { call } = sit(toolsOf(rig))
  const refused = await call('query', { sql: 'delete from customers', as: 'writer' })
  assert.equal(refused.isError, true)
  assert.match(textOf(refused), /^Chaperone refused this: DELETE (public\.)?customers\..*\nReason no_rule, decision per_\d+\.\n.*do not try/is)
})

test('an error of the database has its SQLSTATE and its place', async () => {
  const { call } = sit(toolsOf(rig))
  const failed = await call('query', { sql: 'select nix from customers', as: 'reader' })
  assert.equal(failed.isError, true)
  assert.match(textOf(failed), /^ERROR 42703: column "nix" does not exist at character 8: "nix from customers"/)
  const explained = await call('explain', { sql: 'select nix from customers', as: 'reader' })
  assert.match(textOf(explained), /at character 8: "nix from/)
})

test('two statements in one text are refused, and nothing of them runs', async () => {
  const { call } = sit(toolsOf(rig))
  assert.equal((await call('query', { sql: 'select 1; select 2', as: 'reader' })).isError, true)
})

test('a transaction does not outlive its call', async () => {
  const { call, query } = reader()
  const begun = await call('query', { sql: 'begin', as: 'reader' })
  assert.match(textOf(begun), /transaction of its own/)
  await query({ sql: 'set local datestyle = german' }).catch(() => {})
  await query({ sql: 'set datestyle = german' })
  assert.deepEqual((await query({ sql: `select date '2026-02-03'` })).rows, [['2026-02-03']])
})

test('which database user is meant must be said when there are several, and only those are named that may be used', async () => {
  const { call } = sit(toolsOf(rig, { users: ['reader', 'writer', 'root', 'other_*'] }))
  await assert.rejects(call('query', { sql: 'select 1' }), (error: { fix?: string }) => {
    assert.equal(error.fix, 'Say it with `as`: reader, writer.')
    return true
  })
  const refused = await call('query', { sql: 'select 1', as: 'root' })
  assert.match(textOf(refused), /Chaperone refused this/)
})

test('no two sessions share a connection, and one session uses its own again for plain reads', async () => {
  const tools = toolsOf(rig)
  const [boris, dana] = [sit(tools), sit(tools)]
  const pid = async (desk: typeof boris) =>
    structured(await desk.call('query', { sql: 'select pg_backend_pid(), lower(name) from customers order by id limit 1', as: 'reader' })).rows[0][0]
  const mine = await pid(boris)
  assert.equal(await pid(boris), mine)
  assert.notEqual(await pid(dana), mine)
  const user = async (as: string) =>
    structured(await boris.call('query', { sql: 'select lower(current_user), 1 from customers limit 1', as })).rows[0][0]
  for (const as of ['reader', 'writer', 'reader']) assert.equal(await user(as), as)
  await boris.seat.end()
  await assert.rejects(pid(boris), /over/)
})
