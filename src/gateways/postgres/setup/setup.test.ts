import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import pg from 'pg'
import type { Permit } from '../../../access/types.ts'
import { type PostgresDatabaseSpec, postgresDatabaseSpec } from '../../../catalog/postgres-database.ts'
import { systemClock } from '../../../clock.ts'
import { type Postgres, startPostgres } from '../../../demo/postgres.ts'
import { makeAuthority } from '../authority.fixture.ts'
import { run } from '../rig.fixture.ts'
import { identifier } from './names.ts'
import { databaseSetup, type Part } from './setup.ts'
import { type SetupPlan, setupSteps } from './steps.ts'
import type { DatabaseUser } from './users.ts'

const authority = makeAuthority('database')
const listener = authority.pair({ use: 'server', names: ['localhost', '127.0.0.1'] }, Date.now() + 60 * 86_400_000)
const ca = {
  issueDatabase: async ({ spki, user, notAfter }: { spki: Uint8Array; user: string; notAfter: number }) => ({
    certificate: authority.sign(spki, { use: 'database', user }, notAfter),
    serial: '1',
    notBefore: 0,
    notAfter,
  }),
  bundle: async () => authority.cert,
}
const setup = databaseSetup({ ca, clock: systemClock, connectMs: 5_000 })
const permit = { signal: new AbortController().signal } as unknown as Permit
const resource = { kind: 'postgres', id: 'res_test', name: 'orders', labels: {} }
/** Names that must come out as names, wherever they stand. */
const users: readonly DatabaseUser[] = [
  { name: 'analyst_ro', reads: true },
  { name: 'Order "App"', reads: false },
]
const ODD = 'Shop & "Co"'

let postgres: Postgres
let dir: string
let shop: pg.Client
let spec: PostgresDatabaseSpec
let plan: SetupPlan
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'chaperone-setup-test-'))
  postgres = await startPostgres({ dir: join(dir, 'cluster'), tls: { ...listener, clientCa: authority.cert }, settings: { fsync: 'off' } })
  const admin = new pg.Client({ connectionString: postgres.superuserUrl })
  await admin.connect()
  await admin.query(`create role shop_owner login`)
  await admin.query(`create database ${identifier(ODD)} owner shop_owner`)
  await admin.end()
  shop = new pg.Client({ host: '127.0.0.1', port: postgres.port, user: 'postgres', password: postgres.superuserPassword, database: ODD })
  await shop.connect()
  await shop.query(
    'set role shop_owner; create table orders (id serial primary key, total numeric); create table customers (id int primary key); reset role',
  )
  spec = postgresDatabaseSpec.parse({ address: `localhost:${postgres.port}`, databases: [ODD] })
  plan = { name: 'orders', spec, users, schemas: ['public'], owner: 'shop_owner', from: '127.0.0.1/32' }
})
after(async () => {
  await shop.end()
  await postgres.stop()
  await rm(dir, { recursive: true, force: true })
})

const check = async (who = users) => await setup.check({ permit, resource, spec, users: who })
const lacking = (parts: readonly Part[]) => parts.flatMap(({ findings }) => findings.filter(({ level }) => level === 'missing'))
const ADMIN_HBA = 'host all postgres 127.0.0.1/32 scram-sha-256\n'

/** What psql and pg_hba.conf are given, exactly as it is printed. */
async function follow(): Promise<void> {
  const steps = setupSteps(plan)
  const sql = steps
    .filter(({ where, lines }) => where === 'psql' && !lines.some((line) => line.startsWith('ALTER SYSTEM')))
    .flatMap(({ lines }) => lines)
  await writeFile(join(dir, 'steps.sql'), `${sql.join('\n')}\n`)
  const { code, err } = await run('psql', [postgres.superuserUrl, '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', join(dir, 'steps.sql')])
  assert.deepEqual([code, err], [0, ''])
  const hba = steps.find(({ title }) => title.includes('pg_hba.conf'))!.lines
  await postgres.configure({ hba: `${hba.join('\n')}\n${ADMIN_HBA}host all all all trust\n` })
}

