import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeGuard } from '../../access/guard.ts'
import { openBook } from '../../access/requests/book.ts'
import { openCalls } from '../../access/requests/calls.ts'
import { openChanges } from '../../access/requests/changes.ts'
import { makeCommit } from '../../access/requests/commit.ts'
import type { AccessRequest } from '../../access/requests/types.ts'
import type { Voters } from '../../access/requests/voters.ts'
import type { State } from '../../access/state.ts'
import type { Claim, Draft } from '../../audit/record.ts'
import { mcpServerSpec } from '../../catalog/mcp-server.ts'
import { DECIDING, openPinBook, type PinBook, pinOf } from '../../catalog/pin-book.ts'
import { type Pin, pinsByServer } from '../../catalog/pins.ts'
import { type Clock, systemClock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import { openKeyring } from '../../keys/keyring.ts'
import { loadRootKey } from '../../keys/root-key.ts'
import { compilePolicy } from '../../policy/compile.ts'
import type { Resource } from '../../policy/types.ts'
import { openStore } from '../../store/open.ts'
import type { Store } from '../../store/store.ts'
import type { UpstreamLogins } from '../../vault/logins.ts'
import type { Builtins } from './builtin/types.ts'
import { type McpCaller, mcpGateway } from './gateway.ts'
import { openHandles } from './handles.ts'
import type { McpLimits } from './limits.ts'
import { mcpVocabulary } from './rules.ts'
import { openTasks } from './tasks.ts'

/** A role spec as people write it, and servers by name; the real policy and the real guard judge, records stay in memory. */
export interface World {
  readonly role: unknown
  readonly servers: Record<string, unknown>
  readonly limits?: Partial<McpLimits>
  readonly mayKeepLists?: boolean
  readonly clock?: Clock
  readonly secrets?: Record<string, string>
  readonly logins?: Pick<UpstreamLogins, 'of'>
  readonly builtins?: Builtins
  /** Where pins are kept; default: a store of its own. */
  readonly store?: Store
}

export interface Harness {
  /** URL of `/mcp/` */
  readonly base: string
  readonly records: Draft[]
  readonly logs: { what: string; facts: Record<string, unknown> }[]
  readonly dataDir: string
  readonly guard: ReturnType<typeof makeGuard>
  readonly gateway: ReturnType<typeof mcpGateway>
  readonly pins: PinBook
  /** Records of one type, newest last. */
  of(type: Draft['type']): Draft[]
  /** Changes the document of a server, as `apply` would. */
  setServer(name: string, spec: unknown): void
  dropServer(name: string): void
  /** Changes what the caller may do, as `apply` would. */
  setRole(role: unknown): void
  /** Requests about calls, oldest first. */
  asked(): Promise<AccessRequest[]>
  /** Calls that wait for an answer now. */
  readonly waiting: number
  /** Answers one, as an approver would; who may is proven elsewhere. */
  decide(id: string, verdict: 'approved' | 'denied', reason?: string): Promise<void>
  /** Ends everything that hangs on the session, as a lock would. */
  cut(name: string, code?: 'locked' | 'credential_expired'): void
  post(server: string, message: unknown, headers?: Record<string, string>): Promise<Response>
  close(): Promise<void>
}

export const WHO = 'boris/claude-code'

/** A session as server/ would hand it over; the name is the caller's, from the header `x-test-as`. */
function sessionOf(name: string, proof: 'mtls' | 'bearer'): LiveSession & { cutAll(why: ChaperoneError): void } {
  const connections = new Set<AbortController>()
  let ended: ChaperoneError | undefined
  let next = 1
  return {
    id: `ses_${name}`,
    principal: {
      identityId: `agt_${name}`,
      kind: 'agent',
      name,
      credentialId: 'crd_1',
      sessionId: `ses_${name}`,
      chain: [{ identity: `agt_${name}` }],
      notAfter: 4e12,
      proof,
    },
    startedAt: 0,
    how: 'join',
    provenUntil: 4e12,
    get open() {
      return connections.size
    },
    assertLive() {
      if (ended) throw ended
    },
    connect(protocol): Connection {
      const controller = new AbortController()
      connections.add(controller)
      return { id: `con_${next++}`, protocol, signal: controller.signal, assertOpen() {}, closed: () => void connections.delete(controller) }
    },
    cutAll(why) {
      ended = why
      for (const controller of [...connections]) controller.abort(why)
    },
  }
}

export async function harness(world: World): Promise<Harness> {
  const records: Draft[] = []
  const logs: Harness['logs'] = []
  const clock = world.clock ?? systemClock
  const dataDir = mkdtempSync(join(tmpdir(), 'chaperone-test-data-'))
  mkdirSync(join(dataDir, 'keys'))
  writeFileSync(join(dataDir, 'keys', 'root'), 'the root key', { mode: 0o600 })
  writeFileSync(`${dataDir}.root-key`, 'readable by everybody: only a child that cannot see it will not read it', { mode: 0o644 })

  const store = world.store ?? (await openStore({ dataDir }, { clock }))
  const loadPins = async () =>
    pinsByServer((await store.db.selectFrom('pins').select(DECIDING).execute()).map((row): [string, Pin] => [row.resource_id, pinOf(row)]))
  let pinned = await loadPins()

  const resources = new Map(
    Object.entries(world.servers).map(([name, spec]) => {
      const resource: Resource = { kind: 'mcp', id: `res_${name}`, name, labels: {} }
      return [name, { resource, spec: mcpServerSpec.parse(spec) as unknown }]
    }),
  )
  const stateOf = (role: unknown, epoch: number): State => ({
    epoch,
    revision: epoch,
    policy: compilePolicy({ roles: [{ name: 'tester', spec: role }], guardrails: [] }, [mcpVocabulary]),
    locks: [],
    grantsChangeAt: () => Number.POSITIVE_INFINITY,
    links: (chain) =>
      chain.map(({ identity }) => ({
        identity: { id: identity, kind: 'agent', name: identity.slice(4), traits: {}, roles: identity === 'agt_nobody' ? [] : ['tester'] },
      })),
    administering: () => [],
    granting: false,
    identity: () => undefined,
    find: (_, name) => resources.get(name),
    list: () => [...resources.values()],
    pins: (id) => pinned(id),
  })
  let state = stateOf(world.role, 1)
  const audit = {
    async append(draft: Draft) {
      records.push(draft)
      return { id: draft.id ?? 'rec', seq: records.length }
    },
    addSecrets() {},
    /** As the writer's thread does it: the row and the record, or neither. */
    async claim(draft: Draft, { request, digest, permit, continues }: Claim) {
      const from = continues === undefined ? { state: 'approved' as const, permit: null } : { state: 'used' as const, permit: continues }
      const { numUpdatedRows } = await store.write((trx) =>
        trx
          .updateTable('requests')
          .set({ state: 'used', permit, node_id: 'here', outcome: null })
          .where('id', '=', request)
          .where('digest', '=', digest)
          .where('state', '=', from.state)
          .where('permit', from.permit === null ? 'is' : '=', from.permit)
          .where('expires_at', '>', continues === undefined ? clock.now() : 0)
          .executeTakeFirstOrThrow(),
      )
      if (numUpdatedRows !== 1n) throw new ChaperoneError('approval_used', 'The approval of exactly this was used already, or is over.')
      return audit.append(draft)
    },
  }
  let isOver = false
  const failed = (error: unknown) => {
    // What is still under way when the store closes is nobody's fault.
    if (!isOver) throw error
  }
  const book = openBook(store, clock)
  const changes = openChanges({ store, book, clock, failed })
  let waiting = 0
  const requests: Pick<typeof changes, 'decided' | 'rights'> = {
    get rights() {
      return changes.rights
    },
    async decided(...wait) {
      waiting++
      try {
        return await changes.decided(...wait)
      } finally {
        waiting--
      }
    },
  }
  const calls = openCalls({
    ...{ store, book, changes, audit, clock, failed },
    voters: DANA_ALONE,
    masker: { text: (value) => ({ value, count: 0 }), looks: () => [], holds: () => false },
    commit: makeCommit({ store, changes, announce: async () => {}, raised: async () => {} }),
    link: (id) => `https://chaperone.test/requests/${id}`,
  })
  const guard = makeGuard({
    calls,
    state: { current: () => state, refresh: async () => state, see: async () => {} },
    lease: { ensure: async () => {} },
    audit,
    clock,
    outcomeLost: failed,
  })
  const pins = openPinBook({
    store,
    audit,
    clock,
    current: (id) => pinned(id),
    async raised() {
      pinned = await loadPins()
      state = { ...state, epoch: state.epoch + 1 }
      guard.review()
    },
  })
  const rootKey = await loadRootKey({ store, dataDir, createAt: `${world.store?.location ?? dataDir}.own-root-key` })
  const keyring = await openKeyring(store, rootKey, clock)
  const gateway = mcpGateway({
    tasks: openTasks(store, clock),
    handles: openHandles(keyring),
    guard,
    pins,
    requests,
    resources: {
      find: (kind, name) => state.find(kind, name),
      list: (kind) => state.list(kind),
      get revision() {
        return state.revision
      },
    },
    audit,
    reveal: async (name) => {
      const value = world.secrets?.[name]
      if (value === undefined) throw new ChaperoneError('upstream_unavailable', `The secret ${name} is not set.`)
      return value
    },
    mayKeepLists: () => world.mayKeepLists ?? false,
    clock,
    dataDir,
    ...(world.limits ? { limits: world.limits } : {}),
    ...(world.logins ? { logins: world.logins } : {}),
    ...(world.builtins ? { builtins: world.builtins } : {}),
    log: { warn: (facts, what) => logs.push({ what, facts }) },
  })

  const sessions = new Map<string, ReturnType<typeof sessionOf>>()
  const callerOf = (request: IncomingMessage): McpCaller => {
    const name = String(request.headers['x-test-as'] ?? WHO)
    const session = sessions.get(name) ?? sessionOf(name, 'mtls')
    sessions.set(name, session)
    return { session, connection: session.connect('https') }
  }
  const server = createServer((request, response) => {
    const caller = callerOf(request)
    void gateway.handle(request, response, caller, /^\/mcp\/([^?]+)/.exec(request.url ?? '')?.[1]).finally(() => caller.connection.closed())
  })
  const address = await listen(server)

  return {
    base: `${address}/mcp/`,
    records,
    logs,
    dataDir,
    guard,
    gateway,
    pins,
    of: (type) => records.filter((draft) => draft.type === type),
    setServer(name, spec) {
      resources.set(name, { resource: { kind: 'mcp', id: `res_${name}`, name, labels: {} }, spec: mcpServerSpec.parse(spec) })
    },
    dropServer(name) {
      resources.delete(name)
    },
    setRole(role) {
      state = stateOf(role, state.epoch + 1)
      guard.review()
    },
    get waiting() {
      return waiting
    },
    asked: async () => (await book.list({ kind: 'call' })).reverse(),
    async decide(id, verdict, reason) {
      const now = clock.now()
      await store.write(async (trx) => {
        const before = await book.find(id, trx)
        const vote = {
          identityId: 'usr_dana',
          verdict: verdict === 'approved' ? 'approve' : 'deny',
          how: 'test',
          at: now,
          sessionId: 'ses_dana',
        } as const
        await book.vote(trx, before!, { ...vote, ...(reason === undefined ? {} : { reason }) })
        await book.change(trx, before!, { state: verdict, decided_at: now, decided_by: 'usr_dana', expires_at: now + 900_000 })
      })
      const request = (await book.find(id))!
      changes.tell({ type: verdict, request })
    },
    cut(name, code = 'locked') {
      sessions.get(name)?.cutAll(new ChaperoneError(code, 'A lock stops this.'))
    },
    post: (name, message, headers = {}) =>
      fetch(`${address}/mcp/${name}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers },
        body: typeof message === 'string' || message instanceof Uint8Array ? message : JSON.stringify(message),
      }),
    async close() {
      await gateway.close()
      isOver = true
      changes.close()
      server.closeAllConnections()
      server.close()
      if (!world.store) await store.close()
      rmSync(dataDir, { recursive: true, force: true })
      rmSync(`${dataDir}.root-key`)
      rmSync(`${dataDir}.own-root-key`, { force: true })
    },
  }
}

export async function listen(server: Server): Promise<string> {
  // A pooled connection that the server gives up while a request is on its way is an error of nobody.
  server.keepAliveTimeout = 0
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Resolves when `check` holds; asked again whenever the loop turns, for at most `ms`. For what happens in other processes. */
export async function eventually(check: () => boolean, what: string, ms = 30_000): Promise<void> {
  const end = performance.now() + ms
  while (!check()) {
    if (performance.now() > end) throw new Error(`never happened: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** The handshake by hand. Returns the headers of the session it opened. */
export async function openSession(
  given: Harness,
  server: string,
  headers: Record<string, string> = {},
  version = '2025-11-25',
): Promise<Record<string, string>> {
  const response = await given.post(server, initialize(version), headers)
  const text = await response.text()
  const id = response.headers.get('mcp-session-id')
  if (response.status !== 200 || id === null) throw new Error(`no session: ${response.status} ${text}`)
  const session = { ...headers, 'mcp-session-id': id, 'mcp-protocol-version': version }
  await (await given.post(server, { jsonrpc: '2.0', method: 'notifications/initialized' }, session)).text()
  return session
}

export const initialize = (protocolVersion = '2025-11-25') => ({
  jsonrpc: '2.0',
  id: 'init',
  method: 'initialize',
  params: { protocolVersion, capabilities: {}, clientInfo: { name: 'test', version: '1' } },
})

// biome-ignore lint/suspicious/noExplicitAny: what a test looks into is not worth a type
export type Json = any

/** The one JSON-RPC response in a body, be it JSON or a stream of events. */
export async function answerOf(response: Response): Promise<Json> {
  const text = await response.text()
  if (!response.headers.get('content-type')?.includes('event-stream')) return JSON.parse(text)
  const messages = text
    .split('\n\n')
    .flatMap((event) => event.split('\n').filter((line) => line.startsWith('data: ')))
    .map((line) => JSON.parse(line.slice(6)))
  return messages.find((message) => !('method' in message))
}

/** Approvals of these tests are made in the store, by somebody who may. */
const DANA_ALONE: Pick<Voters, 'askers' | 'stillCounting'> = {
  askers: async () => (request) => ({ ...request, person: () => undefined }),
  stillCounting: () => [{ id: 'usr_dana', kind: 'user', name: 'dana', links: 1, roles: ['dba', 'security'], approves: true }],
}
