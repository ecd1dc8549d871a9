import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import type { Draft } from '../audit/record.ts'
import { openPinBook } from '../catalog/pin-book.ts'
import { definitionOf } from '../catalog/pins.ts'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { describeMcp } from '../gateways/mcp/describe.ts'
import { mcpVocabulary } from '../gateways/mcp/rules.ts'
import { clientOf } from '../identity/delegation/client.fixture.ts'
import { createIdentity, setIdentityState } from '../identity/directory.ts'
import { makeLock } from '../identity/locks.ts'
import { openSessions } from '../identity/sessions.ts'
import type { Connection, LiveSession, Sessions } from '../identity/types.ts'
import { newId } from '../ids.ts'
import { decide } from '../policy/decide.ts'
import type { Resource } from '../policy/types.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { administer, chaperoneResource, chaperoneVocabulary } from './administration.ts'
import { makeGuard } from './guard.ts'
import { keepState, type StateKeeper } from './state.ts'
import { Refusal } from './types.ts'

const start = Date.UTC(2026, 10, 22, 12)
const chaperone = chaperoneResource('test.internal')
const apply = administer(chaperone, 'apply', 'apply 1 document')
const lockVerb = administer(chaperone, 'lock', 'lock')

let dir: string
let store: Store
let clock: ReturnType<typeof manualClock>
let state: StateKeeper
let sessions: Sessions
let records: Draft[]
let beforeAppend: (draft: Draft) => Promise<void>
let guard: ReturnType<typeof makeGuard>
let person: { id: string }
let leaseError: ChaperoneError | undefined
let lost: unknown[]

const document = (kind: string, name: string, labels: object, spec: object) => ({
  id: newId('res'),
  kind,
  name,
  labels: JSON.stringify(labels),
  spec: JSON.stringify(spec),
  digest: name,
  owner: null,
  applied_by: null,
  updated_at: start,
})

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chaperone-guard-'))
  clock = manualClock(start)
  store = await openStore({ dataDir: dir }, { clock })
  records = []
  lost = []
  leaseError = undefined
  beforeAppend = async () => {}
  await store.write(async (trx) => {
    person = await createIdentity(trx, { kind: 'user', name: 'dana', roles: ['ops'], source: 'document', now: start })
    const role = (name: string, spec: object) => document('role', name, {}, spec)
    await trx
      .insertInto('documents')
      .values([
        role('ops', { allow: [{ chaperone: 'any', verbs: ['apply'] }] }),
        role('asker', { ask: [{ chaperone: 'any', verbs: ['lock'] }] }),
        role('office', { when: { hours: '08:00-13:00', zone: 'UTC' }, allow: [{ chaperone: 'any', verbs: ['lock'] }] }),
      ])
      .execute()
  })
  state = await keepState(store.db, [chaperoneVocabulary, mcpVocabulary], await store.epoch())
  const audit = {
    append: async (draft: Draft) => {
      await beforeAppend(draft)
      return { id: 'rec', seq: records.push(draft) }
    },
    claim: async () => assert.fail('no approval is used here'),
  }
  sessions = openSessions({ store, clock, audit: { append: async () => ({ id: '', seq: 0 }) }, raised: async () => {}, mayAct: async () => {} })
  guard = makeGuard({
    state,
    audit,
    clock,
    lease: {
      ensure: async () => {
        if (leaseError) throw leaseError
      },
    },
    outcomeLost: (error) => lost.push(error),
  })
})

afterEach(async () => {
  await store.close()
  rmSync(dir, { recursive: true })
})

async function sessionOf(identityId: string): Promise<LiveSession> {
  const chain = [{ identity: identityId }]
  const { id } = await sessions.start({ identityId, chain, how: 'issue', lifeMs: 3_600_000 })
  return sessions.open({
    identityId,
    kind: 'user',
    name: 'dana',
    credentialId: 'crd_1',
    sessionId: id,
    chain,
    notAfter: start + 3_600_000,
    proof: 'mtls',
  })
}

/** Changes the store, raises the epoch and reviews, as the lease's listener does. */
async function reduce(change: Parameters<Store['reduce']>[0]): Promise<void> {
  const { epoch } = await store.reduce(change)
  await state.refresh(epoch)
  guard.review()
}

const code = (expected: string) => (error: unknown) => error instanceof ChaperoneError && error.code === expected
const types = () => records.map((record) => record.type)

