import { spawn } from 'node:child_process'
import { generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect as connectTcp, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import pg from 'pg'
import { type Admission, type Guard, type Outcome, type Parked, type Permit, Refusal, type Resources } from '../../access/types.ts'
import type { Draft } from '../../audit/record.ts'
import { authorityName, type Issuer, keyIdentifierOf, type Leaf, signAuthority, signLeaf } from '../../ca/certificate.ts'
import { pemOf } from '../../ca/pem.ts'
import { type Clock, systemClock } from '../../clock.ts'
import { type Postgres, startPostgres } from '../../demo/postgres.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import { newId } from '../../ids.ts'
import { compilePolicy } from '../../policy/compile.ts'
import { decide } from '../../policy/decide.ts'
import { demandsOf } from '../../policy/demands.ts'
import type { Action, Decision } from '../../policy/types.ts'
import { memoryRequests } from './asking.fixture.ts'
import { type PostgresGateway, type PostgresGatewayParts, postgresGateway } from './gateway.ts'
import { postgresVocabulary } from './rules.ts'
import { readErrorFields } from './wire/server.ts'
import { sslRequest, startupPacket } from './wire/write.ts'

/** What the tests of this folder share: a real PostgreSQL, a real gateway, real policy; a guard and sessions that keep everything in memory. */

const DAY = 86_400_000

interface Pair {
  readonly cert: string
  readonly key: string
}

export function makeAuthority(name: string) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const issuer: Issuer = { name: authorityName('test', name), keyIdentifier: keyIdentifierOf(spki), privateKey }
  const life = { notBefore: Date.now() - DAY, notAfter: Date.now() + 10 * DAY }
  const cert = pemOf('CERTIFICATE', signAuthority(issuer, spki, life).der)
  const sign = (of: Uint8Array, leaf: Leaf, notAfter = Date.now() + DAY) =>
    pemOf('CERTIFICATE', signLeaf(issuer, of, leaf, { notBefore: Date.now() - 60_000, notAfter }).der)
  return {
    cert,
    sign,
    pair(leaf: Leaf, notAfter?: number): Pair {
      const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      return { cert: sign(keys.publicKey.export({ type: 'spki', format: 'der' }), leaf, notAfter), key: pem(keys.privateKey) }
    },
  }
}

const pem = (key: KeyObject) => key.export({ type: 'pkcs8', format: 'pem' }) as string

export interface Recorded {
  readonly kind: 'intent' | 'refused'
  readonly id: string
  readonly action: Action
  readonly decision: Decision
  readonly bodies: Readonly<Record<string, string>>
  outcome?: Outcome
}

/** Real decisions over the roles in `roles`; every identity holds them all. */
export function memoryGuard(roles: () => readonly Record<string, unknown>[], guardrails: () => readonly Record<string, unknown>[] = () => []) {
  const records: Recorded[] = []
  const open = new Map<string, { permit: Permit; controller: AbortController; record: Recorded }>()
  const approvals = memoryRequests()
  let number = 0
  const gate = { wait: undefined as Promise<void> | undefined }
  const compile = () =>
    compilePolicy(
      { roles: roles().map((spec, i) => ({ name: `role${i}`, spec })), guardrails: guardrails().map((spec, i) => ({ name: `rail${i}`, spec })) },
      [postgresVocabulary],
    )
  let compiled = { roles: roles(), guardrails: guardrails(), policy: compile() }
  const questionOf = (session: LiveSession, action: Action) => {
    if (compiled.roles !== roles() || compiled.guardrails !== guardrails()) compiled = { roles: roles(), guardrails: guardrails(), policy: compile() }
    const identity = {
      id: session.principal.identityId,
      kind: 'agent' as const,
      name: session.principal.name,
      traits: {},
      roles: roles().map((_, i) => `role${i}`),
    }
    return { links: [{ identity }], session: { id: session.id, startedAt: 0, how: 'test' }, action, now: Date.now() }
  }
  const judge = (session: LiveSession, action: Action): Decision => {
    const question = questionOf(session, action)
    return decide(compiled.policy, question)
  }
  const guard: Guard = {
    judge,
    demands(session, action, name) {
      const question = questionOf(session, action)
      return demandsOf(compiled.policy, question, name)
    },
    async admit(session, action, admission: Admission = {}) {
      await gate.wait
      let decision = judge(session, action)
      let parked: Parked | undefined
      if (decision.verdict === 'ask') {
        const { asking } = admission
        const deny = (reason: Decision['reason'], message: string): Decision => ({ ...decision, verdict: 'deny', reason, message })
        if (!asking || asking.cannot !== undefined) decision = deny('approval_unavailable', `${decision.message} ${asking?.cannot ?? ''}`)
        else {
          const answer = approvals.answered(session.principal.identityId, await asking.call())
          if ('parked' in answer) parked = answer.parked
          else if ('denied' in answer) decision = deny('approval_denied', `It was refused: ${answer.denied}`)
          else decision = answer.use() ? { ...decision, verdict: 'allow' } : deny('approval_used', 'It was used already.')
        }
      }
      const bodies = Object.fromEntries((admission.bodies ?? []).map((body) => [body.name, Buffer.from(body.bytes as string).toString()]))
      const record: Recorded = { kind: decision.verdict === 'allow' ? 'intent' : 'refused', id: `per_${++number}`, action, decision, bodies }
      records.push(record)
      if (decision.verdict !== 'allow') throw new Refusal(decision, record.id, parked)
      const controller = new AbortController()
      controller.signal.addEventListener('abort', () => admission.cut?.(controller.signal.reason))
      const permit = { id: record.id, action, decision, obligations: decision.obligations, signal: controller.signal } as Permit
      open.set(permit.id, { permit, controller, record })
      return permit
    },
    settle(permit, outcome) {
      const mine = open.get(permit.id)
      if (!mine) return
      open.delete(permit.id)
      mine.record.outcome = outcome
    },
  }
  return { guard, records, open, gate, approvals }
}

