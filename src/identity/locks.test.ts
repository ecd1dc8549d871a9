import assert from 'node:assert/strict'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { manualClock } from '../clock.ts'
import { newId } from '../ids.ts'
import type { Identity } from '../policy/types.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import type { LockTable } from '../store/tables.ts'
import { activeLocks, type LockFacts, liftLock, lockFor, makeLock, toolTarget } from './locks.ts'

const boris: Identity = { id: newId('usr'), kind: 'user', name: 'boris', traits: {}, roles: ['developer'] }
const agent: Identity = { id: newId('agt'), kind: 'agent', name: 'boris/claude-code', ownerId: boris.id, traits: {}, roles: ['analyst'] }
const facts = { now: 1000, sessionId: newId('ses'), resourceId: newId('res'), links: [{ identity: boris }, { identity: agent }] }

const lock = (target_kind: LockTable['target_kind'], target: string, more: Partial<LockTable> = {}): LockTable => ({
  id: newId('lck'),
  target_kind,
  target,
  reason: 'test',
  created_by: null,
  created_at: 0,
  expires_at: null,
  made_by: null,
  lifted_at: null,
  lifted_by: null,
  ...more,
})

describe('lockFor', () => {
  const falls = (one: LockTable, on: Parameters<typeof lockFor>[1] = facts) => lockFor([one], on) !== undefined

  test('falls on the session, the resource, every link of the chain, and a role of any link', () => {
    for (const one of [
      lock('session', facts.sessionId),
      lock('resource', facts.resourceId),
      lock('identity', boris.id),
      lock('identity', agent.id),
      lock('role', 'developer'),
      lock('role', 'analyst'),
    ]) {
      assert.ok(falls(one), `${one.target_kind} ${one.target}`)
    }
  })

  test('rule 6: each kind falls on what it names, and on nothing beside it', () => {
    const tool = { ...facts, tool: 'delete/all' }
    const credentialId = newId('crd')
    const granted = { identity: boris, grants: [{ role: 'dba', request: newId('req'), until: 2000 }] }
    const other: Identity = { id: newId('usr'), kind: 'user', name: 'dana', traits: {}, roles: ['admin'] }
    const alone = { ...facts, links: [{ identity: boris }] }
    const table: readonly [LockTable, falls: readonly LockFacts[], not: readonly LockFacts[]][] = [
      // The person goes on; his agents do not, whether he is in the chain or not.
      [lock('owner', boris.id), [facts, { ...facts, links: [{ identity: agent }] }], [alone, { ...facts, links: [{ identity: other }] }]],
      [lock('agents', '*'), [facts, { now: 1000, links: [{ identity: agent }] }], [alone]],
      [lock('credential', credentialId), [{ ...facts, credentialId }], [facts, { ...facts, credentialId: newId('crd') }]],
      [
        lock('tool', toolTarget(facts.resourceId, 'delete/all')),
        [tool],
        [facts, { ...facts, tool: 'delete' }, { ...tool, resourceId: newId('res') }, { now: 1000, tool: 'delete/all', links: [] }],
      ],
      [lock('role', 'dba'), [{ ...facts, links: [granted] }], [facts]],
      [lock('everything', '*'), [facts, { now: 1000, resourceId: 'x', links: [] }], [{ now: 1000, links: facts.links }]],
      // Of a version that is newer: taken for the widest there is.
      [lock('galaxy' as LockTable['target_kind'], 'x'), [facts], [{ now: 1000, links: facts.links }]],
    ]
    for (const [one, on, not] of table) {
      for (const [i, some] of on.entries()) assert.ok(falls(one, some), `${one.target_kind} falls on ${i}`)
      for (const [i, some] of not.entries()) assert.ok(!falls(one, some), `${one.target_kind} does not fall on ${i}`)
    }
  })

  test('falls on an agent whose owner is locked, also when the owner is not in the chain', () => {
    assert.ok(falls(lock('identity', boris.id), { ...facts, links: [{ identity: agent }] }))
  })

  test('does not fall on others', () => {
    for (const one of [
      lock('session', newId('ses')),
      lock('resource', newId('res')),
      lock('identity', newId('usr')),
      lock('role', 'admin'),
      lock('role', boris.id),
      lock('session', ''),
    ]) {
      assert.ok(!falls(one), `${one.target_kind} ${one.target}`)
    }
    assert.ok(!falls(lock('session', 'undefined'), { now: 0, links: [] }))
  })

  test('a lock on everything falls on every resource, and leaves administration open so that it can be lifted', () => {
    assert.ok(falls(lock('everything', '*')))
    assert.ok(!falls(lock('everything', '*'), { now: 1000, sessionId: facts.sessionId, links: facts.links }))
  })

  test('ends with its expiry to the millisecond, or when it is lifted', () => {
    assert.ok(falls(lock('identity', agent.id, { expires_at: 1001 })))
    assert.ok(!falls(lock('identity', agent.id, { expires_at: 1000 })))
    assert.ok(!falls(lock('identity', agent.id, { lifted_at: 999 })))
  })
})

describe('locks in the store', () => {
  const clock = manualClock(1_800_000_000_000)
  let store: Store
  before(async () => {
    store = await openStore({ dataDir: mkdtempSync(join(tmpdir(), 'chaperone-locks-')) }, { clock })
  })
  after(() => store.close())

  test('are made, listed while they are in force, and lifted once', async () => {
    const now = clock.now()
    const { result: forever } = await store.reduce((trx) =>
      makeLock(trx, { kind: 'identity', target: agent.id, reason: 'stolen laptop', createdBy: boris.id, now }),
    )
    const { result: short } = await store.reduce((trx) =>
      makeLock(trx, { kind: 'role', target: 'analyst', reason: 'incident', expiresAt: now + 10, now: now + 1 }),
    )
    assert.deepEqual(
      (await activeLocks(store.db, now + 1)).map(({ id }) => id),
      [forever.id, short.id],
    )
    assert.deepEqual(
      (await activeLocks(store.db, now + 10)).map(({ id }) => id),
      [forever.id],
    )
    const lifted = await store.reduce((trx) => liftLock(trx, forever.id, boris.id, now + 11))
    assert.deepEqual([lifted.result.lifted_at, lifted.result.lifted_by], [now + 11, boris.id])
    assert.deepEqual(await activeLocks(store.db, now + 11), [])
    await assert.rejects(
      store.reduce((trx) => liftLock(trx, forever.id, boris.id, now + 12)),
      { code: 'not_found' },
    )
    await assert.rejects(
      store.reduce((trx) => liftLock(trx, short.id, boris.id, now + 12)),
      { code: 'not_found' },
    )
  })

  test('need a reason and an end in the future', async () => {
    const now = clock.now()
    const base = { kind: 'identity', target: agent.id, reason: 'x', now } as const
    for (const ask of [
      { ...base, reason: ' ' },
      { ...base, reason: 'x'.repeat(501) },
      { ...base, expiresAt: now },
      { ...base, target: '*' },
      { ...base, kind: 'everything' as const },
    ]) {
      await assert.rejects(
        store.reduce((trx) => makeLock(trx, ask)),
        { code: 'usage' },
      )
    }
  })
})

test('a lock on the session of a person stops what came from it, and no other session of his', () => {
  const stopped = [lock('session', facts.sessionId)]
  const child = { ...facts, sessionId: newId('ses'), parentId: facts.sessionId }
  assert.ok(lockFor(stopped, child))
  assert.equal(lockFor(stopped, { ...child, parentId: newId('ses') }), undefined)
})