test('rule 3: the intent is recorded before there is a permit, the outcome after', async () => {
  const session = await sessionOf(person.id)
  let permitted = false
  let release = () => {}
  beforeAppend = () => new Promise((done) => (release = done))
  const admitted = guard.admit(session, apply).then((permit) => {
    permitted = true
    return permit
  })
  await new Promise((turn) => setImmediate(turn))
  assert.equal(permitted, false, 'no permit while the intent is being written')
  beforeAppend = async () => {}
  release()
  const permit = await admitted
  guard.settle(permit, { status: 'ok', facts: { changes: 1 } })
  guard.settle(permit, { status: 'failed' })
  await new Promise((turn) => setImmediate(turn))
  assert.deepEqual(types(), ['action.intent', 'action.outcome'], 'and a permit is settled once')
  assert.equal(records[1]?.permit, permit.id)
  assert.equal(guard.open, 0)
})

test('rule 3: if it cannot be recorded, it does not happen', async () => {
  const session = await sessionOf(person.id)
  beforeAppend = async () => {
    throw new ChaperoneError('audit_unavailable', 'The disk is full.')
  }
  await assert.rejects(guard.admit(session, apply), code('audit_unavailable'))
  await assert.rejects(guard.admit(session, lockVerb), code('audit_unavailable'), 'nor is a refusal given out unrecorded')
  assert.equal(guard.open, 0)
})

test('rule 1: what no role allows is refused, and the refusal is recorded', async () => {
  const session = await sessionOf(person.id)
  await assert.rejects(guard.admit(session, lockVerb), (error) => error instanceof Refusal && error.decision.reason === 'no_rule')
  assert.deepEqual(types(), ['action.refused'])
  assert.equal(records[0]?.decision?.reason, 'no_rule')
})

test('rule 1: a node that cannot prove that it is up to date refuses everything', async () => {
  const session = await sessionOf(person.id)
  leaseError = new ChaperoneError('lease_lapsed', 'This node cannot prove that it knows the latest changes.')
  await assert.rejects(guard.admit(session, apply), code('lease_lapsed'))
})

test('rule 12: until approvals exist, nothing runs by one: ask refuses with approval_unavailable', async () => {
  await reduce((trx) => trx.updateTable('identities').set({ roles: '["asker"]' }).where('id', '=', person.id).execute())
  await assert.rejects(guard.admit(await sessionOf(person.id), lockVerb), code('approval_unavailable'))
})

test('rule 7: what a client inherits from its person administers nothing', async () => {
  const { agent, delegationId } = await clientOf(store, { id: person.id, name: 'dana' }, 'claude-code', start)
  const chain = [{ identity: person.id }, { identity: agent.id, delegation: delegationId }]
  await state.see(chain)
  const { id } = await sessions.start({ identityId: agent.id, chain, how: 'client', lifeMs: 3_600_000 })
  const session = await sessions.open({
    identityId: agent.id,
    kind: 'agent',
    name: 'dana/claude-code',
    credentialId: 'crd_1',
    sessionId: id,
    chain,
    notAfter: start + 3_600_000,
    proof: 'mtls',
  })
  await assert.rejects(guard.admit(session, apply), code('not_found'))
})

test('rule 6: a lock aborts a permit that is out, and refuses the next', async () => {
  const session = await sessionOf(person.id)
  const permit = await guard.admit(session, apply)
  await reduce((trx) => makeLock(trx, { kind: 'identity', target: person.id, reason: 'stop', now: start }))
  assert.equal(permit.signal.aborted, true)
  assert.equal(permit.signal.reason.code, 'locked')
  await assert.rejects(guard.admit(session, apply), code('locked'))
})

test('rule 6: a lock that comes while the intent is being written still stops the action, and the record says so', async () => {
  const session = await sessionOf(person.id)
  beforeAppend = async (draft) => {
    beforeAppend = async () => {}
    if (draft.type === 'action.intent') await reduce((trx) => makeLock(trx, { kind: 'session', target: session.id, reason: 'stop', now: start }))
  }
  await assert.rejects(guard.admit(session, apply), code('locked'))
  assert.deepEqual(types(), ['action.intent', 'action.outcome'])
  assert.deepEqual(records[1]?.outcome, { status: 'refused', reason: 'locked' })
})

test('rule 6: who wants to be told is told once when his permit is cut, by a lock or with the connection, and not after it is settled', async () => {
  const session = await sessionOf(person.id)
  const connection = session.connect('https', { until: start + 1000 })
  const told: unknown[] = []
  const admission = { connection, cut: (reason: unknown) => told.push((reason as ChaperoneError).code) }
  const [over, out] = [await guard.admit(session, apply, admission), await guard.admit(session, apply, admission)]
  guard.settle(over, { status: 'ok' })
  await reduce((trx) => makeLock(trx, { kind: 'session', target: session.id, reason: 'stop', now: start }))
  assert.deepEqual(told, ['locked'])
  clock.advance(1000)
  assert.equal(connection.signal.aborted, true)
  assert.deepEqual(told, ['locked'], 'the end of the connection is not told as well')
  assert.equal((out.signal.reason as ChaperoneError).code, 'locked')
  assert.equal(over.signal.aborted, false)
})

