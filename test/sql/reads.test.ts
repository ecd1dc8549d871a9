import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import type pg from 'pg'
import { READER, type Rig, startRig } from '../../src/gateways/postgres/rig.fixture.ts'
import { effectsOfFunction, READ_FUNCTIONS, VOLATILE_READS } from '../../src/gateways/postgres/sql/functions.ts'
import { chosenBinaries } from '../postgres/binaries.ts'
import { READ_FILES, statementsOf } from './corpus.ts'
import { SHOP } from './shop.ts'

/** R81: parsers of others refuse ordinary analytics. What people and tools really send passes under `can: read`, and gives what it gives without a gateway. */
let rig: Rig
let binaries: string | undefined
before(async () => {
  binaries = await chosenBinaries()
  rig = await startRig({ roles: [READER], ...(binaries === undefined ? {} : { binaries }) })
  // 13 and 14 have no such views.
  const { rows } = await rig.admin.query("select current_setting('server_version_num')::int < 150000 as old")
  await rig.admin.query(rows[0].old ? SHOP.replaceAll(/with \(security_invoker[^)]*\)/g, '') : SHOP)
  await rig.admin.query('alter role reader set search_path = public, sales')
})
after(() => rig.stop())

/** What is another thing each time it is asked, or in each session. */
const DIFFERS =
  /\bnow\(|random|pg_backend_pid|backend_pid|current_pid|inet_|explain \(analyze|explain analyze|pg_stat|pg_statio|pg_locks|pg_relation_size|pg_total|pg_table_size|pg_database_size|pg_settings|pg_show_all_settings|pg_config|show all|clock_timestamp|statement_timestamp|transaction_timestamp|current_timestamp|localtime|application_name|txid|snapshot|_size\(|uuid|postmaster|age\(|xact|tablesample system|timeofday|pg_size_pretty/i

interface Said {
  readonly refusal?: string
  readonly rows?: unknown
}

async function ask(client: pg.Client, text: string): Promise<Said> {
  // Values of parameters are not part of the corpus: NULL goes for all of them.
  const values = /^prepare|generic_plan/i.test(text)
    ? []
    : Array.from({ length: Math.max(0, ...[...text.matchAll(/\$(\d+)/g)].map(([, number]) => Number(number))) }, () => null)
  try {
    const result: unknown = await client.query(values.length > 0 ? { text, values, rowMode: 'array' } : ({ text, rowMode: 'array' } as never))
    return {
      rows: (Array.isArray(result) ? result : [result]).map((each) => [
        each.command,
        each.rows,
        each.fields.map((field: pg.FieldDef) => [field.name, field.dataTypeID]),
      ]),
    }
  } catch (error) {
    const { message, code, detail } = error as { message: string; code: string; detail?: string }
    return message.startsWith('Chaperone') ? { refusal: `${message} ${detail}` } : { rows: [code, message] }
  }
}

for (const file of READ_FILES) {
  const statements = statementsOf(file)
  test(`reads/${file}: ${statements.length} statements pass, and give what the database gives`, async () => {
    rig.records.length = 0
    const [client, direct] = [await rig.connect('reader'), await rig.direct('reader')]
    const [refused, other]: [string[], string[]] = [[], []]
    for (const sql of statements) {
      const [through, without] = [await ask(client, sql), await ask(direct, sql)]
      if (through.refusal) {
        // What an older server cannot even read need not pass.
        if (!binaries || Array.isArray((without.rows as unknown[])[0])) refused.push(`${through.refusal}\n${sql}`)
        // A refusal ends an open transaction, and only on one of the two sides.
        for (const side of [client, direct]) await side.query('rollback')
      }
      if (!through.refusal && !DIFFERS.test(sql) && !isDeepStrictEqual(through.rows, without.rows)) other.push(sql)
    }
    await client.end()
    await direct.end()
    assert.deepEqual(refused, [])
    assert.deepEqual(other, [], 'another answer than without Chaperone')
    assert.ok(rig.records.every((record) => record.kind === 'refused' || record.action.effects.every((effect) => effect === 'read')))
  })
}

/** psql, pgAdmin and asyncpg ask these too. They show other people, passwords, or lift what the session is held to. */
const NOT_ORDINARY = [
  'SELECT pid, usename, query FROM pg_catalog.pg_stat_activity',
  'SELECT um.srvname, um.umoptions FROM pg_catalog.pg_user_mappings um',
  'SELECT subname, subconninfo FROM pg_catalog.pg_subscription',
  'SELECT pg_advisory_lock(1)',
  'LOCK TABLE public.customers IN ACCESS SHARE MODE', // pg_dump begins with it
  'SET row_security = off', // and this
]

test('what tools ask that is no read stays refused', async () => {
  const client = await rig.connect('reader')
  for (const sql of NOT_ORDINARY) assert.notEqual((await ask(client, sql)).refusal, undefined, sql)
  await client.end()
})

test('the corpus is of a size that means something', () => {
  assert.ok(READ_FILES.flatMap(statementsOf).length >= 500)
})

const META =
  `\\d|\\d+ customers|\\d+ busy|\\d orders_id_seq|\\dt+|\\di+|\\dv+|\\dm|\\ds+|\\df+|\\dfa|\\dn+|\\du+|\\l+|\\dp|\\z|\\dT+|\\dx|\\dx+ plpgsql|\\dD|\\dC|\\da|\\db+|\\dc|\\dd|\\ddp|\\dE|\\des|\\det|\\dew
  |\\dF|\\dF+|\\dFd|\\dFp|\\dFt|\\dL|\\do|\\dO|\\dP|\\drds|\\dRp|\\dy|\\dA|\\dAc|\\dAf|\\dAo|\\dAp|\\dX|\\conninfo|\\dconfig|\\dconfig work_mem|\\sf touch|\\sv busy|\\encoding|\\dt public.*|\\d customers_pkey|\\dS pg_class`
    .split('|')
    .map((command) => command.trim())

test('every \\d of psql passes', async () => {
  rig.records.length = 0
  // An older psql asks a newer server for columns that are gone: those errors are the server's, and no refusals.
  const { out } = await rig.psql('reader', META)
  assert.match(out, /customers_pkey/)
  assert.ok(rig.records.length > META.length)
  assert.deepEqual(
    rig.records.filter((record) => record.kind === 'refused').map((record) => record.bodies.statement),
    [],
  )
})

test('every function of the list is a builtin that only reads, says a real server', async () => {
  const { rows } = await rig.admin.query(
    "select proname as name, bool_or(provolatile = 'v') as volatile from pg_proc where pronamespace = 'pg_catalog'::regnamespace group by 1",
  )
  const known = new Map(rows.map((row: { name: string; volatile: boolean }) => [row.name, row.volatile]))
  assert.deepEqual(
    // Older servers lack some.
    binaries ? [] : [...READ_FUNCTIONS].filter((name) => !known.has(name)),
    [],
  )
  const excused = new Set(VOLATILE_READS)
  // TABLESAMPLE methods are listed as volatile functions of their own.
  assert.deepEqual(
    [...READ_FUNCTIONS].filter((name) => known.get(name) && !excused.has(name)),
    ['bernoulli', 'system'],
  )
})

test('what runs SQL from a text, touches files or other sessions is on no list of reads', () => {
  for (const name of 'query_to_xml cursor_to_xml table_to_xml schema_to_xml database_to_xml ts_stat ts_rewrite dblink pg_read_file lo_get lo_export pg_sleep nextval setval set_config pg_notify pg_terminate_backend pg_mcv_list_items pg_stat_get_activity'.split(
    ' ',
  )) {
    assert.ok(!READ_FUNCTIONS.has(name), name)
    assert.ok(
      effectsOfFunction(name, true).effects.some((effect) => effect !== 'read'),
      name,
    )
  }
})