test('before anything is done, the check says that nobody is let in, and what to write', async () => {
  await postgres.configure({ hba: ADMIN_HBA })
  const parts = await check()
  assert.deepEqual(
    parts.map(({ user }) => user),
    [undefined, 'analyst_ro', 'Order "App"'],
  )
  assert.deepEqual(
    lacking(parts).map(({ fix }) => fix),
    users.map(({ name }) => `hostssl "Shop & ""Co""" ${name === 'analyst_ro' ? name : '"Order ""App"""'} 127.0.0.1/32 cert     (in pg_hba.conf)`),
  )
})

test('what is printed, done word by word, is what the check wants', async () => {
  await follow()
  const parts = await check()
  assert.deepEqual(lacking(parts), [])
  assert.deepEqual(
    parts.flatMap(({ findings }) => findings.filter(({ level }) => level === 'advice')),
    [],
  )
  // What the owner makes later can be read as well.
  await shop.query('set role shop_owner; create table if not exists later (id int); reset role')
  assert.ok((await check())[1]!.findings.some(({ said }) => said === 'it can read 3 of 3 tables'))
})

const holes: readonly (readonly [about: string, sql: string, said: RegExp])[] = [
  ['a superuser', 'alter role analyst_ro superuser', /more than a plain user: SUPERUSER/],
  ['attributes', 'alter role analyst_ro bypassrls createrole createdb replication', /BYPASSRLS, CREATEROLE, CREATEDB, REPLICATION/],
  ['memberships', 'grant shop_owner to analyst_ro', /become another role \(SET ROLE\): shop_owner/],
  ['temporary tables for all', 'grant temporary on database "Shop & ""Co""" to public', /temporary tables/],
  ['temporary tables for one', 'grant temporary on database "Shop & ""Co""" to analyst_ro', /temporary tables/],
  ['schemas', 'grant create on database "Shop & ""Co""" to analyst_ro', /may make schemas/],
  ['the schema public for all', 'grant create on schema public to public', /tables and functions in the schema public/],
  ['tables', 'grant update, truncate on orders to analyst_ro', /UPDATE on 1 tables, TRUNCATE on 1 tables/],
  ['tables for all', 'grant insert on customers to public', /INSERT on 1 tables/],
  [
    'functions',
    "create function raise() returns int language sql security definer as 'select 1'",
    /public\.raise\(\), which runs with the rights of its owner/,
  ],
  ['files', 'grant pg_read_server_files to analyst_ro; grant execute on function pg_read_file(text) to analyst_ro', /may read or write files/],
  ['another user at once', 'grant shop_owner to analyst_ro; alter role analyst_ro set role = shop_owner', /becomes another user/],
]
for (const [about, sql, said] of holes) {
  test(`a user with more than it needs is found, and the line that is printed takes it away: ${about}`, async () => {
    await shop.query(sql)
    const found = lacking(await check(users.slice(0, 1)))
    assert.ok(
      found.some((one) => said.test(one.said)),
      JSON.stringify(found),
    )
    for (let rounds = 0; rounds < 3; rounds++) {
      const now = lacking(await check(users.slice(0, 1)))
      if (now.length === 0) return
      for (const { fix } of now) {
        assert.ok(fix)
        await shop.query(fix)
      }
    }
    assert.fail('the lines did not take it away')
  })
}

test('from PostgreSQL 16 on a read-only transaction stops large objects, so nothing is said of them', async () => {
  await shop.query('begin read only')
  await assert.rejects(shop.query('select lo_create(0)'), /read-only transaction/)
  await shop.query('rollback')
})

test('an owner of tables is found', async () => {
  await shop.query('alter table customers owner to "Order ""App"""')
  const found = lacking(await check(users.slice(1)))
  assert.match(found.map(({ said }) => said).join(), /it owns customers in public/)
  await shop.query('alter table customers owner to shop_owner')
})

