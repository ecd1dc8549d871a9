import { spawn } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect as connectTcp, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import pg from 'pg'
import type { Resources } from '../../access/types.ts'
import type { Draft } from '../../audit/record.ts'
import { type Clock, systemClock } from '../../clock.ts'
import { type Postgres, startPostgres } from '../../demo/postgres.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import { newId } from '../../ids.ts'
import { makeAuthority } from './authority.fixture.ts'
import { type PostgresGateway, type PostgresGatewayParts, postgresGateway } from './gateway.ts'
import { type Given, memoryGuard, unpinning } from './guard.fixture.ts'
import { logInRaw, type RawClient } from './raw.fixture.ts'
import { sslRequest } from './wire/write.ts'

/** What the tests of this folder share: a real PostgreSQL, a real gateway, real policy; a guard and sessions that keep everything in memory. */

const DAY = 86_400_000

export interface RigOptions {
  readonly roles?: readonly Record<string, unknown>[]
  readonly guardrails?: readonly Record<string, unknown>[]
  readonly limits?: PostgresGatewayParts['limits']
  readonly clock?: Clock
  /** More settings of the server, and more users that may log in by certificate. */
  readonly settings?: Readonly<Record<string, string>>
  /** see PostgresOptions */
  readonly binaries?: string
  readonly users?: readonly string[]
  /** What the database `shop` keeps its texts in. Default: UTF8. */
  readonly encoding?: string
  /** Database users whose sessions are not pinned to reading: so it is seen what the statement check stops alone. The product has no such switch. */
  readonly unpinned?: readonly string[]
}

export type Rig = Awaited<ReturnType<typeof startRig>>

