import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { mutate } from './mutate.ts'
import { Oracle } from './oracle.ts'
import { Random } from './random.ts'

/** An oracle that sees nothing finds nothing. So here everything is allowed, and each kind of change must be seen, for the statement that made it. */
const ANYTHING = { allow: [{ postgres: 'any', databases: ['shop'], as: 'any', can: 'any' }] }

const SEEN: readonly (readonly [what: string, sql: string, sign: RegExp])[] = [
  ['a row', "insert into app.log values ('x')", /Heap\/INSERT/],
  ['a row of an unlogged table', "insert into app.unlogged_log values ('x')", /xid/],
  ['a row that is taken back', "begin; insert into app.log values ('x'); rollback", /Heap\/INSERT/],
  ['the lock of a row', 'select * from app.items where id = 1 for share', /xid|LOCK/],
  ['a number of a sequence', "select nextval('app.counter')", /sequences/],
  ['the number after it, which was fetched ahead', "select nextval('app.counter'), nextval('app.counter')", /sequences/],
  ['a number of a sequence without a log', "select nextval('app.quiet_counter')", /sequences/],
  ['the catalog', 'create table app.evil (a int)', /xid/],
  ['a temporary table', 'create temp table evil (a int)', /xid/],
  ['a large object', 'select lo_create(4711)', /Heap\/INSERT/],
  ['a setting of a role', "alter role plain set work_mem = '1MB'", /xid/],
  ['a setting of the server', "alter system set work_mem = '5MB'", /cluster/],
  ['settings read anew', 'select pg_reload_conf()', /loaded/],
  ['an advisory lock', 'select pg_advisory_lock(7)', /advisory/],
  ['a table locked in a transaction', 'begin; lock table app.items in share mode', /ShareLock/],
  ['a prepared transaction', "begin; insert into app.log values ('x'); prepare transaction 'evil'", /prepared|Transaction\/PREPARE/],
  ['a message in the WAL', "select pg_logical_emit_message(false, 'a', 'b')", /LogicalMessage/],
  ['a slot of replication', "select pg_create_physical_replication_slot('evil')", /slots/],
  ['statistics gone', 'select pg_stat_reset()', /statistics/],
  ['statistics of the cluster gone', "select pg_stat_reset_shared('wal')", /statistics/],
  ['a file', "copy (select 1) to ':scratch/evil'", /files/],
  ['a program run', "copy (select 1) to program 'cat > :scratch/evil'", /files/],
  ['a program run by a foreign table', 'select * from app.program', /files/],
  ['another session ended', 'select pg_terminate_backend(:pid)', /sessions/],
  ['another session’s statement stopped', 'select pg_cancel_backend(:pid)', /sessions/],
  ['a notification', 'notify c1', /xid/],
  ['the parser’s setting', 'set lo_compat_privileges = on', /lo_compat_privileges/],
  ['the role', 'set role plain', /role/],
  ['a view that writes', 'select * from app.trap', /Heap\/INSERT/],
]

let oracle: Oracle
before(async () => {
  oracle = await Oracle.start([ANYTHING])
})
after(() => oracle.stop())

for (const [what, sql, sign] of SEEN) {
  test(`the oracle sees ${what}: ${sql}`, async () => {
    oracle.tally.violations.length = 0
    await oracle.run({
      user: 'root',
      pipelined: false,
      steps: [
        { sql: 'select 1', via: 'extended' },
        ...sql.split('; ').map((text) => ({ sql: text, via: 'simple' as const })),
        { sql: 'select 2', via: 'simple' },
      ],
    })
    await oracle.run({ user: 'root', pipelined: false, steps: [] })
    assert.ok(oracle.tally.violations.length > 0, 'nothing was seen')
    assert.match(JSON.stringify(oracle.tally.violations), sign)
    // The server reads its settings, and its signals, when it comes to it.
    if (!/reload_conf|cancel_backend|terminate_backend/.test(sql))
      assert.ok(!oracle.tally.violations.some((violation) => /^select \d$/.test(violation.sql)), 'another statement was blamed')
  })
}

test('the oracle sees nothing where nothing happens', async () => {
  oracle.tally.violations.length = 0
  const steps = [
    'select * from app.items',
    'begin',
    'select count(*) from app.everything',
    'select 1/0',
    'rollback',
    'explain analyze table app.sales',
    'copy app.items to stdout',
    "set work_mem = '1MB'",
  ]
  for (const via of ['simple', 'extended'] as const) await oracle.run({ user: 'plain', pipelined: false, steps: steps.map((sql) => ({ sql, via })) })
  assert.deepEqual(oracle.tally.violations, [])
})

test('the same seed makes the same statements', () => {
  const made = (seed: number) => {
    const random = new Random(seed)
    return Array.from({ length: 50 }, () => mutate('select a, b from t where c = 1', "delete from x returning 'y'", random))
  }
  assert.deepEqual(made(7), made(7))
  assert.notDeepEqual(made(7), made(8))
})
