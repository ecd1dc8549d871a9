import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { administer, chaperoneResource, chaperoneVocabulary, PRESETS, type Verb } from '../access/administration.ts'
import { makeGuard } from '../access/guard.ts'
import { openRequests } from '../access/requests/requests.ts'
import { keepState } from '../access/state.ts'
import { createMasker } from '../audit/mask.ts'
import type { Claim, Draft, Envelope } from '../audit/record.ts'
import { openAudit } from '../audit/writer.ts'
import { openAuthority } from '../ca/authority.ts'
import { makeCsr } from '../ca/make-csr.ts'
import type { McpServerSpec } from '../catalog/mcp-server.ts'
import { openPinBook } from '../catalog/pin-book.ts'
import type { SecretSpec } from '../catalog/secret.ts'
import { manualClock } from '../clock.ts'
import { digestOf } from '../documents/diff.ts'
import { documentKinds } from '../documents/kinds.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { describeCall } from '../gateways/mcp/describe.ts'
import type { Scanner } from '../gateways/mcp/offers/scan.ts'
import { mcpVocabulary } from '../gateways/mcp/rules.ts'
import { postgresVocabulary } from '../gateways/postgres/rules.ts'
import { databaseSetup } from '../gateways/postgres/setup/setup.ts'
import { createIdentity, findIdentity } from '../identity/directory.ts'
import { noJoining } from '../identity/joining/joining.fixture.ts'
import { lockFor } from '../identity/locks.ts'
import { openSessions } from '../identity/sessions.ts'
import { openTokens } from '../identity/tokens.ts'
import type { ChainLink, LiveSession, StartSession } from '../identity/types.ts'
import { newId } from '../ids.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import { makeThrottle } from '../network/throttle.ts'
import { openNotifications } from '../notify/notifications.ts'
import { openBrowserSignin } from '../signin/browser.ts'
import { openDeviceSignin } from '../signin/device.ts'
import { openSignin } from '../signin/enrol.ts'
import { openPasskeys } from '../signin/passkey.ts'
import { openStanding } from '../signin/standing.ts'
import { startLease } from '../store/lease.ts'
import { openStore } from '../store/open.ts'
import { openAssertions, SVID_PATH } from '../vault/assertions.ts'
import { openCredentialNotes } from '../vault/credential-notes.ts'
import { openLogins } from '../vault/oauth.ts'
import { openReferences } from '../vault/references.ts'
import { openVault } from '../vault/secrets.ts'
import { createApi } from './app.ts'
import type { ApiParts } from './parts.ts'

const NAME = 'test.internal'

/** A certificate request of a fresh key. */
export function csr(): string {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return makeCsr(privateKey, publicKey)
}

