import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import type { Draft } from '../audit/record.ts'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { SessionLimits } from '../policy/session-limits.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { createIdentity } from './directory.ts'
import { openSessions } from './sessions.ts'
import type { Principal, Sessions } from './types.ts'

const MINUTE = 60_000
const start = Date.UTC(2026, 10, 22, 12)

let dir: string
let store: Store
let clock: ReturnType<typeof manualClock>
let sessions: Sessions
let records: Draft[]
let stopped: ChaperoneError | undefined
let identityId: string
let lockedCredential: string | undefined
let limits: SessionLimits

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'chaperone-sessions-'))
  clock = manualClock(start)
  store = await openStore({ dataDir: dir }, { clock })
  records = []
  stopped = undefined
  lockedCredential = undefined
  limits = {}
  identityId = await store.write(async (trx) => {
    const owner = await createIdentity(trx, { kind: 'user', name: 'boris', source: 'document', now: start })
    return (await createIdentity(trx, { kind: 'agent', name: 'boris-ai', ownerId: owner.id, source: 'document', now: start })).id
  })
  sessions = openSessions({
    store,
    clock,
    audit: { append: async (draft) => ({ id: 'rec', seq: records.push(draft) }) },
    raised: async () => {},
    mayAct: async (_, credentialId) => {
      if (stopped) throw stopped
      if (credentialId === lockedCredential) throw new ChaperoneError('locked', 'x')
    },
    limitsOf: () => limits,
    limits: { sessions: 10, connectionsPerSession: 3 },
  })
})

afterEach(async () => {
  await store.close()
  rmSync(dir, { recursive: true })
})

async function principal(more: Partial<Principal> = {}, lifeMs = 60 * MINUTE): Promise<Principal> {
  const { id } = await sessions.start({ identityId, chain: [{ identity: identityId }], how: 'issue', lifeMs })
  return {
    identityId,
    kind: 'agent',
    name: 'boris-ai',
    credentialId: 'crd_1',
    sessionId: id,
    chain: [{ identity: identityId }],
    notAfter: clock.now() + 3 * MINUTE,
    proof: 'mtls',
    ...more,
  }
}

const code = (expected: string) => (error: unknown) => error instanceof ChaperoneError && error.code === expected

test('rule 4: a connection is cut at the end of the newest credential proven for its session (peers R46)', async () => {
  const session = await sessions.open(await principal())
  const connection = session.connect('postgres')
  clock.advance(3 * MINUTE - 1)
  assert.equal(connection.signal.aborted, false)
  clock.advance(1)
  assert.equal(connection.signal.aborted, true)
  assert.equal(connection.signal.reason.code, 'credential_expired')
  assert.equal(session.open, 0)
})

test('rule 4: a renewed credential of the same session moves the deadline, and nothing else does', async () => {
  const first = await principal()
  const session = await sessions.open(first)
  const connection = session.connect('postgres')
  clock.advance(2 * MINUTE)
  await sessions.open({ ...first, credentialId: 'crd_2', proof: 'bearer', notAfter: clock.now() + 10 * MINUTE })
  await sessions.open({ ...first, notAfter: start + MINUTE * 2.5 })
  assert.equal(session.provenUntil, start + 3 * MINUTE, 'neither a bearer token nor an older credential moves it')
  await sessions.open({ ...first, credentialId: 'crd_2', notAfter: clock.now() + 3 * MINUTE })
  clock.advance(2.5 * MINUTE)
  assert.equal(connection.signal.aborted, false)
  connection.assertOpen()
  clock.advance(MINUTE)
  assert.equal(connection.signal.aborted, true)
})

test('rule 4: no renewal passes the longest life of the session', async () => {
  const first = await principal({}, 4 * MINUTE)
  const session = await sessions.open(first)
  const connection = session.connect('postgres')
  await sessions.open({ ...first, notAfter: clock.now() + 60 * MINUTE })
  clock.advance(4 * MINUTE)
  assert.equal(connection.signal.aborted, true)
  await assert.rejects(sessions.open({ ...first, notAfter: clock.now() + 60 * MINUTE }), code('session_ended'))
})

test('rule 4: a request on a connection whose timer is late is refused all the same', async () => {
  const lateTimers = { now: clock.now, at: () => () => {} }
  const late = openSessions({
    store,
    clock: lateTimers,
    audit: { append: async () => ({ id: '', seq: 0 }) },
    raised: async () => {},
    mayAct: async () => {},
  })
  const session = await late.open(await principal())
  const connection = session.connect('https')
  connection.assertOpen()
  clock.advance(3 * MINUTE)
  assert.throws(() => connection.assertOpen(), code('credential_expired'))
})