test('rule 4: who wants to be told is told of every permit that ends with its connection', async () => {
  const session = await sessionOf(person.id)
  const connection = session.connect('https', { until: start + 1000 })
  const told: unknown[] = []
  for (let i = 0; i < 2; i++) await guard.admit(session, apply, { connection, cut: (reason) => told.push((reason as ChaperoneError).code) })
  clock.advance(1000)
  assert.deepEqual(told, ['credential_expired', 'credential_expired'])
})

test('rule 6: a disabled identity has no permit any more, and gets none', async () => {
  const session = await sessionOf(person.id)
  const permit = await guard.admit(session, apply)
  await reduce((trx) => setIdentityState(trx, person.id, 'disabled', start))
  assert.equal(permit.signal.reason.code, 'identity_disabled')
  await assert.rejects(guard.admit(session, apply), code('identity_disabled'))
})

test('rule 6: a role that is taken away ends what it allowed (peers R33)', async () => {
  const session = await sessionOf(person.id)
  const permit = await guard.admit(session, apply)
  await reduce((trx) => trx.updateTable('identities').set({ roles: '[]' }).where('id', '=', person.id).execute())
  assert.equal(permit.signal.aborted, true)
})

test('rule 4: a cut connection aborts its permits, and one that is cut while the intent is written gets none', async () => {
  const session = await sessionOf(person.id)
  const connection = session.connect('https', { until: start + 1000 })
  const permit = await guard.admit(session, apply, { connection })
  beforeAppend = async () => clock.advance(1000)
  await assert.rejects(guard.admit(session, apply, { connection }), code('credential_expired'))
  assert.equal(permit.signal.reason.code, 'credential_expired')
})

test('rule 4: a connection whose timer is late, as on a machine that slept, gets no permit past its end', async () => {
  const sleeping = openSessions({
    store,
    clock: { now: clock.now, at: () => () => {} },
    audit: { append: async () => ({ id: '', seq: 0 }) },
    raised: async () => {},
    mayAct: async () => {},
  })
  const { id, principal } = await sessionOf(person.id)
  const session = await sleeping.open({ ...principal, sessionId: id })
  const connection = session.connect('postgres', { until: start + 1000 })
  clock.advance(1000)
  await assert.rejects(guard.admit(session, apply, { connection }), code('credential_expired'))
  assert.deepEqual(types(), ['action.refused'])
})

test('a permit ends at the edge of the hours in which its role holds', async () => {
  await reduce((trx) => trx.updateTable('identities').set({ roles: '["office"]' }).where('id', '=', person.id).execute())
  const permit = await guard.admit(await sessionOf(person.id), lockVerb)
  clock.advance(3_599_999 - 1)
  assert.equal(permit.signal.aborted, false)
  clock.advance(2)
  assert.equal(permit.signal.aborted, true)
})

test('an outcome that cannot be recorded is reported to the operator', async () => {
  const permit = await guard.admit(await sessionOf(person.id), apply)
  beforeAppend = async () => {
    throw new ChaperoneError('audit_unavailable', 'The disk is full.')
  }
  guard.settle(permit, { status: 'ok' })
  await new Promise((turn) => setImmediate(turn))
  assert.equal(lost.length, 1)
})

/** A resource of a kind, with a role `demo` that reaches it by its label. */
async function resourceWithLabel(name: string): Promise<Resource> {
  await reduce(async (trx) => {
    await trx
      .insertInto('documents')
      .values([
        document('mcp', name, { env: 'demo' }, {}),
        document('role', 'demo', {}, { allow: [{ mcp: { labels: { env: 'demo' } }, tools: 'any' }] }),
      ])
      .execute()
    await trx.updateTable('identities').set({ roles: '["demo"]' }).where('id', '=', person.id).execute()
  })
  return state.current().find('mcp', name)!.resource
}

const call = (resource: Resource) => describeMcp({ resource, spec: { tools: {}, trusted: false } }, { method: 'tools/call', params: { name: 'any' } })

test('rule 6: a resource that gets another label is out of reach at once, also over what was opened on the old one', async () => {
  const resource = await resourceWithLabel('files')
  const session = await sessionOf(person.id)
  const permit = await guard.admit(session, call(resource))
  await reduce((trx) => trx.updateTable('documents').set({ labels: '{"env":"prod"}' }).where('name', '=', 'files').execute())
  assert.equal(permit.signal.aborted, true)
  await assert.rejects(guard.admit(session, call(resource)), (error) => error instanceof Refusal && error.decision.reason === 'no_rule')
})