/** For tests of this room: the API over real parts and a store in a temporary folder. dana is the administrator, boris a developer, ci an agent that applies. */
export async function openHouse(t: TestContext, options: { readonly record?: 'real'; readonly scan?: Scanner } = {}) {
  const dataDir = await mkdtemp(join(tmpdir(), 'api-'))
  const clock = manualClock(Date.UTC(2026, 10, 22, 12))
  const store = await openStore({ dataDir }, { clock })
  const keyring = await openKeyring(store, await loadRootKey({ store, dataDir, createAt: `${dataDir}.root-key` }), clock)
  const nodeId = newId('nod', clock.now())
  const lease = await startLease(store, { nodeId, address: '', clock })
  const ca = await openAuthority(store, keyring, { clock, trustDomain: NAME })
  const vocabularies = [chaperoneVocabulary, mcpVocabulary, postgresVocabulary]

  // The real writer is another thread with its own connection to the store.
  const writer = options.record === 'real' ? await openAudit(store, { nodeId, keyring, clock, trustDomain: NAME }) : undefined
  const records: Draft[] = []
  const watchers = new Set<(envelope: Envelope) => void>()
  const audit = {
    fail: undefined as ChaperoneError | undefined,
    async append(draft: Draft) {
      if (audit.fail) throw audit.fail
      records.push(draft)
      const id = draft.id ?? newId('rec', clock.now())
      for (const see of watchers) see({ ...draft, v: 1, id, at: clock.now(), node: nodeId, seq: records.length } as Envelope)
      return { id, seq: records.length }
    },
    async claim(draft: Draft, { request, digest, permit }: Claim) {
      const used = await store.db
        .updateTable('requests')
        .set({ state: 'used', permit, node_id: nodeId })
        .where('id', '=', request)
        .where('state', '=', 'approved')
        .where('digest', '=', digest)
        .where('expires_at', '>', clock.now())
        .executeTakeFirstOrThrow()
      if (used.numUpdatedRows !== 1n) throw new ChaperoneError('approval_used', 'It was used.')
      return audit.append(draft)
    },
    addSecrets: () => {},
    watch(see: (envelope: Envelope) => void) {
      watchers.add(see)
      return () => watchers.delete(see)
    },
    checkpoint: async () => ({ size: records.length, note: 'note' }),
    close: async () => {},
  }

  await store.write(async (trx) => {
    for (const { name, spec } of PRESETS) {
      const document = { kind: 'role', name, labels: {}, spec: spec as unknown as Record<string, unknown> }
      const id = newId('res', clock.now())
      await trx
        .insertInto('documents')
        .values({
          id,
          kind: 'role',
          name,
          labels: '{}',
          spec: JSON.stringify(spec),
          digest: digestOf(document),
          owner: null,
          applied_by: null,
          updated_at: clock.now(),
        })
        .execute()
    }
    await createIdentity(trx, { kind: 'user', name: 'dana', roles: ['admin'], source: 'bootstrap', now: clock.now() })
    const boris = await createIdentity(trx, { kind: 'user', name: 'boris', source: 'bootstrap', now: clock.now() })
    await createIdentity(trx, { kind: 'agent', name: 'ci', ownerId: boris.id, roles: ['admin'], source: 'document', now: clock.now() })
  })

  const state = await keepState(store.db, vocabularies, await store.epoch())
  const sessions = openSessions({
    store,
    audit: writer ?? audit,
    clock,
    raised: async (epoch) => void (await lease.confirmed(epoch)),
    async mayAct(session) {
      await state.see(session.principal.chain)
      const links = state.current().links(session.principal.chain, clock.now())
      const lock = lockFor(state.current().locks, { now: clock.now(), sessionId: session.id, links })
      if (lock) throw new ChaperoneError('locked', `A lock stops this: ${lock.reason}`)
    },
  })
  const link = (request: string) => `https://${NAME}:7444/requests/${request}`
  const chaperone = chaperoneResource(NAME)
  let isOver = false
  const failed = (error: unknown) => {
    // What is still under way when the store closes is nobody's fault.
    if (!isOver) throw error
  }
  const requests = openRequests({
    store,
    state,
    audit: writer ?? audit,
    clock,
    chaperone,
    link,
    masker: createMasker(),
    raised: async (epoch) => void (await lease.confirmed(epoch)),
    failed,
  })
  const guard = makeGuard({
    state,
    lease,
    audit: writer ?? audit,
    clock,
    calls: requests.calls,
    outcomeLost: failed,
  })
  lease.onEpoch(async (epoch) => {
    await state.refresh(epoch)
    guard.review()
  })
  const logged: ChaperoneError[] = []
  const vault = openVault(store, keyring, clock)
  const notifications = openNotifications({
    store,
    clock,
    audit: writer ?? audit,
    documents: () =>
      state
        .current()
        .list('notifier')
        .map(({ resource, spec }) => ({ name: resource.name, spec })),
    reveal: vault.reveal,
    voter: () => undefined,
    mayApply: () => false,
    link,
    mask: (text) => text,
    counted: () => {},
    failed: (error) => void logged.push(toChaperoneError(error)),
  })
  const browsers = openBrowserSignin({ store, keyring, sessions, audit: writer ?? audit, clock })
  const signedIn = openStanding({ store, clock, documents: () => [] })
  const parts: ApiParts = {
    guard,
    sessions,
    store,
    lease,
    state,
    audit: writer ?? audit,
    keyring,
    ca,
    clock,
    chaperone,
    vocabularies,
    trustDomain: NAME,
    vault,
    references: openReferences({
      specOf: (name) => state.current().find('secret', name)?.spec as SecretSpec | undefined,
      kept: [],
      env: {},
      clock,
      see: () => {},
    }),
    notes: openCredentialNotes(store, clock, (error) => void logged.push(toChaperoneError(error))),
    notifications,
    logins: openLogins({ store, keyring, clock, audit, reveal: async () => 'secret' }),
    requests,
    link,
    browsers,
    devices: openDeviceSignin({ store, ca, sessions, audit: writer ?? audit, clock, ...signedIn }),
    passkeys: openPasskeys({ store, sessions, browsers, audit: writer ?? audit, clock, trustDomain: NAME, ...signedIn }),
    places: { web: 'localhost:7444' },
    builtinServers: () => [],
    databases: databaseSetup({ ca, clock, connectMs: 5_000, reveal: async () => 'secret' }),
    scan: options.scan ?? (() => Promise.reject(new ChaperoneError('unsupported', 'There is no scanner in this test.'))),
    pins: openPinBook({
      store,
      audit: writer ?? audit,
      clock,
      current: (id) => state.current().pins(id),
      async raised(epoch) {
        lease.noticed(epoch)
        await state.refresh(epoch)
      },
    }),
    signin: openSignin({ store, keyring, ca, sessions, audit: writer ?? audit, clock, trustDomain: NAME, joining: noJoining, ...signedIn }),
    guesses: makeThrottle(clock),
    tokens: openTokens({ keyring, clock, trustDomain: NAME }),
    svids: openAssertions({ keyring, clock, places: { web: 'localhost:7444' }, purpose: 'svids', path: SVID_PATH }),
    documents: { store, audit: writer ?? audit, lease, clock, kinds: documentKinds(vocabularies), vocabularies, chaperone },
    listeners: () => ({ data: ':7443', web: ':7444', postgres: ':5432' }),
    describe: {
      chaperone: (ask) => administer(chaperone, ask.verb as Verb, String(ask.verb)),
      mcp(ask) {
        const found = state.current().find('mcp', ask.resource ?? '')
        if (!found) throw new ChaperoneError('not_found', `There is no mcp resource ${ask.resource}.`)
        return describeCall({
          resource: found.resource,
          spec: found.spec as McpServerSpec,
          tool: ask.tool ?? '',
          args: ask.args as Record<string, unknown>,
        })
      },
    },
    log: (error) => void logged.push(error),
  }
  const api = createApi(parts)
  t.after(async () => {
    isOver = true
    api.close()
    requests.close()
    await notifications.close()
    await writer?.close()
    await lease.stop()
    await ca.close()
    await store.close()
    await rm(dataDir, { recursive: true })
    await rm(`${dataDir}.root-key`)
  })

  /** A session of this identity, as if it had shown a certificate of three minutes. */
  async function signIn(
    name: string,
    more: Partial<StartSession> & { readonly ttlMs?: number; readonly proof?: 'mtls' | 'bearer' } = {},
  ): Promise<LiveSession> {
    const identity = await findIdentity(store.db, { name })
    const { ttlMs = 180_000, proof = 'mtls', ...rest } = more
    const chain: readonly ChainLink[] = more.chain ?? [{ identity: identity!.id }]
    await state.see(chain)
    const { id } = await sessions.start({ identityId: identity!.id, chain, how: 'login', lifeMs: 8 * 3_600_000, factorGiven: true, ...rest })
    return sessions.open({
      identityId: identity!.id,
      kind: identity!.kind,
      name,
      credentialId: newId('crd', clock.now()),
      sessionId: id,
      chain,
      notAfter: clock.now() + ttlMs,
      proof,
    })
  }

  async function call(session: LiveSession | undefined, method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
    const request = new Request(`https://chaperone.test:7443${path}`, {
      method,
      ...(body === undefined
        ? { headers }
        : { body: typeof body === 'string' ? body : JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } }),
    })
    return api.fetch(request, session && { session }, '192.0.2.1')
  }

  /** Status and parsed answer; `error` is the code of a refusal. */
  async function ask<T = Record<string, unknown>>(session: LiveSession | undefined, method: string, path: string, body?: unknown) {
    const response = await call(session, method, path, body)
    const value = (await response.json()) as T & { error?: { code: string; message: string; fix?: string; hint?: string } }
    return { status: response.status, value, code: value.error?.code }
  }

  return { api, parts, guard, store, clock, records, audit, logged, signIn, call, ask, state, sessions }
}
