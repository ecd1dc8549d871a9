import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, readdirSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { before, test } from 'node:test'
import { promisify } from 'node:util'
import pg from 'pg'
import { describeSql } from '../describe.ts'
import { READ_FUNCTIONS, VOLATILE_READS } from '../sql/functions.ts'
import { loadParser } from '../sql/parse.ts'
import { type Ask, look } from './look.ts'

/**
 * Other versions of PostgreSQL than the one that the other tests use: those that Debian has put on this machine, and the `bin`
 * directories in CHAPERONE_TEST_POSTGRES (as PATH is written). Skipped, with a line, where there are none.
 */
const run = promisify(execFile)

const DEBIAN = '/usr/lib/postgresql'
const directories = [
  ...(process.env.CHAPERONE_TEST_POSTGRES?.split(delimiter) ?? []),
  ...(existsSync(DEBIAN) ? readdirSync(DEBIAN).map((version) => join(DEBIAN, version, 'bin')) : []),
].filter((bin) => existsSync(join(bin, 'initdb')))

/** PostgreSQL does not run as root. */
async function otherUser(): Promise<{ uid: number; gid: number } | undefined> {
  if (userInfo().uid !== 0) return undefined
  const [, uid, gid] = /^postgres:[^:]*:(\d+):(\d+):/m.exec(await readFile('/etc/passwd', 'utf8')) ?? []
  return { uid: Number(uid ?? 65534), gid: Number(gid ?? 65534) }
}

async function startServer(bin: string) {
  const user = await otherUser()
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-version-'))
  if (user) chownSync(dir, user.uid, user.gid)
  const data = join(dir, 'data')
  const env = { ...process.env, LD_LIBRARY_PATH: join(dirname(bin), 'lib'), LC_ALL: 'C' }
  await run(join(bin, 'initdb'), ['-D', data, '-A', 'trust', '-U', 'postgres', '-E', 'UTF8'], { ...user, env, cwd: dir })
  // A socket in a folder of its own: no port that another process could take.
  const settings = ['-c', 'listen_addresses=', '-c', 'fsync=off', '-k', dir]
  const server = spawn(join(bin, 'postgres'), ['-D', data, ...settings], { ...user, env, cwd: dir, stdio: 'ignore' })
  const connect = async (as: string, options?: string) => {
    for (let i = 0; ; i++) {
      const client = new pg.Client({ host: dir, port: 5432, user: as, database: 'postgres', ...(options ? { options } : {}) })
      try {
        await client.connect()
        return client
      } catch (error) {
        if (i > 600) throw error
        await new Promise((done) => setTimeout(done, 50))
      }
    }
  }
  return {
    connect,
    async stop() {
      server.kill('SIGINT')
      await once(server, 'exit')
      await rm(dir, { recursive: true, force: true })
    },
  }
}

const FIXTURE = `
  create role plain login;
  create schema app; create table app.log (what text); create sequence app.counter;
  create function app.boom() returns int language sql as $$ insert into app.log values ('x'); select 1 $$;
  create function app.test(int) returns bool language sql as $$ insert into app.log values ('x'); select true $$;
  create function app.json_value(int) returns int language sql as $$ select app.boom() $$;
  create table items (id int primary key, name text, big text generated always as (upper(name)) stored);
  create view v_boom as select app.boom() as n; create view v_deep as select * from v_boom;
  create view v_fine as select id, upper(name) as name from items;
  create domain app.checked as int check (app.test(value)); create type app.span as range (subtype = int4);
  create type app.color as enum ('red'); create function app.text_of(app.color) returns text language sql as $$ select 'x' from app.log $$;
  create cast (app.color as text) with function app.text_of(app.color) as implicit; create table colored (color app.color);
  create operator app.~~~ (rightarg = int, function = app.test);
  create operator app.!!! (rightarg = regclass, function = pg_catalog.nextval);
  create table guarded (id int); alter table guarded enable row level security; create policy guard on guarded using (app.test(id));
  create table parted (id int) partition by list (id); create table parted_1 partition of parted for values in (1);
`
const WRITES = [
  'select * from v_deep',
  'select 1::app.checked',
  'select color::text from colored',
  'select operator(app.~~~) 1',
  "select operator(app.!!!) 'app.counter'::regclass",
  'select * from guarded',
  "select s.nextval from to_regclass('app.counter') s",
]
const READS = [
  'select * from v_fine',
  'select id, big from items where id = 1',
  'select * from parted',
  'select relname from pg_class',
  "select '[1,2]'::app.span",
]

before(() => loadParser())

if (directories.length === 0) test('other versions of PostgreSQL', { skip: 'there is none on this machine' }, () => {})

for (const bin of directories) {
  test(`what is known of PostgreSQL holds for ${bin}`, async () => {
    const server = await startServer(bin)
    try {
      const root = await server.connect('postgres')
      await root.query(FIXTURE)
      const { rows } = await root.query(
        "select proname as name, bool_or(provolatile = 'v') as volatile from pg_proc where pronamespace = 'pg_catalog'::regnamespace group by 1",
      )
      const volatile = new Set(rows.filter((row) => row.volatile).map((row) => row.name as string))
      // Some versions call `timezone` volatile by mistake: it is what AT TIME ZONE means.
      const excused = new Set([...VOLATILE_READS, 'bernoulli', 'system', 'timezone'])
      assert.deepEqual(
        [...READ_FUNCTIONS].filter((name) => volatile.has(name) && !excused.has(name)),
        [],
      )
      const plain = await server.connect('plain', '-c search_path=')
      const ask: Ask = async (sql) =>
        (await plain.query({ text: sql, rowMode: 'array' })).rows.map((row: unknown[]) => row.map((value) => (value === null ? null : String(value))))
      const { mirror } = await look(ask, () => 1)
      const context = { path: ['pg_catalog', 'public'], ceilings: {}, mirror, pinnedReadOnly: true }
      for (const sql of WRITES) assert.ok(describeSql(sql, context)[0]!.effects.includes('write'), sql)
      for (const sql of READS) assert.deepEqual([sql, describeSql(sql, context)[0]!.effects], [sql, ['read']])
      // Before 17 this is a call of whatever function has the name.
      const json = describeSql("select json_value('1', '$')", { ...context, path: ['pg_catalog', 'app'] })[0]!
      assert.equal(json.effects.includes('write'), mirror.serverVersion < 170000)
      assert.equal(mirror.relation('public', 'items')!.columns[2]!.generated, 'upper(name)')
      await root.end()
      await plain.end()
    } finally {
      await server.stop()
    }
  })
}