test('rule 6: a resource that was deleted is out of reach at once, and one that took its name is not it', async () => {
  const resource = await resourceWithLabel('files')
  const session = await sessionOf(person.id)
  const permit = await guard.admit(session, call(resource))
  await reduce((trx) => trx.deleteFrom('documents').where('name', '=', 'files').execute())
  assert.equal(permit.signal.aborted, true)
  await assert.rejects(guard.admit(session, call(resource)), code('not_found'))
  await resourceWithLabel2('files')
  await assert.rejects(guard.admit(session, call(resource)), code('not_found'))
  assert.equal(records.at(-1)?.type, 'action.refused')

  async function resourceWithLabel2(name: string) {
    await reduce((trx) =>
      trx
        .insertInto('documents')
        .values({
          id: newId('res'),
          kind: 'mcp',
          name,
          labels: '{"env":"demo"}',
          spec: '{}',
          digest: '',
          owner: null,
          applied_by: null,
          updated_at: start,
        })
        .execute(),
    )
  }
})

test('rule 1: a lease that runs out while the intent is being written gives no permit: others have stopped waiting for this node', async () => {
  const session = await sessionOf(person.id)
  beforeAppend = async () => {
    leaseError = new ChaperoneError('lease_lapsed', 'This node cannot prove that it knows the latest changes.')
  }
  await assert.rejects(guard.admit(session, apply), code('lease_lapsed'))
  assert.deepEqual(types(), ['action.intent', 'action.outcome'])
  assert.deepEqual(records[1]?.outcome, { status: 'refused', reason: 'lease_lapsed' })
  assert.equal(guard.open, 0)
})

test('rule 8: a refusal because a link is gone is recorded like any other', async () => {
  const session = await sessionOf(person.id)
  await reduce((trx) => setIdentityState(trx, person.id, 'disabled', start))
  await assert.rejects(guard.admit(session, apply), code('identity_disabled'))
  assert.deepEqual(types(), ['action.refused'])
  assert.equal(records[0]?.decision?.reason, 'identity_disabled')
})

test('rule 3: an identity disabled while the intent is being written leaves an outcome behind', async () => {
  const session = await sessionOf(person.id)
  beforeAppend = async (draft) => {
    beforeAppend = async () => {}
    if (draft.type === 'action.intent') await reduce((trx) => setIdentityState(trx, person.id, 'disabled', start))
  }
  await assert.rejects(guard.admit(session, apply), code('identity_disabled'))
  assert.deepEqual(types(), ['action.intent', 'action.outcome'])
  assert.deepEqual(records[1]?.outcome, { status: 'refused', reason: 'identity_disabled' })
})

/** The store, where the next read of a table waits for some work, before it is made or before it answers. */
function slowed(table: string, when: 'before' | 'after', work: () => Promise<unknown>): { readonly db: Store['db']; arm(): void } {
  let once = false
  const slow = (query: object): object =>
    new Proxy(query, {
      get(target, key) {
        const value = Reflect.get(target, key) as unknown
        if (typeof value !== 'function') return value
        if (key !== 'execute') return (...args: unknown[]) => slow(value.apply(target, args))
        return async () => {
          const mine = once
          once = false
          if (mine && when === 'before') await work()
          const rows: unknown = await value.call(target)
          if (mine && when === 'after') await work()
          return rows
        }
      },
    })
  const db = new Proxy(store.db, {
    get: (target, key) =>
      key === 'selectFrom'
        ? (name: string) => (name === table && once ? slow(target.selectFrom(name as 'documents')) : target.selectFrom(name as 'documents'))
        : (Reflect.get(target, key) as unknown),
  })
  const arm = () => {
    once = true
  }
  return { db, arm }
}

test('rule 6: an identity that is disabled while it is looked up is not brought back to life by the answer', async () => {
  const { db, arm } = slowed('identities', 'after', async () => {
    const { epoch } = await store.reduce((trx) => setIdentityState(trx, late.id, 'disabled', start))
    await keeper.refresh(epoch)
  })
  const keeper = await keepState(db, [chaperoneVocabulary], await store.epoch())
  const late = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'late', roles: ['ops'], source: 'document', now: start }))
  arm()
  await keeper.see([{ identity: late.id }])
  assert.throws(() => keeper.current().links([{ identity: late.id }], start), code('identity_disabled'))
})

