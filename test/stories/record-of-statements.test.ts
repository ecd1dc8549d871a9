import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join as path } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import pg from 'pg'
import type { AuditDetail, AuditPage, AuditRow, AuditRule } from '../../src/api/audit-contract.ts'
import type { Invitation } from '../../src/api/contract.ts'
import type { Envelope } from '../../src/audit/record.ts'
import { issuerOf, keepCredential } from '../../src/client/credential.ts'
import { join } from '../../src/client/sign-in.ts'
import { freePort } from '../../src/demo/free-port.ts'
import { apply, connect, door, governed, governedDatabase } from '../parts/governed.ts'

const documents = (port: number, record: string) => `
kind: postgres
name: things
spec: { address: "localhost:${port}", databases: [postgres], record: { parameters: ${record} } }
---
kind: user
name: boris
spec: {}
---
kind: agent
name: boris-ai
spec: { owner: boris, roles: [writer] }
---
kind: role
name: writer
spec:
  allow:
    - { postgres: things, databases: [postgres], as: writer, can: [read, write], max_rows: 5 }
`

/** A whole Chaperone, a whole PostgreSQL, and an agent in between. */
async function shop(t: TestContext, record: 'full' | 'none') {
  const { dir, server, dana } = await governed(t)
  const port = await freePort()
  await apply(dana, documents(port, record))
  const postgres = await governedDatabase(t, server, 'things', { port, dir, user: 'writer' })
  const admin = new pg.Client({ connectionString: postgres.superuserUrl })
  await admin.connect()
  await admin.query(
    'GRANT ALL ON things TO writer; INSERT INTO things SELECT i, $$row $$ || i FROM generate_series(10, 19) i; CREATE VIEW named AS SELECT id, name FROM things; GRANT SELECT ON named TO writer',
  )
  await admin.end()
  const { invitation } = await dana.api.call<Invitation>('POST', '/v1/invitations', { name: 'boris-ai' })
  const issuer = issuerOf(await join(invitation, { ttl: '3m' }), { client: 'test' })
  const keeper = await keepCredential(issuer, { skewMs: issuer.skewMs })
  t.after(() => keeper.close())
  const opened = await door(t, keeper, 'things', 'postgres')
  const client = () => connect(t, opened, 'writer', 'postgres')
  const search = async (query: string) => {
    // Outcomes are written a little later than intents; a checkpoint waits for all.
    await dana.api.call('POST', '/v1/audit/checkpoint', {})
    return (await dana.api.call<AuditPage>('GET', `/v1/audit?${query}`)).records
  }
  const show = (id: string) => dana.api.call<AuditDetail>('GET', `/v1/audit/records/${id}`)
  return { dir, server, dana, client, search, show }
}

const bin = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))

/** What the command says; it may say by its exit code that an action would be refused. */
const cli = (home: string, ...args: readonly string[]) =>
  new Promise<string>((done, failed) => {
    execFile(process.execPath, [bin, ...args], { env: { ...process.env, CHAPERONE_HOME: home, NO_COLOR: '1' } }, (error, stdout, stderr) =>
      error && error.code !== 3 ? failed(new Error(stderr)) : done(stdout.trimEnd()),
    )
  })

const caught = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: pg.DatabaseError) => error,
  )

/** What the record says of generated statements is what the server said. */
async function generated({ server, client, search }: Awaited<ReturnType<typeof shop>>): Promise<void> {
  const db = await client()
  const id = fc.integer({ min: 0, max: 25 })
  const statement = fc.oneof(
    id.map((n) => `SELECT id FROM things WHERE id = ${n}`),
    id.map((n) => `UPDATE things SET name = name || '.' WHERE id = ${n}`),
    id.map((n) => `INSERT INTO things VALUES (${n}, 'new') ON CONFLICT DO NOTHING`),
    id.map((n) => `INSERT INTO things VALUES (${n}, 'new')`),
    id.map((n) => `SELECT 1 / (id - ${n}) FROM things WHERE id = ${n}`),
    id.map((n) => `SELECT id FROM things WHERE id < ${n} ORDER BY id LIMIT 4`),
    fc.constantFrom('BEGIN', 'COMMIT', 'ROLLBACK'),
  )
  const said: string[] = []
  let number = 0
  const [texts] = fc.sample(fc.array(statement, { minLength: 60, maxLength: 60 }), { numRuns: 1, seed: 4 }) as [string[]]
  for (const text of texts) {
    const marked = `${text} -- n${++number}.`
    const result = await db.query(marked).catch((error: pg.DatabaseError) => error)
    said.push(result instanceof Error ? `failed ${result.code}` : `ok ${result.rowCount ?? 0}`)
  }
  // An outcome is not waited for by its statement: what the last one came to stands there when its connection has ended.
  const closed = new Promise<void>((done) => {
    const unwatch = server.parts.audit.watch(({ type }) => {
      if (type !== 'connection.closed') return
      unwatch()
      done()
    })
  })
  await db.end()
  await closed
  const rows = await search('resource=things&type=action.intent&limit=500')
  const recorded = said.map((_, i) => {
    const row = rows.find(({ statement }) => statement?.endsWith(` -- n${i + 1}.`))
    return row?.outcome === 'failed' ? `failed ${row.result?.sqlstate}` : `${row?.outcome} ${row?.result?.rows}`
  })
  assert.deepEqual(recorded, said)
  assert.ok(said.some((one) => one === 'failed 25P02') && said.some((one) => one === 'failed 22012'), 'the seed gives both kinds')
}