test('rule 5: another door beside the one of Chaperone is found: a password, or nothing at all', async () => {
  const mine = 'hostssl all analyst_ro 127.0.0.1/32 cert\n'
  await postgres.configure({ hba: `hostnossl all analyst_ro all scram-sha-256\n${mine}${ADMIN_HBA}` })
  assert.match(lacking(await check(users.slice(0, 1)))[0]?.said ?? '', /asks this user for a SCRAM password without TLS/)
  await postgres.configure({ hba: `hostnossl all analyst_ro all trust\n${mine}${ADMIN_HBA}` })
  assert.match(lacking(await check(users.slice(0, 1)))[0]?.said ?? '', /anybody is let in as this user without TLS/)
  await postgres.configure({ hba: `hostssl all analyst_ro all trust\n${ADMIN_HBA}` })
  assert.match(lacking(await check(users.slice(0, 1)))[0]?.said ?? '', /anybody is let in as this user with TLS but without a certificate/)
})

test('a server that is not the right one, or speaks no TLS, is said before anybody tries to come in', async () => {
  const other = await setup.check({ permit, resource, users, spec: { ...spec, tls: { name: 'db.example.com' } } })
  assert.equal(other.length, 1)
  assert.match(lacking(other)[0]?.said ?? '', /not trusted: it does not name db\.example\.com/)
  const stranger = await setup.check({ permit, resource, users, spec: { ...spec, tls: { ca: makeAuthority('other').cert } } })
  assert.match(lacking(stranger)[0]?.said ?? '', /not trusted/)
  const nobody = await setup.check({ permit, resource, users, spec: { ...spec, address: 'localhost:1' } })
  assert.match(lacking(nobody)[0]?.said ?? '', /cannot be reached/)
  const plain = createServer((socket) => socket.on('error', () => {}).once('data', () => socket.end('N'))).listen(0, '127.0.0.1')
  await once(plain, 'listening')
  const { port } = plain.address() as AddressInfo
  const bare = await setup.check({ permit, resource, users, spec: { ...spec, address: `127.0.0.1:${port}` } })
  plain.close()
  assert.equal(bare.length, 1)
  assert.match(lacking(bare)[0]?.said ?? '', /does not speak TLS/)
})

test('to look at a server that is not applied makes no authority, and trusts nobody', async () => {
  const seen = await databaseSetup({ ca: { ...ca, bundle: () => assert.fail('asked for an authority') }, clock: systemClock, connectMs: 5_000 }).look(
    {
      permit,
      resource,
      spec,
      applied: false,
    },
  )
  assert.deepEqual(
    seen.findings.map(({ level }) => level),
    ['ok', 'advice'],
  )
  assert.match(seen.from, /127\.0\.0\.1|::1/)
})

test('bare words are quoted wherever the server would read them as something else', async () => {
  const { rows } = await shop.query<{ word: string; catcode: string }>("select word, catcode from pg_get_keywords() where catcode in ('R', 'T')")
  for (const { word } of rows) assert.equal(identifier(word), `"${word}"`, word)
  assert.equal(identifier('analyst_ro'), 'analyst_ro')
  assert.equal(identifier('Analyst'), '"Analyst"')
  assert.equal(identifier('a"; drop table t; --'), '"a""; drop table t; --"')
})

test('each way to log in has its own steps', () => {
  const iam = setupSteps({ ...plan, spec: postgresDatabaseSpec.parse({ ...spec, auth: { aws_iam: { region: 'eu-central-1' } } }) })
  assert.ok(iam.some(({ lines }) => lines.includes('GRANT rds_iam TO analyst_ro;')))
  assert.ok(!iam.some(({ lines }) => lines.some((line) => /ssl_ca_file|hostssl/.test(line))))
  const sealed = setupSteps({ ...plan, spec: postgresDatabaseSpec.parse({ ...spec, auth: { password: { analyst_ro: { secret: 'orders/ro' } } } }) })
  assert.ok(sealed.some(({ lines }) => lines.includes('chaperone secret set orders/ro')))
  assert.ok(sealed.some(({ lines }) => lines.some((line) => /^hostssl .* scram-sha-256$/.test(line))))
})
