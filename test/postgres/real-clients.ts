/**
 * npm run test:db-clients: the drivers and tools that people use with PostgreSQL, as they are published, through Chaperone.
 * Each connects through `db proxy` (socket and port) and straight to the gateway with a client certificate, and runs its own
 * start-up, a read, a refused statement, a prepared one and a transaction. What cannot be installed here is skipped and says so.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createPrivateKey } from 'node:crypto'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { openDatabaseDoor, socketIn } from '../../src/client/database.ts'
import { freePort } from '../../src/demo/free-port.ts'
import { NotInstalled, onDemand } from '../mcp/on-demand.ts'
import { apply, governed, governedDatabase, issued, renewed } from '../parts/governed.ts'

const scripts = fileURLToPath(new URL('clients/', import.meta.url))
const cache = fileURLToPath(new URL('../../node_modules/.cache/on-demand/', import.meta.url))

interface Program {
  readonly command: readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

interface RealClient {
  readonly name: string
  /** Throws NotInstalled. */
  program(): Promise<Program>
  /** Which ways it knows. */
  readonly ways: readonly Way[]
}

type Way = 'socket' | 'port' | 'certificate'
const ALL: readonly Way[] = ['socket', 'port', 'certificate']

const PYTHON = { 'psycopg[binary]': '3.3.9', 'psycopg2-binary': '2.9.13', sqlalchemy: '2.1.9', pg8000: '1.31.6', asyncpg: '0.32.0' }
const PGJDBC = '42.7.4'
const PRISMA = '7.10.0'

const python = (file: string) => async (): Promise<Program> => ({ command: [await pythonWith(PYTHON), join(scripts, file)] })

const CLIENTS: readonly RealClient[] = [
  { name: 'psql', ways: ALL, program: async () => ({ command: ['sh', join(scripts, 'psql.sh')] }) },
  { name: 'node-postgres', ways: ALL, program: async () => ({ command: [process.execPath, join(scripts, 'pg.mjs')] }) },
  {
    name: 'Postgres.js 3.4.9',
    ways: ALL,
    program: async () => {
      const { dir } = await onDemand('postgres@3.4.9')
      return { command: [process.execPath, join(scripts, 'postgres-js.mjs')], env: { PACKAGES: join(dir, 'package.json') } }
    },
  },
  { name: `Prisma ${PRISMA}`, ways: ALL, program: prisma },
  { name: 'psycopg 3.3.9', ways: ALL, program: python('psycopg3_.py') },
  { name: 'psycopg2 2.9.13', ways: ALL, program: python('psycopg2_.py') },
  { name: 'SQLAlchemy 2.1.9', ways: ALL, program: python('sqlalchemy_.py') },
  { name: 'pg8000 1.31.6', ways: ALL, program: python('pg8000_.py') },
  { name: 'asyncpg 0.32.0', ways: ALL, program: python('asyncpg_.py') },
  {
    // Java has no unix sockets for this driver.
    name: `pgJDBC ${PGJDBC} (DBeaver, DataGrip)`,
    ways: ['port', 'certificate'],
    program: async () => ({ command: ['java', '-cp', await jdbcDriver(), join(scripts, 'Jdbc.java')] }),
  },
]

const ROLES = `kind: role
name: shop
spec:
  allow:
    - { postgres: shop, databases: [postgres], as: app, can: [read, write] }
---
kind: agent
name: clients
spec: { owner: dana, roles: [shop] }
---
kind: user
name: dana
spec: { roles: [admin, shop] }
`

interface House {
  readonly ways: Readonly<Record<Way, Readonly<Record<string, string>>>>
}
let house: House
const undo: (() => Promise<void>)[] = []
before(async () => {
  const later = { after: (work: () => Promise<void>) => void undo.unshift(work) }
  const { server, dana, dir } = await governed(later)
  const port = await freePort()
  await apply(dana, `kind: postgres\nname: shop\nspec: { address: "localhost:${port}", databases: [postgres] }\n---\n${ROLES}`)
  const postgres = await governedDatabase(later, server, 'shop', { port, dir, user: 'app' })
  const admin = new pg.Client({ connectionString: postgres.superuserUrl })
  await admin.connect()
  await admin.query(`DROP TABLE things; CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL); INSERT INTO customers VALUES (1, 'Ada'), (2, 'Grace');
    CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers, total numeric); INSERT INTO orders (customer, total) VALUES (1, 10), (2, 20);
    GRANT SELECT, INSERT, UPDATE, DELETE ON customers, orders TO app; GRANT USAGE ON orders_id_seq TO app`)
  await admin.end()

  const keeper = await renewed(later as unknown as TestContext, dana, 'db-clients')
  const folder = await mkdtemp(join(tmpdir(), 'chp-'))
  undo.unshift(() => rm(folder, { recursive: true, force: true, maxRetries: 10 }))
  const doors = {
    socket: await openDatabaseDoor({ resource: 'shop', database: 'postgres', keeper, at: { socket: socketIn(join(folder, 's')) } }),
    port: await openDatabaseDoor({ resource: 'shop', database: 'postgres', keeper, at: { port: 0 } }),
  }
  undo.unshift(async () => void (await Promise.all([doors.socket.close(), doors.port.close()])))
  const held = await issued(dana, 'clients', '30m')
  const files = { ca: join(folder, 'ca.pem'), cert: join(folder, 'client.pem'), key: join(folder, 'client.key') }
  await writeFile(files.ca, held.profile.bundles.server)
  await writeFile(files.cert, held.certificate)
  await writeFile(files.key, held.key, { mode: 0o600 })
  await writeFile(`${files.key}.pk8`, createPrivateKey(held.key).export({ type: 'pkcs8', format: 'der' }), { mode: 0o600 })

  const through = ({ host, port, password }: (typeof doors)['port']) => ({
    PGHOST: host,
    PGPORT: String(port),
    PGDATABASE: 'postgres',
    PGSSLMODE: 'disable',
    ...(password === undefined ? {} : { PGPASSWORD: password }),
  })
  house = {
    ways: {
      socket: through(doors.socket),
      port: through(doors.port),
      certificate: {
        PGHOST: 'localhost',
        PGPORT: server.addresses.postgres.split(':').at(-1)!,
        PGDATABASE: 'shop/postgres',
        PGSSLMODE: 'verify-full',
        PGSSLROOTCERT: files.ca,
        PGSSLCERT: files.cert,
        PGSSLKEY: files.key,
      },
    },
  }
})
after(async () => {
  for (const work of undo) await work()
})