test('the record of a statement says what it was, what it touched, what came of it, in which transaction; and a rule comes from it', {
  timeout: 120_000,
}, async (t) => {
  const whole = await shop(t, 'full')
  const { dana, client, search, show } = whole
  const db = await client()
  await db.query('SELECT name FROM public.things WHERE id = $1', [1])
  await db.query('SELECT * FROM things')
  await db.query('SELECT id FROM named')
  await db.query('BEGIN')
  await db.query("UPDATE things SET name = 'two!' WHERE id = 2")
  await db.query('ROLLBACK')
  const duplicate = await caught(db.query('INSERT INTO things (id, name) VALUES ($1, $2)', [1, 'again']))
  assert.equal(duplicate?.code, '23505')
  const refused = await caught(db.query('DROP TABLE things'))
  assert.ok(refused)
  await db.query('BEGIN')
  await db.query('DELETE FROM things WHERE id = 19').catch(() => {})
  await db.end()

  const of = async (query: string): Promise<AuditRow> => {
    const [row, ...more] = await search(`resource=things&${query}`)
    assert.ok(row && more.length === 0, `${query}: ${JSON.stringify([row, ...more], null, 1)}`)
    return row
  }
  const one = await of('operation=select&text=where+id')
  assert.deepEqual(one.result?.rows, 1)
  assert.ok((one.result?.bytes as number) > 0 && typeof one.result?.ms === 'number', JSON.stringify(one.result))
  assert.deepEqual([one.facts?.database, one.facts?.user, one.effects], ['postgres', 'writer', ['read']])
  assert.deepEqual(one.facts?.tables, { read: ['public.things'] })
  assert.match(String(one.facts?.fingerprint), /^[0-9a-f]{16}$/)
  const detail = await show(one.id)
  assert.deepEqual(
    detail.bodies.map(({ name, text }) => [name, text]),
    [
      ['parameters', '["1"]'],
      ['statement', 'SELECT name FROM public.things WHERE id = $1'],
    ],
  )
  const capped = await of('operation=select&table=things&text=%2A')
  assert.deepEqual([capped.result?.rows, capped.result?.capped], [5, true])

  const viewed = await of('operation=select&table=named')
  assert.deepEqual([viewed.facts?.tables, viewed.facts?.behind], [{ read: ['public.named'] }, ['public.things']])
  assert.equal((await search('resource=things&operation=select&table=public.things')).length, 3)
  assert.equal((await search('resource=things&operation=select&column=things.id')).length, 2)
  assert.equal((await search('resource=things&operation=select&column=id')).length, 3)

  const update = await of('operation=update')
  assert.deepEqual([update.outcome, update.result?.rows], ['ok', 1])
  assert.match(JSON.stringify(update.facts?.tables), /"written":\["(public\.)?things"\]/)
  const { transaction } = await show(update.id)
  assert.equal(transaction?.ended, 'rolled back')
  assert.deepEqual(
    transaction?.statements.map(({ action, outcome }) => `${action}: ${outcome}`),
    ['TRANSACTION: ok', `${update.action}: ok`, 'TRANSACTION: ok'],
  )
  assert.equal((await search(`transaction=${transaction?.id}`)).length, 3)

  const insert = await of('sqlstate=23505')
  assert.deepEqual([insert.outcome, insert.statement], ['failed', 'INSERT INTO things (id, name) VALUES ($1, $2)'])
  assert.deepEqual((await show(insert.id)).transaction?.ended, undefined)

  const drop = await of('verdict=deny&operation=drop')
  assert.deepEqual([drop.type, drop.reason, drop.statement], ['action.refused', 'no_rule', 'DROP TABLE things'])
  const rule = await dana.api.call<AuditRule>('GET', `/v1/audit/records/${drop.id}/rule`)
  assert.deepEqual([rule.want, rule.withDraft?.verdict, rule.draft?.document], ['allow', 'allow', 'writer'], rule.message)
  const against = await dana.api.call<AuditRule>('GET', `/v1/audit/records/${update.id}/rule`)
  assert.deepEqual([against.want, against.withDraft?.reason], ['deny', 'denied_by_rule'], against.message)

  const shown = await cli(dana.home, 'audit', 'show', update.id)
  assert.match(shown, /^what +UPDATE (public\.)?things$/m)
  assert.match(shown, /^outcome +ok, 1 row, [\d.]+ ms$/m)
  assert.match(shown, /^transaction +con_\w+\.\d+, rolled back$/m)
  assert.match(shown, /UPDATE things SET name = 'two!' WHERE id = 2$/)
  assert.match(await cli(dana.home, 'audit', 'rule', update.id), /^spec:\n {2}deny:\n {4}- postgres: things\n/m)
  assert.match(await cli(dana.home, 'audit', 'search', '--sqlstate', '23505'), /INSERT INTO things/)
  const asked = [
    'explain',
    '--as',
    'boris-ai',
    'postgres',
    'things',
    '--database',
    'postgres',
    '--user',
    'writer',
    'select name, f(1) from public.things',
  ]
  assert.match(await cli(dana.home, ...asked), /^reads +public\.things$[\s\S]*^functions +f$/m)

  const [closed] = await search('type=connection.closed')
  const { envelope } = await show(closed!.id)
  assert.equal(typeof (envelope as Envelope).data?.rolledBack, 'number')
  await generated(whole)
})

