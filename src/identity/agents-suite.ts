import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { Draft } from '../audit/record.ts'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import { openStore } from '../store/open.ts'
import type { Store, Write } from '../store/store.ts'
import type { LockTable } from '../store/tables.ts'
import { COPIED } from './copied.ts'
import { createIdentity, findIdentity, setIdentityState } from './directory.ts'
import { type AgentNotice, governAgents, loadAgents } from './govern.ts'
import { listInstances, MOST_COUNTED, placeOf } from './instances.ts'
import { activeLocks, liftLock, locked, lockFor, sessionsOf } from './locks.ts'
import { openSessions } from './sessions.ts'
import type { LiveSession, Principal, Sessions, StartSession } from './types.ts'

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE
const start = Date.UTC(2026, 10, 22, 12)
const code = (expected: string) => (error: unknown) => error instanceof ChaperoneError && error.code === expected

export type Place = () => Promise<{ readonly url: string } | { readonly dataDir: string }>

/** A store with boris, and boris-ai, an agent of his. `node` is one of several processes over it. */
async function openHouse(t: TestContext, place: Place) {
  const clock = manualClock(start)
  const store: Store = await openStore(await place(), { clock })
  t.after(() => store.close())
  const records: Draft[] = []
  const audit = { append: async (draft: Draft) => ({ id: newId('rec', clock.now()), seq: records.push(draft) }) }
  const { boris, agent } = await store.write(async (trx) => {
    const owner = await createIdentity(trx, { kind: 'user', name: 'boris', source: 'document', now: start })
    return { boris: owner, agent: await createIdentity(trx, { kind: 'agent', name: 'boris-ai', ownerId: owner.id, source: 'document', now: start }) }
  })
  const told: string[] = []
  const nodes: Sessions[] = []

  /** What `server/` does about locks: nobody acts under one, and whoever is connected is cut when the epoch has risen. */
  function node(concurrent?: number): Sessions {
    const whyCut = (locks: readonly LockTable[]) => (session: LiveSession) => {
      const lock = lockFor(locks, { now: clock.now(), ...sessionsOf(session), links: [] })
      return lock && locked(lock)
    }
    const sessions = openSessions({
      store,
      audit,
      clock,
      raised: async () => {
        const locks = await activeLocks(store.db, clock.now())
        for (const one of nodes) one.review(whyCut(locks))
      },
      mayAct: async (session) => {
        const why = whyCut(await activeLocks(store.db, clock.now()))(session)
        if (why) throw why
      },
      told: async (_, made, name) => void told.push(`${made.target_kind} ${name}`),
      ...(concurrent === undefined ? {} : { limitsOf: () => ({ concurrent }) }),
    })
    nodes.push(sessions)
    return sessions
  }

  /** Joins as the agent: the certificate of a new session. */
  async function joined(at: Sessions, more: Partial<StartSession> = {}): Promise<Principal> {
    const chain = [{ identity: agent.id }]
    const { id } = await at.start({ identityId: agent.id, chain, how: 'join', lifeMs: 12 * 60 * MINUTE, ...more })
    return {
      ...{ identityId: agent.id, kind: 'agent', name: 'boris-ai', credentialId: newId('crd', clock.now()), sessionId: id, chain },
      ...{ notAfter: clock.now() + 3 * MINUTE, proof: 'mtls' },
    }
  }

  /** An honest holder, at some node: renews what he holds, and shows the new one. */
  async function renewed(at: Sessions, held: Principal, { shown = true } = {}): Promise<Principal> {
    clock.advance(MINUTE)
    const next = { ...held, credentialId: await at.renew(await at.open(held), held.credentialId), notAfter: clock.now() + 3 * MINUTE }
    if (shown) await at.open(next)
    return next
  }

  const govern = () =>
    governAgents({
      store,
      audit,
      clock,
      raised: async () => {},
      told: async (_: Write, { type, agent: { name }, why }: AgentNotice) => void told.push(`${type} ${name} ${why}`),
      administratorLeft: async () => {},
      failed: (error) => {
        throw error
      },
    })
  const row = async () => (await loadAgents(store.db, { id: agent.id }))[0]!
  const document = (spec: object) =>
    store.db
      .insertInto('documents')
      .values({
        ...{ id: agent.id, kind: 'agent', name: 'boris-ai', labels: '{}', spec: JSON.stringify(spec), digest: '', owner: null },
        ...{ applied_by: null, updated_at: clock.now() },
      })
      .execute()

  return { clock, store, records, audit, boris, agent, told, node, joined, renewed, govern, row, document }
}