test('a bearer connection ends with its own token, whatever was proven over mTLS', async () => {
  const first = await principal({ notAfter: start + 30 * MINUTE })
  const session = await sessions.open(first)
  const bearer = session.connect('https', { until: start + MINUTE })
  const mutual = session.connect('https')
  clock.advance(MINUTE)
  assert.equal(bearer.signal.aborted, true)
  assert.equal(mutual.signal.aborted, false)
})

test('rule 6: ending a session cuts its connections and refuses its credential', async () => {
  const first = await principal()
  const session = await sessions.open(first)
  const connection = session.connect('postgres')
  await sessions.end(session.id, 'logout')
  assert.equal(connection.signal.reason.code, 'session_ended')
  await assert.rejects(sessions.open(first), code('session_ended'))
  assert.deepEqual(
    records.map((record) => record.type),
    ['session.started', 'session.ended'],
  )
})

test('rule 6: ending a session ends what was made from it, and nothing else', async () => {
  const parent = await principal()
  const child = await sessions.start({
    identityId,
    chain: [{ identity: identityId }],
    how: 'client',
    lifeMs: 60 * MINUTE,
    parentId: parent.sessionId,
  })
  const other = await principal()
  const connection = (await sessions.open({ ...parent, sessionId: child.id })).connect('postgres')
  await sessions.end(parent.sessionId, 'logout')
  assert.equal(connection.signal.reason.code, 'session_ended')
  await assert.rejects(sessions.open({ ...parent, sessionId: child.id }), code('session_ended'))
  await sessions.open(other)
})

test('rule 6: nothing is made from a session that is over, and every end is recorded', async () => {
  const parent = await principal()
  const ask = { identityId, chain: [{ identity: identityId }], how: 'client', lifeMs: 60 * MINUTE, parentId: parent.sessionId } as const
  const child = await sessions.start(ask)
  await sessions.end(parent.sessionId, 'logout')
  await assert.rejects(sessions.start(ask), code('session_ended'))
  assert.deepEqual(
    records.filter((record) => record.type === 'session.ended').map((record) => record.session),
    [parent.sessionId, child.id],
  )
})

test('rule 6: a review cuts every connection of a session that may no longer act', async () => {
  const session = await sessions.open(await principal())
  const connection = session.connect('postgres')
  sessions.review((other) => (other.id === session.id ? new ChaperoneError('locked', 'A lock stops this.') : undefined))
  assert.equal(connection.signal.reason.code, 'locked')
  assert.ok(session.connect('postgres'), 'a lock can be lifted: the session itself is not over')
})

test('rule 6: of all that one review cuts, every client has its goodbye before anything is torn down, and nothing passes from then on', async () => {
  const two = [await sessions.open(await principal()), await sessions.open(await principal())]
  const seen: string[] = []
  const connections = two.flatMap((session) => [session.connect('https'), session.connect('postgres')])
  connections.forEach((connection, i) => {
    connection.onCut!((why) => {
      seen.push(`goodbye ${why.code}`)
      for (const other of connections) assert.ok(!other.signal.aborted)
      assert.throws(() => connection.assertOpen(), code('locked'))
    })
    connection.signal.addEventListener('abort', () => seen.push(`over ${i}`))
  })
  connections[3]!.onCut!(() => assert.fail('it was taken back'))()
  sessions.review(() => new ChaperoneError('locked', 'A lock stops this.'))
  assert.deepEqual(seen, [...Array(4).fill('goodbye locked'), 'over 0', 'over 1', 'over 2', 'over 3'])
})

test('a credential that does not belong to its session is refused', async () => {
  const first = await principal()
  await assert.rejects(sessions.open({ ...first, identityId: 'agt_00000000000000000000000002' }), code('credential_invalid'))
  await sessions.open(first)
  await assert.rejects(
    sessions.open({ ...first, chain: [{ identity: 'usr_1' }, { identity: first.identityId, delegation: 'dlg_1' }] }),
    code('credential_invalid'),
  )
  await assert.rejects(sessions.open({ ...first, sessionId: 'ses_unknown' }), code('credential_invalid'))
})

test('a stopped identity opens nothing, and its newer proof does not count', async () => {
  const first = await principal()
  const session = await sessions.open(first)
  stopped = new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
  await assert.rejects(sessions.open({ ...first, notAfter: start + 30 * MINUTE }), code('identity_disabled'))
  assert.equal(session.provenUntil, start + 3 * MINUTE)
})