for (const client of CLIENTS) {
  test(`${client.name}: reads, is refused, prepares, and goes on`, async (t) => {
    const program = await client.program().catch((error) => {
      if (error instanceof NotInstalled) return t.skip(error.message)
      throw error
    })
    if (!program) return
    for (const way of client.ways)
      await t.test(way === 'certificate' ? 'with a certificate of its own' : `through a ${way} of db proxy`, async () => {
        const said = JSON.parse(await run(program, { ...house.ways[way], PGUSER: 'app' })) as Record<string, unknown>
        const { read, refused, prepared, inside, after: left, ...more } = said
        assert.deepEqual({ read, prepared, inside, after: left }, { read: 2, prepared: 'Grace', inside: 3, after: 2 })
        assert.match(String(refused), /Chaperone refused/)
        for (const [what, held] of Object.entries(more)) assert.equal(held, true, what)
      })
  })
}

function run({ command: [file, ...args], env }: Program, way: Readonly<Record<string, string>>): Promise<string> {
  const whole = {
    PATH: process.env.PATH ?? '',
    HOME: tmpdir(),
    LANG: 'C.UTF-8',
    ...(process.env.JAVA_HOME ? { JAVA_HOME: process.env.JAVA_HOME } : {}),
    ...env,
    ...way,
  }
  return new Promise((done, fail) => {
    execFile(file!, args, { env: whole, timeout: 60_000 }, (error, out, err) => {
      if (error) fail(new Error(`${file} ${args.at(-1)}: ${err.trim().split('\n').slice(-8).join('\n') || error.message}`))
      else done(out)
    })
  })
}

/** Runs a program that installs something, with the environment as it is. */
function install(file: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
  return new Promise((done, fail) => {
    execFile(file, args, { timeout: 240_000, maxBuffer: 32 * 1024 * 1024, env: { ...process.env, ...env } }, (error, out, err) => {
      if (error) fail(new NotInstalled(`${file} cannot install here: ${`${err}${out}`.trim().split('\n').slice(-2).join(' ') || error.message}`))
      else done(out)
    })
  })
}

async function pythonWith(packages: Readonly<Record<string, string>>): Promise<string> {
  const specs = Object.entries(packages).map(([name, version]) => `${name}==${version}`)
  const venv = join(cache, 'python-clients')
  const program = join(venv, 'bin', 'python')
  await mkdir(cache, { recursive: true })
  await install('python3', ['-m', 'venv', venv])
  await install(program, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...specs])
  return program
}

async function jdbcDriver(): Promise<string> {
  const folder = join(cache, 'jdbc')
  await mkdir(folder, { recursive: true })
  await install('java', ['-version'])
  await install('mvn', ['-q', '-B', 'dependency:copy', `-Dartifact=org.postgresql:postgresql:${PGJDBC}`, `-DoutputDirectory=${folder}`])
  return join(folder, `postgresql-${PGJDBC}.jar`)
}

/** Prisma makes its client from a schema; nothing of it has to reach the database. */
async function prisma(): Promise<Program> {
  const { dir } = await onDemand(`prisma@${PRISMA}`, { scripts: true })
  const adapter = await onDemand(`@prisma/adapter-pg@${PRISMA}`)
  const client = await onDemand(`@prisma/client@${PRISMA}`)
  // Node strips no types below node_modules.
  const made = await mkdtemp(join(tmpdir(), 'chp-prisma-'))
  undo.unshift(() => rm(made, { recursive: true, force: true, maxRetries: 10 }))
  await symlink(join(client.dir, 'node_modules'), join(made, 'node_modules'))
  await writeFile(join(made, 'package.json'), '{"type":"module"}')
  await writeFile(
    join(made, 'schema.prisma'),
    `generator client {\n  provider = "prisma-client"\n  output = "./client"\n  generatedFileExtension = "ts"\n  importFileExtension = "ts"\n}\ndatasource db {\n  provider = "postgresql"\n}\nmodel customers {\n  id Int @id\n  name String\n}\nmodel orders {\n  id Int @id @default(autoincrement())\n  customer Int?\n  total Decimal?\n}\n`,
  )
  // The engine that reads a database's schema is fetched from a host of its own; making a client does not need it.
  const cli = join(dir, 'node_modules', 'prisma', 'build', 'index.js')
  await install(process.execPath, [cli, 'generate', '--schema', join(made, 'schema.prisma')], { PRISMA_SCHEMA_ENGINE_BINARY: process.execPath })
  return {
    command: [process.execPath, join(scripts, 'prisma.mjs')],
    env: { PACKAGES: join(adapter.dir, 'package.json'), CLIENT: join(made, 'client', 'client.ts') },
  }
}