/** Instances and the governance of agents, on either store. */
export function agentsSuite(name: string, place: Place, options: { readonly skip?: string } = {}): void {
  describe(`agents over ${name}`, { skip: options.skip ?? false }, () => {
    test('rule 6: a copied credential locks its instance alone, on both nodes; the others go on (peers R64)', async (t) => {
      const { node, joined, renewed, told, records, store, clock, agent } = await openHouse(t, place)
      const [one, two] = [node(), node()]
      const [stolen, other] = [await joined(one), await joined(two)]
      const honest = await renewed(one, stolen)
      const here = (await one.open(honest)).connect('postgres')
      const there = (await two.open({ ...honest, notAfter: clock.now() + 2 * MINUTE })).connect('https')
      const mate = (await two.open(other)).connect('https')
      // The thief comes to the other node, with what was stolen before the last renewal.
      await assert.rejects(two.renew(await two.open(stolen), stolen.credentialId), code('locked'))
      for (const connection of [here, there]) assert.equal((connection.signal.reason as ChaperoneError).code, 'locked')
      await assert.rejects(one.open(honest), code('locked'))
      await assert.rejects(two.open(stolen), code('locked'))
      mate.assertOpen()
      await renewed(two, other)
      // Joined anew, it works: nobody has to lift anything first.
      await renewed(one, await joined(one))
      assert.deepEqual(told, [`session ${stolen.sessionId} of boris-ai`])
      const [lock] = await activeLocks(store.db, clock.now())
      assert.deepEqual([lock?.target_kind, lock?.target, lock?.made_by], ['session', stolen.sessionId, COPIED])
      const row = await store.db
        .selectFrom('sessions')
        .select(['ended_at', 'expires_at'])
        .where('id', '=', stolen.sessionId)
        .executeTakeFirstOrThrow()
      assert.deepEqual([row.ended_at, lock?.expires_at], [null, row.expires_at], 'it lasts as long as the session could')
      const types = records.map(({ type }) => type).filter((type) => type === 'credential.copied' || type === 'lock.made')
      assert.deepEqual(types, ['credential.copied', 'lock.made'])
      assert.equal((await findIdentity(store.db, { id: agent.id }))?.state, 'active')
    })

    test('rule 6: two copies that are found out at the same moment on two nodes make one lock', async (t) => {
      const { node, joined, renewed, store, clock, told } = await openHouse(t, place)
      const [one, two] = [node(), node()]
      const stolen = await joined(one)
      await renewed(one, stolen)
      const [at1, at2] = [await one.open(stolen), await two.open(stolen)]
      const refused = await Promise.allSettled([one.renew(at1, stolen.credentialId), two.renew(at2, stolen.credentialId)])
      for (const one of refused) assert.equal(one.status === 'rejected' && (one.reason as ChaperoneError).code, 'locked')
      assert.equal((await activeLocks(store.db, clock.now())).length, 1)
      assert.equal(told.length, 1)
    })

    test('the locked instance holds no place, so the honest one joins again where a role leaves room for one alone', async (t) => {
      const { node, joined, renewed } = await openHouse(t, place)
      const one = node(1)
      const stolen = await joined(one)
      await assert.rejects(joined(one), code('too_many'))
      await renewed(one, stolen)
      await assert.rejects(one.renew(await one.open(stolen), stolen.credentialId), code('locked'))
      await renewed(one, await joined(one))
    })

    test('rule 6: a lock that somebody lifted comes back when the copy is at work again', async (t) => {
      const { node, joined, renewed, store, clock } = await openHouse(t, place)
      const one = node()
      const stolen = await joined(one)
      const honest = await renewed(one, stolen)
      await assert.rejects(one.renew(await one.open(stolen), stolen.credentialId), code('locked'))
      const [lock] = await activeLocks(store.db, clock.now())
      await store.reduce((trx) => liftLock(trx, lock!.id, undefined, clock.now()))
      const newest = await renewed(one, honest)
      await assert.rejects(one.renew(await one.open({ ...honest, notAfter: newest.notAfter }), honest.credentialId), code('locked'))
    })

    test('a store that was set back to a backup locks no honest instance, at any generation (peers R65)', async (t) => {
      const { node, joined, renewed, store, clock } = await openHouse(t, place)
      const before = node()
      const first = await joined(before)
      const kept = await renewed(before, first)
      const backup = await store.db.selectFrom('sessions').selectAll().where('id', '=', first.sessionId).executeTakeFirstOrThrow()
      let held = kept
      for (let i = 0; i < 3; i++) held = await renewed(before, held)
      const { id, ...row } = backup
      await store.db.updateTable('sessions').set(row).where('id', '=', id).execute()
      // A new process, over what the store knows again.
      const restored = node()
      for (let i = 0; i < 3; i++) held = await renewed(restored, held)
      assert.equal((await activeLocks(store.db, clock.now())).length, 0)
      // And whoever holds what was stolen before the backup is found out as ever.
      await assert.rejects(restored.renew(await restored.open({ ...kept, notAfter: held.notAfter }), kept.credentialId), code('locked'))
    })

    test('answers that get lost, each of them, lock nobody; and neither does a rolling restart of all nodes (peers R62, R67)', async (t) => {
      const { node, joined, renewed, store, clock } = await openHouse(t, place)
      let [one, two] = [node(), node()]
      let held = await joined(one)
      for (let round = 0; round < 4; round++) {
        // The answer is lost, so it asks again, elsewhere.
        clock.advance(MINUTE)
        await one.renew(await one.open(held), held.credentialId)
        held = await renewed(two, held)
        one.close('draining')
        one = node()
        held = await renewed(one, held, { shown: false })
        two.close('draining')
        two = node()
        await two.open(held)
      }
      assert.equal((await activeLocks(store.db, clock.now())).length, 0)
    })

    test('every running copy is listed: whose, by what it joined and from where, when it was last seen, what it did today', async (t) => {
      const { node, joined, store, clock, agent, boris } = await openHouse(t, place)
      const one = node()
      const proof = { method: 'oidc', document: 'deploys', subject: 'repo:acme/site:ref:refs/heads/main' }
      const first = await joined(one, { joined: proof, cameFrom: '::ffff:192.0.2.7' })
      clock.advance(MINUTE)
      const second = await joined(one, { client: 'cursor', cameFrom: '192.0.2.8' })
      const over = await joined(one)
      await one.end(over.sessionId, 'killed')
      await leavesOf(store, first.sessionId, 5, clock.now())
      await leavesOf(store, first.sessionId, 3, start - 13 * 60 * MINUTE)
      await leavesOf(store, second.sessionId, MOST_COUNTED + 5, clock.now())
      ;(await one.open(first)).touch?.()
      clock.advance(MINUTE)
      await one.sweep()
      const today = clock.now() - (clock.now() % DAY)
      const list = (more = {}) => listInstances(store.db, { now: clock.now(), actionsSince: today, limit: 10, ...more })
      const [newest, older, ...none] = await list()
      assert.deepEqual(none, [])
      assert.deepEqual([newest?.id, older?.id], [second.sessionId, first.sessionId])
      assert.equal(placeOf(older!), 'oidc repo:acme/site:ref:refs/heads/main at 192.0.2.7')
      assert.equal(placeOf(newest!), 'cursor at 192.0.2.8')
      assert.deepEqual([older?.owner, older?.actions, older?.moreActions], ['boris', 5, false])
      assert.deepEqual([newest?.moreActions, (newest?.actions ?? 0) <= MOST_COUNTED], [true, true])
      assert.equal(older?.lastUsedAt, clock.now())
      assert.equal(newest?.lastUsedAt, null)
      assert.deepEqual((await list({ agentId: agent.id, ownId: boris.id })).length, 2)
      assert.deepEqual(await list({ ownId: 'usr_somebody' }), [])
      assert.equal((await list({ limit: 1 })).length, 1)
      assert.equal((await list({ now: clock.now() + 13 * 60 * MINUTE })).length, 0, 'past their longest life')
    })

    test('that an agent was used is written down in batches, and what only keeps a credential alive is no use', async (t) => {
      const { node, joined, renewed, clock, row } = await openHouse(t, place)
      const one = node()
      const held = await renewed(one, await joined(one))
      clock.advance(MINUTE)
      await one.sweep()
      assert.equal((await row()).lastUsedAt, null)
      ;(await one.open(held)).touch?.()
      const at = clock.now()
      assert.equal((await row()).lastUsedAt, null, 'nothing is written on the way of a request')
      clock.advance(MINUTE)
      await one.sweep()
      const written = (await row()).lastUsedAt ?? 0
      assert.ok(written >= at && written <= clock.now())
      ;(await one.open({ ...held, notAfter: clock.now() + MINUTE })).touch?.()
      clock.advance(MINUTE)
      await one.sweep()
      assert.equal((await row()).lastUsedAt, written, 'minutes are enough')
    })

    test('an agent that nobody uses is stopped in its time, once, however many nodes look', async (t) => {
      const { clock, document, govern, told, records, row, store } = await openHouse(t, place)
      await document({ owner: 'boris', unused: '30d' })
      const both = () => Promise.all([govern(), govern()])
      clock.advance(22 * DAY)
      await both()
      assert.deepEqual(told, [])
      clock.advance(DAY)
      await both()
      clock.advance(DAY)
      await both()
      assert.deepEqual(told, ['due boris-ai unused'])
      assert.equal((await row()).stopsAt, start + 30 * DAY)
      clock.advance(5 * DAY)
      await both()
      assert.deepEqual(told.length, 2)
      const epoch = await store.epoch()
      clock.advance(DAY)
      await both()
      assert.deepEqual(told.slice(2), ['stopped boris-ai unused'])
      assert.deepEqual([(await row()).state, (await row()).stopped], ['disabled', 'unused'])
      assert.ok((await store.epoch()) > epoch, 'so that its sessions are cut')
      const stops = records.filter(({ type }) => type === 'agent.stopped')
      assert.deepEqual([stops[0]?.actor?.name, stops[0]?.data?.why, stops[0]?.data?.owner], ['boris-ai', 'unused', 'boris'])
      await both()
      assert.equal(told.length, 3)
    })

    test('to wake it up is a review: it is not stopped again for what it was stopped for', async (t) => {
      const { clock, document, govern, row, store, agent, boris } = await openHouse(t, place)
      await document({ owner: 'boris', unused: '30d', review: '60d' })
      for (const days of [23, 7]) {
        clock.advance(days * DAY)
        await govern()
      }
      assert.equal((await row()).stopped, 'unused')
      await store.reduce((trx) => setIdentityState(trx, agent.id, 'active', clock.now(), boris.id))
      await govern()
      const { state, stopped, reviewedBy, reviewedAt, stopsAt } = await row()
      assert.deepEqual([state, stopped, reviewedBy, reviewedAt, stopsAt], ['active', null, boris.id, clock.now(), null])
    })

    test('what its sessions know of its use counts where its row is behind (a store that was upgraded)', async (t) => {
      const { clock, document, govern, row, store, node, joined } = await openHouse(t, place)
      await document({ owner: 'boris', unused: '30d' })
      const held = await joined(node())
      clock.advance(23 * DAY)
      await govern()
      clock.advance(7 * DAY)
      const used = clock.now() - DAY
      await store.db.updateTable('sessions').set({ last_used_at: used }).where('id', '=', held.sessionId).execute()
      await govern()
      assert.deepEqual([(await row()).state, (await row()).lastUsedAt], ['active', used])
    })

    test('an owner who is disabled takes his agents with him, and brings back those that nothing else stopped', async (t) => {
      const { govern, told, records, row, store, boris, agent, clock } = await openHouse(t, place)
      await store.reduce((trx) => setIdentityState(trx, boris.id, 'disabled', clock.now()))
      await govern()
      await govern()
      assert.deepEqual(told, ['stopped boris-ai owner'])
      assert.deepEqual([(await row()).state, (await row()).stopped, (await row()).ownerState], ['active', 'owner', 'disabled'])
      assert.equal(records.filter(({ type, data }) => type === 'agent.stopped' && data?.why === 'owner').length, 1)
      await store.reduce((trx) => setIdentityState(trx, boris.id, 'active', clock.now()))
      await govern()
      assert.equal((await row()).stopped, null)
      await store.reduce((trx) => setIdentityState(trx, agent.id, 'disabled', clock.now()))
      await store.reduce((trx) => setIdentityState(trx, boris.id, 'disabled', clock.now()))
      await govern()
      await store.reduce((trx) => setIdentityState(trx, boris.id, 'active', clock.now()))
      await govern()
      assert.equal((await row()).state, 'disabled', 'by hand')
    })

    test('the last administrator is not stopped, and keeps no other agent going', async (t) => {
      const { clock, document, store, audit, row, boris, records } = await openHouse(t, place)
      await document({ owner: 'boris', unused: '1d' })
      await store.write((trx) =>
        createIdentity(trx, { kind: 'agent', name: 'boris/old', ownerId: boris.id, roles: 'inherit', source: 'client', now: start - 100 * DAY }),
      )
      const failures: unknown[] = []
      const govern = () =>
        governAgents({
          ...{ store, audit, clock, raised: async () => {}, told: async () => {}, failed: (error) => failures.push(error) },
          administratorLeft: async (trx) => {
            if ((await findIdentity(trx, { name: 'boris-ai' }))?.state !== 'active') throw new ChaperoneError('conflict', 'nobody left')
          },
        })
      for (const days of [0, 2, 7]) {
        clock.advance(days * DAY)
        await govern()
      }
      assert.equal((await row()).state, 'active')
      assert.ok(failures.length > 0)
      assert.equal((await findIdentity(store.db, { name: 'boris/old' }))?.state, 'disabled')
      assert.equal(records.filter(({ outcome }) => outcome?.status === 'failed')[0]?.outcome?.reason, 'conflict')
    })
  })
}

/** Records of a session, as the index of sessions sees them. */
async function leavesOf(store: Store, session: string, count: number, at: number): Promise<void> {
  const { seq } = await store.db
    .selectFrom('audit_leaves')
    .select((is) => is.fn.max('node_seq').as('seq'))
    .executeTakeFirstOrThrow()
  const first = Number(seq ?? 0)
  const rows = Array.from({ length: count }, (_, i) => ({
    ...{ node_id: 'n', node_seq: first + i + 1, id: `rec_${first + i + 1}`, at, type: 'action.intent', identity_id: null, session_id: session },
    ...{ resource_id: null, verdict: 'allow', permit: null, leaf: new Uint8Array(1), leaf_hash: new Uint8Array(32), position: null },
  }))
  for (let from = 0; from < rows.length; from += 500)
    await store.db
      .insertInto('audit_leaves')
      .values(rows.slice(from, from + 500))
      .execute()
}