test(`rule 5: with \`parameters: none\` no value of a statement is in the store, whatever becomes of the statement`, {
  timeout: 120_000,
}, async (t) => {
  const { dir, server, client, search } = await shop(t, 'none')
  const db = await client()
  let n = 0
  const secret = () => `hunter${++n}xyzzy`
  const texts = [
    () => [`SELECT name FROM things WHERE name = '${secret()}'`],
    () => [`SELECT /* ${secret()} */ 1 -- ${secret()}`],
    () => ['SELECT name FROM things WHERE name = $1', [secret()]],
    () => [`UPDATE things SET name = E'${secret()}' WHERE id = 1`],
    () => [`DROP TABLE things; SELECT $$${secret()}$$`],
    () => [`ALTER ROLE writer PASSWORD '${secret()}'`],
    () => [`selekt '${secret()}'`],
    () => [`SELECT ${secret()} '`],
    () => [`SET chaperone.secret TO '${secret()}'`],
    () => [`SELECT set_config('${secret()}', 'x', false)`],
    () => [`SELECT '${secret()}'::regclass`],
    () => [`SELECT nextval('${secret()}'), pg_get_viewdef('${secret()}'), query_to_xml('select ${secret()} from ${secret()}', true, true, '')`],
    () => [`SELECT * FROM json_to_record('{"a": "${secret()}"}') AS x (a text)`],
    () => [`DECLARE c CURSOR FOR SELECT '${secret()}'`],
    () => [`SET search_path TO '${secret()}'`],
    () => [`SET TIME ZONE '${secret()}'`],
    () => [`CREATE TABLE t (a text DEFAULT '${secret()}')`],
    () => [`EXPLAIN SELECT '${secret()}'`],
    () => [`COPY things FROM PROGRAM '${secret()}' WITH (DELIMITER '${secret()}')`],
    () => [`NOTIFY things, '${secret()}'`],
    () => [`DO $$ begin perform '${secret()}'; end $$`],
    () => [`PREPARE p (text) AS SELECT name FROM things WHERE name = '${secret()}' AND name <> $1`],
    () => [`EXECUTE p ('${secret()}')`],
    () => [`INSERT INTO things VALUES (1, '${secret()}')`],
    () => [`SELECT '${secret()}'::int`],
    () => [`SELECT 1 AS a, '${secret()}'; SELECT '${secret()}'`],
  ] as const
  for (const text of texts) {
    const [sql, values] = text() as [string, string[] | undefined]
    await db.query(sql, values as string[]).catch(() => {})
  }
  await db.end()
  const rows = (await search('resource=things&limit=500')).filter(({ facts, statement }) => facts !== undefined && statement !== undefined)
  assert.ok(rows.length >= texts.length, `${rows.length} records`)
  assert.ok(rows.some(({ statement }) => statement === 'SELECT name FROM things WHERE name = ?'))
  const otherwise = rows.filter(({ facts }) => facts?.parameters !== 'none')
  assert.deepEqual(otherwise, [])
  await server.stop()
  const found: string[] = []
  for (const name of await readdir(path(dir, 'data'), { recursive: true })) {
    const bytes = await readFile(path(dir, 'data', name)).catch(() => Buffer.alloc(0))
    for (let i = 1; i <= n; i++) if (bytes.includes(`hunter${i}xyzzy`)) found.push(`hunter${i} in ${name}`)
  }
  assert.deepEqual(found, [])
})