test('rule 11: a session has a limited number of connections, and closing one makes room', async () => {
  const session = await sessions.open(await principal())
  const open = [1, 2, 3].map(() => session.connect('https'))
  assert.throws(() => session.connect('https'), code('too_many'))
  open[0]!.closed()
  open[0]!.closed()
  assert.ok(session.connect('https'))
})

test('rule 6: a session that is ended while it is being loaded is over', async () => {
  const credential = await principal()
  let looks = 0
  // The answer is under way when the session ends.
  const late = (query: object): object =>
    new Proxy(query, {
      get(target, key) {
        const value = Reflect.get(target, key) as unknown
        if (typeof value !== 'function') return value
        if (key !== 'executeTakeFirst') return (...args: unknown[]) => late(value.apply(target, args))
        return async () => {
          const row: unknown = await value.call(target)
          if (++looks === 1) await racing.end(credential.sessionId, 'killed')
          return row
        }
      },
    })
  const selectFrom = (table: 'sessions') => (looks === 0 ? late(store.db.selectFrom(table)) : store.db.selectFrom(table))
  const racing = openSessions({
    store: { db: { selectFrom }, write: store.write.bind(store), reduce: store.reduce.bind(store) } as unknown as Store,
    clock,
    audit: { append: async () => ({ id: 'rec', seq: 0 }) },
    raised: async () => {},
    mayAct: async () => {},
  })
  await assert.rejects(racing.open(credential), { code: 'session_ended' })
  assert.equal(looks, 1)
  await assert.rejects(racing.open(credential), { code: 'session_ended' })
})

const crd = () => newId('crd', clock.now())
const cut = new ChaperoneError('locked', 'A lock stops this.')

test('rule 6: a credential that is locked cuts what came in with it, and what lives on its proof; an honest one comes back', async () => {
  const old = await principal({ credentialId: crd() })
  const session = await sessions.open(old)
  const first = session.connect('postgres', { credentialId: old.credentialId })
  const bearer = session.connect('https', { until: clock.now() + MINUTE, credentialId: 'crd_token' })
  clock.advance(MINUTE)
  const stolen = { ...old, credentialId: crd(), notAfter: clock.now() + 3 * MINUTE }
  await sessions.open(stolen)
  const second = session.connect('https', { credentialId: stolen.credentialId })
  lockedCredential = stolen.credentialId
  sessions.review(
    () => undefined,
    (id) => (id === lockedCredential ? cut : undefined),
  )
  assert.equal(second.signal.reason, cut)
  assert.equal(first.signal.reason, cut, 'its deadline was moved by the stolen one')
  assert.equal(bearer.signal.aborted, true, 'it was over by itself')
  await assert.rejects(sessions.open(stolen), code('locked'))
  assert.throws(() => session.connect('https'), cut)
  await sessions.open(old)
  assert.equal(session.provenUntil, old.notAfter, 'the deadline is that of an honest one again')
  session.connect('postgres', { credentialId: old.credentialId }).assertOpen()
})

test('a lock on one credential leaves a token of its own and other credentials alone', async () => {
  const held = await principal({ credentialId: crd() })
  const session = await sessions.open(held)
  const connection = session.connect('postgres', { credentialId: held.credentialId })
  const bearer = session.connect('https', { until: clock.now() + MINUTE, credentialId: 'crd_token' })
  sessions.review(
    () => undefined,
    (id) => (id === 'crd_token' ? cut : undefined),
  )
  assert.equal(bearer.signal.reason, cut)
  assert.equal(connection.signal.aborted, false)
})

test('a credential that is renewed twice locks its session, for both who hold it, and no other (peers R64)', async () => {
  const held = await principal({ credentialId: crd() })
  const other = await sessions.open(await principal({ credentialId: crd() }))
  const session = await sessions.open(held)
  const connection = session.connect('postgres')
  clock.advance(1_000)
  const next = await sessions.renew(session, held.credentialId)
  await sessions.open({ ...held, credentialId: next, notAfter: clock.now() + 3 * MINUTE })
  clock.advance(1_000)
  await assert.rejects(sessions.renew(session, held.credentialId), code('locked'))
  assert.equal((connection.signal.reason as ChaperoneError).code, 'locked')
  await assert.rejects(sessions.renew(session, next), code('locked'), 'not even the newest')
  await sessions.renew(other, other.principal.credentialId)
  const copied = records.find((one) => one.type === 'credential.copied')
  assert.deepEqual([copied?.session, copied?.credential, copied?.actor?.name], [session.id, held.credentialId, 'boris-ai'])
  const made = records.find((one) => one.type === 'lock.made')
  assert.deepEqual([made?.data?.kind, made?.data?.target, made?.data?.of], ['session', session.id, 'boris-ai'])
})