/** Says yes to the question whether anything could be written, and only to that. */
const unpinning = (guard: Guard, users: readonly string[]): Guard => ({
  ...guard,
  judge(session, action) {
    const decision = guard.judge(session, action)
    return action.facts.probe === true && users.includes(String(action.facts.user)) ? { ...decision, verdict: 'allow' } : decision
  },
})

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
  await admin.query('create database shop')
  const shop = new pg.Client({ connectionString: postgres.superuserUrl.replace(/\/postgres$/, '/shop') })
  await shop.connect()
  await shop.query(FIXTURE)

  const state = { roles: options.roles ?? [READER], guardrails: options.guardrails ?? [] }
  const memory = memoryGuard(
    () => state.roles,
    () => state.guardrails,
  )
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

export type RawClient = Awaited<ReturnType<typeof logInRaw>>

async function logInRaw(socket: TLSSocket, parameters: Record<string, string>) {
  let held = Buffer.alloc(0)
  let ended = false
  let wake = () => {}
  const frames: Buffer[] = []
  socket.on('data', (chunk) => {
    held = Buffer.concat([held, chunk])
    while (held.length >= 5 && held.length > held.readInt32BE(1)) {
      const end = held.readInt32BE(1) + 1
      frames.push(held.subarray(0, end))
      held = held.subarray(end)
    }
    wake()
  })
  socket.on('close', () => {
    ended = true
    wake()
  })
  socket.on('error', () => {})
  const next = async (): Promise<Buffer> => {
    while (frames.length === 0) {
      if (ended) throw new Error('closed')
      await new Promise<void>((done) => (wake = done))
    }
    return frames.shift()!
  }
  const raw = {
    socket,
    process: 0,
    /** What the server reported at login. */
    parameters: [] as (readonly [string, string])[],
    /** Sends the messages in one write. */
    send: (...messages: Buffer[]) => socket.write(Buffer.concat(messages)),
    end: () => socket.destroy(),
    next,
    /** The types of the messages up to and with the given one. */
    async until(type: string): Promise<string> {
      let types = ''
      while (!types.endsWith(type)) types += String.fromCharCode((await next())[0]!)
      return types
    },
    /** The fields of the next ErrorResponse. */
    async error(): Promise<ReadonlyMap<string, string>> {
      for (;;) {
        const frame = await next()
        if (frame[0] === 'E'.charCodeAt(0)) return readErrorFields(frame)
      }
    },
    /** Up to the n-th ReadyForQuery: types with the values of rows, codes of errors and the status. */
    async answers(readies = 1): Promise<string[]> {
      const said: string[] = []
      for (let left = readies; left > 0; ) {
        const frame = await next()
        const type = String.fromCharCode(frame[0]!)
        if (type === 'Z') left--
        if (type === 'S' || type === 'T') continue
        said.push(
          type +
            (type === 'Z'
              ? String.fromCharCode(frame[5]!)
              : type === 'E' || type === 'N'
                ? `:${readErrorFields(frame).get('C')}`
                : type === 'D'
                  ? `:${frame.toString('latin1', 11)}`
                  : type === 'C'
                    ? `:${frame.toString('latin1', 5, frame.length - 1)}`
                    : ''),
        )
      }
      return said
    },
  }
  socket.write(startupPacket(parameters))
  for (;;) {
    const frame = await next()
    if (frame[0] === 'E'.charCodeAt(0)) throw new Error(readErrorFields(frame).get('M'))
    if (frame[0] === 'K'.charCodeAt(0)) raw.process = frame.readInt32BE(5)
    if (frame[0] === 'S'.charCodeAt(0)) raw.parameters.push(frame.toString('utf8', 5, frame.length - 1).split('\0') as [string, string])
    if (frame[0] === 'Z'.charCodeAt(0)) return raw
  }
}

const cstring = (text: string) => Buffer.from(`${text}\0`)
const int16 = (value: number) => Buffer.from([(value >> 8) & 255, value & 255])
const int32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

export function message(type: string, ...body: Buffer[]): Buffer {
  const content = Buffer.concat(body)
  return Buffer.concat([Buffer.from(type), int32(content.length + 4), content])
}

/** Messages of the extended protocol. */
export const bind = (portal: string, statement: string, values: readonly string[] = []) =>
  message(
    'B',
    cstring(portal),
    cstring(statement),
    int16(0),
    int16(values.length),
    ...values.flatMap((value) => [int32(Buffer.byteLength(value)), Buffer.from(value)]),
    int16(0),
  )
export const execute = (portal: string, most = 0) => message('E', cstring(portal), int32(most))
export const close = (of: 'S' | 'P', name: string) => message('C', Buffer.from(of), cstring(name))
export const sync = () => message('S')
export const flush = () => message('H')

/** Waits for what must happen, and fails when it does not. */
export async function until(check: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    if (await check()) return
    await new Promise((done) => setTimeout(done, 5))
  }
  throw new Error('it did not happen in time')
}