/** One PostgreSQL with the database `shop` and the users `reader` (SELECT), `writer` (owner) and `nobody`; one gateway in front of it. */
export async function startRig(options: RigOptions = {}) {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-gateway-test-'))
  const authority = makeAuthority('database')
  const identities = makeAuthority('identity')
  const server = authority.pair({ use: 'server', names: ['localhost', '127.0.0.1'] })
  const postgres: Postgres = await startPostgres({
    dir: join(dir, 'cluster'),
    tls: { cert: server.cert, key: server.key, clientCa: authority.cert },
    hba: `hostssl all ${['reader', 'writer', 'root', ...(options.users ?? [])].join()} 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 scram-sha-256\n`,
    settings: { fsync: 'off', max_connections: '80', ...options.settings },
    ...(options.binaries === undefined ? {} : { binaries: options.binaries }),
  })
  const admin = new pg.Client({ connectionString: postgres.superuserUrl })
  await admin.connect()
  await admin.query(`create database shop ${options.encoding === undefined ? '' : `encoding '${options.encoding}' template template0 locale 'C'`}`)
  const shop = new pg.Client({ connectionString: postgres.superuserUrl.replace(/\/postgres$/, '/shop') })
  await shop.connect()
  await shop.query(FIXTURE)

  const state = { roles: options.roles ?? [READER], guardrails: options.guardrails ?? [], granted: [] as readonly Given[] }
  const memory = memoryGuard(() => ({ ...state }))
  const resource = { kind: 'postgres', id: 'res_test', name: 'prod', labels: {} }
  const spec = { address: `127.0.0.1:${postgres.port}`, databases: ['shop'], tls: { ca: authority.cert }, credential_ttl: '5m' }
  const resources: Resources = {
    find: (kind, name) => (kind === 'postgres' && name === 'prod' ? { resource, spec } : undefined),
    list: () => [{ resource, spec }],
    revision: 1,
  }
  const events: Draft[] = []
  const faults: ChaperoneError[] = []
  const connections: { readonly id: string; cut(why: ChaperoneError): void }[] = []
  const sessionOf = (name: string): LiveSession => ({
    id: newId('ses'),
    principal: {
      identityId: `agt_${name}`,
      kind: 'agent',
      name,
      credentialId: 'crd',
      sessionId: 'ses',
      chain: [{ identity: 'usr_boris' }, { identity: `agt_${name}`, delegation: 'dlg' }],
      notAfter: Date.now() + DAY,
      proof: 'mtls',
    },
    startedAt: Date.now(),
    how: 'issue',
    provenUntil: Date.now() + DAY,
    open: 0,
    assertLive() {},
    connect: () => assertNever(),
  })
  const listener = identities.pair({ use: 'server', names: ['localhost', '127.0.0.1', 'prod.localhost'] })
  const parts: PostgresGatewayParts = {
    guard: options.unpinned ? unpinning(memory.guard, options.unpinned) : memory.guard,
    resources,
    audit: {
      async append(draft) {
        events.push(draft)
        return { id: 'rec', seq: events.length }
      },
    },
    ca: {
      issueDatabase: async ({ spki, user, notAfter }) => ({
        certificate: authority.sign(spki, { use: 'database', user }, notAfter),
        serial: '1',
        notBefore: 0,
        notAfter,
      }),
      bundle: async () => authority.cert,
    },
    clock: options.clock ?? systemClock,
    tlsContext: () => ({ cert: listener.cert, key: listener.key, ca: identities.cert }),
    async identify(socket: TLSSocket) {
      const certificate = new X509Certificate(socket.getPeerX509Certificate()!.raw)
      if (!certificate.verify(new X509Certificate(identities.cert).publicKey))
        throw new ChaperoneError('credential_invalid', 'The certificate is from another authority.')
      const controller = new AbortController()
      const connection: Connection = { id: newId('con'), protocol: 'postgres', signal: controller.signal, closed() {}, assertOpen() {} }
      connections.push({ id: connection.id, cut: (why) => controller.abort(why) })
      return { session: sessionOf(certificate.subject.replace(/^CN=/, '')), connection }
    },
    requests: memory.approvals.requests,
    nameOf: (id) => id.replace(/^usr_/, ''),
    fault: (error) => faults.push(error),
    ...(options.limits ? { limits: options.limits } : {}),
  }
  const gateway: PostgresGateway = postgresGateway(parts)
  const tcp = createServer((socket) => gateway.accept(socket))
  await new Promise<void>((done) => tcp.listen(0, '127.0.0.1', done))
  const port = (tcp.address() as AddressInfo).port
  const client = identities.pair({ use: 'database', user: 'boris-ai' })
  const files = { ca: join(dir, 'ca.pem'), cert: join(dir, 'client.pem'), key: join(dir, 'client.key') }
  await writeFile(files.ca, identities.cert)
  await writeFile(files.cert, client.cert)
  await writeFile(files.key, client.key, { mode: 0o600 })

  return {
    ...memory,
    state,
    events,
    faults,
    gateway,
    parts,
    postgres,
    port,
    connections,
    identities,
    authority,
    client,
    sessionOf,
    /** As superuser, around the gateway. */
    admin: shop,
    /** psql through the gateway. Resolves with its exit code and what it said. */
    psql(
      user: string,
      sql: readonly string[],
      more: { readonly args?: readonly string[]; readonly input?: string; readonly database?: string } = {},
    ) {
      const url = `host=127.0.0.1 port=${port} user=${user} dbname=${more.database ?? 'prod/shop'} sslmode=verify-ca sslrootcert=${files.ca} sslcert=${files.cert} sslkey=${files.key}`
      return run('psql', [url, '-X', '-A', '-t', '-v', 'VERBOSITY=verbose', ...(more.args ?? []), ...sql.flatMap((text) => ['-c', text])], more.input)
    },
    connectionEnv: (user: string) => ({
      PGHOST: '127.0.0.1',
      PGPORT: String(port),
      PGUSER: user,
      PGDATABASE: 'prod/shop',
      PGSSLMODE: 'verify-ca',
      PGSSLROOTCERT: files.ca,
      PGSSLCERT: files.cert,
      PGSSLKEY: files.key,
    }),
    /** node-postgres without the gateway, as the same database user: what a client would see without us. */
    async direct(user: string) {
      const it = new pg.Client({
        host: '127.0.0.1',
        port: postgres.port,
        user,
        database: 'shop',
        ssl: { ca: authority.cert, ...authority.pair({ use: 'database', user }) },
      })
      await it.connect()
      return it
    },
    /** node-postgres through the gateway, connected. */
    async connect(user: string, more: pg.ClientConfig = {}) {
      const it = new pg.Client({
        host: '127.0.0.1',
        port,
        user,
        database: 'prod/shop',
        ssl: { ca: identities.cert, cert: client.cert, key: client.key, checkServerIdentity: () => undefined },
        ...more,
      })
      it.on('error', () => {})
      await it.connect()
      return it
    },
    /** A client of bytes, for what drivers would not send. Rejects with the message of the server's error. */
    async raw(user: string, parameters: Record<string, string> = {}, tls: ConnectionOptions = {}, of = port): Promise<RawClient> {
      const tcp = connectTcp(of, '127.0.0.1')
      await once(tcp, 'connect')
      tcp.write(sslRequest())
      await once(tcp, 'data')
      const socket = connectTls({ socket: tcp, ca: identities.cert, ...client, checkServerIdentity: () => undefined, ...tls })
      await once(socket, 'secureConnect')
      return await logInRaw(socket, { user, database: 'prod/shop', ...parameters })
    },
    /** A client of bytes that speaks to the database itself, as the same database user. */
    async rawDirect(user: string, parameters: Record<string, string> = {}): Promise<RawClient> {
      const tcp = connectTcp(postgres.port, '127.0.0.1')
      await once(tcp, 'connect')
      tcp.write(sslRequest())
      await once(tcp, 'data')
      const pair = authority.pair({ use: 'database', user })
      const socket = connectTls({ socket: tcp, ca: authority.cert, ...pair, checkServerIdentity: () => undefined })
      await once(socket, 'secureConnect')
      return await logInRaw(socket, { user, database: 'shop', client_encoding: 'UTF8', ...parameters })
    },
    async stop() {
      await gateway.close()
      tcp.close()
      await shop.end()
      await admin.end()
      await postgres.stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

const assertNever = (): never => {
  throw new Error('not used')
}

export function run(
  program: string,
  args: readonly string[],
  input?: string,
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number; out: string; err: string }> {
  return new Promise((done, failed) => {
    const child = spawn(program, args, { env: { ...process.env, ...env } })
    let [out, err] = ['', '']
    child.stdout.on('data', (chunk) => (out += chunk))
    child.stderr.on('data', (chunk) => (err += chunk))
    child.on('error', failed)
    child.on('close', (code) => done({ code: code ?? -1, out, err }))
    child.stdin.on('error', () => {})
    child.stdin.end(input ?? '')
  })
}

/** May read, as the user that can only read, and as the one that could do more: the second shows what the gateway alone stops. */
export const READER = { allow: [{ postgres: 'any', databases: ['shop'], as: ['reader', 'writer'], can: 'read' }] }
export const WRITER = { allow: [{ postgres: 'any', databases: ['shop'], as: ['writer'], can: ['read', 'write'] }] }
export const ANYTHING = { allow: [{ postgres: 'any', databases: ['shop'], as: 'any', can: 'any' }] }

const FIXTURE = `
  create role reader login; create role writer login; create role root login superuser;
  create table customers (id int primary key, name text not null, email text);
  create table orders (id serial primary key, customer int references customers, total numeric not null, at timestamptz not null default now());
  insert into customers select i, 'customer ' || i, 'c' || i || '@example.org' from generate_series(1, 50) i;
  insert into orders (customer, total) select 1 + i % 50, i * 1.5 from generate_series(1, 200) i;
  create table touched (what text);
  create view busy as select customer, count(*) as n from orders group by customer;
  create function touch() returns int language sql security definer as $$ insert into touched values ('function'); select 1 $$;
  create function touch_quietly(c int) returns int language plpgsql stable security definer as $$ begin return c; end $$;
  create view traps as select touch() as n;
  create procedure sweep() language sql as $$ delete from touched $$;
  grant select on all tables in schema public to reader;
  alter table customers owner to writer; alter table orders owner to writer; alter table touched owner to writer;
  alter sequence orders_id_seq owner to writer;
  grant usage on all sequences in schema public to reader;
  grant all on all tables in schema public to writer; grant create on schema public to writer;
`

/** Waits for what must happen, and fails when it does not. */
export async function until(check: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 30_000
  while (performance.now() < end) {
    if (await check()) return
    await new Promise((done) => setTimeout(done, 5))
  }
  throw new Error('it did not happen in time')
}