test('rule 6: rights are read as of one moment: an old role and a new holder of it never meet', async () => {
  // In one change `ops` loses its verbs and somebody else gets it.
  const newcomer = await store.write((trx) => createIdentity(trx, { kind: 'user', name: 'newcomer', roles: [], source: 'document', now: start }))
  const { db, arm } = slowed('identities', 'before', () =>
    store.reduce(async (trx) => {
      await trx.updateTable('documents').set({ spec: '{"allow":[]}' }).where('name', '=', 'ops').execute()
      await trx.updateTable('identities').set({ roles: '["ops"]' }).where('id', '=', newcomer.id).execute()
    }),
  )
  arm()
  const mixed = await keepState(db, [chaperoneVocabulary], await store.epoch())
  const links = mixed.current().links([{ identity: newcomer.id }], start)
  const { verdict } = decide(mixed.current().policy, { links, action: apply, now: start, session: { id: 's', startedAt: start, how: 'login' } })
  assert.equal(verdict, 'deny')
})

test('a tool whose definition waits for an administrator is refused to who could call it, and says nothing to others (rule 8)', async () => {
  const resource: Resource = { kind: 'mcp', id: newId('res'), name: 'files', labels: {} }
  const define = (text: string) => definitionOf(text, JSON.stringify(text))
  let carlaId = ''
  await store.reduce(async (trx) => {
    const row = { ...document('mcp', 'files', {}, { command: ['server'] }), id: resource.id }
    const role = document('role', 'caller', {}, { allow: [{ mcp: 'files', tools: ['send'] }], ask: [{ mcp: 'files', tools: ['read'] }] })
    await trx.insertInto('documents').values([row, role]).execute()
    carlaId = (await createIdentity(trx, { kind: 'user', name: 'carla', roles: ['caller'], source: 'document', now: start })).id
  })
  const book = openPinBook({
    store,
    clock,
    audit: { append: async () => ({ id: 'rec', seq: 0 }) },
    current: (id) => state.current().pins(id),
    raised: async (epoch) => void (await state.refresh(epoch)),
  })
  const see = (text: string) =>
    book.observe(
      resource,
      ['send', 'read'].map((name) => ({ kind: 'tool' as const, name, definition: define(text) })),
      {},
    )
  await state.refresh(await store.epoch())
  const carla = await sessionOf(carlaId)
  const dana = await sessionOf(person.id)
  const call = (name: string) =>
    describeMcp({ resource, spec: { tools: {}, trusted: false } }, { method: 'tools/call', params: { name, arguments: {} } })

  await see('one')
  const permit = await guard.admit(carla, call('send'))
  assert.equal(records.find(({ type }) => type === 'action.intent')?.action?.definition, define('one').sha256)
  await see('two')
  guard.review()
  assert.equal((permit.signal.reason as ChaperoneError).code, 'quarantined')
  for (const tool of ['send', 'read']) {
    const { verdict, reason, visible, message } = guard.judge(carla, call(tool))
    assert.deepEqual([verdict, reason, visible], ['deny', 'quarantined', true])
    assert.match(message, /an administrator must look at it \(chaperone mcp pins files\)/)
  }
  assert.equal(guard.judge(carla, call('other')).reason, 'no_rule')
  assert.deepEqual([guard.judge(dana, call('send')).reason, guard.judge(dana, call('send')).visible], ['no_rule', false])
})

test('rule 6: of all permits that one lock cuts, each client has its goodbye before the first signal aborts; what is cut is not judged again', async () => {
  const session = await sessionOf(person.id)
  const connection = session.connect('https')
  const seen: string[] = []
  const admit = async (i: number, on: { readonly connection?: Connection }) => {
    const permit = await guard.admit(session, apply, {
      ...on,
      cut(reason) {
        seen.push(`goodbye ${i} ${(reason as ChaperoneError).code}`)
        if (i === 1) throw new Error('the first one fails')
      },
    })
    permit.signal.addEventListener('abort', () => seen.push(`over ${i}`))
  }
  for (const i of [0, 1, 2]) await admit(i, {})
  await admit(3, { connection })
  sessions.review(() => new ChaperoneError('locked', 'A lock stops this.'))
  assert.deepEqual(seen, ['goodbye 3 locked', 'over 3'], 'with its connection')
  seen.length = 0
  await reduce((trx) => makeLock(trx, { kind: 'identity', target: person.id, reason: 'incident 7', now: clock.now() }))
  assert.deepEqual(seen, ['goodbye 0 locked', 'goodbye 1 locked', 'goodbye 2 locked', 'over 0', 'over 1', 'over 2'])
  assert.equal((lost[0] as Error).message, 'the first one fails', 'one that fails keeps nobody else')
})