test('showing the newest credential on another node is enough: the one before is over for renewing', async () => {
  const held = await principal({ credentialId: crd() })
  const next = await sessions.renew(await sessions.open(held), held.credentialId)
  const elsewhere = openSessions({
    store,
    clock,
    audit: { append: async () => ({ id: '', seq: 0 }) },
    raised: async () => {},
    mayAct: async () => {},
  })
  await elsewhere.open({ ...held, credentialId: next })
  clock.advance(1_000)
  await assert.rejects(sessions.renew(await sessions.open(held), held.credentialId), code('locked'))
})

test('a role limits how many sessions there are at once; a person is told which one to end', async () => {
  limits = { concurrent: 2 }
  const first = await principal()
  clock.advance(1)
  await principal()
  await assert.rejects(principal(), (error: unknown) => {
    assert.ok(error instanceof ChaperoneError && error.code === 'too_many')
    assert.match(error.fix ?? '', new RegExp(`chaperone sessions kill ${first.sessionId}`))
    return true
  })
  assert.equal(records.filter((one) => one.type === 'session.started').length, 2, 'no record of a session that never was')
  await sessions.end(first.sessionId, 'killed')
  await principal()
  limits = { concurrent: 2, idleMs: 5 * MINUTE }
  clock.advance(5 * MINUTE)
  await principal()
})

test('of sessions that begin at the same moment none comes in beyond the limit', async () => {
  limits = { concurrent: 3 }
  const all = await Promise.allSettled(Array.from({ length: 8 }, () => principal()))
  assert.equal(all.filter(({ status }) => status === 'fulfilled').length, 3)
})

test('a session in which nothing is asked for is idle, however often its credential is renewed', async () => {
  limits = { idleMs: 10 * MINUTE }
  const held = await principal({ notAfter: start + 3_600_000 })
  const session = await sessions.open(held)
  const connection = session.connect('postgres')
  for (let i = 0; i < 9; i++) {
    clock.advance(MINUTE)
    await sessions.open(held)
    await sessions.sweep()
  }
  assert.equal(connection.signal.aborted, false)
  clock.advance(MINUTE)
  await sessions.sweep()
  assert.equal((connection.signal.reason as ChaperoneError).code, 'session_ended')
  assert.equal(records.at(-1)?.data?.reason, 'idle')
  await assert.rejects(sessions.open(held), code('session_ended'))
})

test('use counts on whatever protocol and node, and what is idle is found when it comes back', async () => {
  limits = { idleMs: 10 * MINUTE }
  const held = await principal({ notAfter: start + 3_600_000 })
  const session = await sessions.open(held)
  const elsewhere = openSessions({
    ...{ store, clock, audit: { append: async () => ({ id: '', seq: 0 }) }, raised: async () => {}, mayAct: async () => {} },
    limitsOf: () => limits,
  })
  const there = await elsewhere.open(held)
  for (let i = 0; i < 3; i++) {
    clock.advance(9 * MINUTE)
    there.touch?.()
    await elsewhere.sweep()
    clock.advance(30_000)
    await sessions.sweep()
  }
  session.assertLive()
  clock.advance(11 * MINUTE)
  // Neither node has looked; whoever comes back finds out.
  await assert.rejects(sessions.open(held), (error: unknown) => {
    assert.ok(error instanceof ChaperoneError && error.code === 'session_ended')
    assert.match(error.message, /not used/)
    return true
  })
})

test('what is used is written down at most every half minute', async () => {
  const held = await principal({ notAfter: start + 3_600_000 })
  const session = await sessions.open(held)
  const row = async () =>
    (await store.db.selectFrom('sessions').select('last_used_at').where('id', '=', session.id).executeTakeFirstOrThrow()).last_used_at
  const seen: (number | null)[] = []
  for (let i = 0; i < 9; i++) {
    clock.advance(10_000)
    session.touch?.()
    await sessions.sweep()
    seen.push(await row())
  }
  assert.equal(new Set(seen).size, 4, 'nothing yet, and three times')
})

test('rule 4: the longest life of a role cuts a session that is made, and ends one that is older than the rule', async () => {
  limits = { longestMs: 20 * MINUTE }
  const held = await principal({ notAfter: start + 3_600_000 })
  assert.equal((await sessions.open(held)).provenUntil, start + 20 * MINUTE)
  limits = {}
  const older = await sessions.open(await principal({ notAfter: start + 3_600_000 }))
  clock.advance(15 * MINUTE)
  limits = { longestMs: 10 * MINUTE }
  await sessions.sweep()
  assert.throws(() => older.assertLive(), code('session_ended'))
})
