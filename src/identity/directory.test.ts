import assert from 'node:assert/strict'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { manualClock } from '../clock.ts'
import { newId } from '../ids.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { listDelegations, loadChain, makeDelegation, overDelegations } from './delegation/delegations.ts'
import { createIdentity, findIdentity, type IdentityRecord, listIdentities, setIdentityState, updateIdentity } from './directory.ts'
import { assertName } from './names.ts'

describe('the directory', () => {
  const clock = manualClock(1_800_000_000_000)
  const now = clock.now()
  let store: Store
  let boris: IdentityRecord

  before(async () => {
    store = await openStore({ dataDir: mkdtempSync(join(tmpdir(), 'chaperone-directory-')) }, { clock })
    boris = await make({ kind: 'user', name: 'boris', roles: ['developer'], traits: { team: 'data' }, source: 'document' })
  })
  after(() => store.close())

  const make = (ask: Omit<Parameters<typeof createIdentity>[1], 'now'>) => store.write((trx) => createIdentity(trx, { ...ask, now }))

  test('an identity is found by id and by name', async () => {
    assert.deepEqual(await findIdentity(store.db, { id: boris.id }), boris)
    assert.deepEqual(await findIdentity(store.db, { name: 'boris' }), boris)
    assert.equal(await findIdentity(store.db, { name: 'Boris' }), undefined)
    assert.match(boris.id, /^usr_/)
  })

  test('a name is spelled in one way only', async () => {
    for (const name of ['', 'Boris', 'bo ris', '.boris', '-b', 'a/b', 'ä', 'a\n', 'a'.repeat(64), '../x', 'a%2f']) {
      await assert.rejects(make({ kind: 'user', name, source: 'document' }), { code: 'usage' }, name)
    }
    for (const name of ['boris/', '/x', 'boris/x/y', 'dana/x', 'boris/X']) {
      await assert.rejects(make({ kind: 'agent', name, ownerId: boris.id, source: 'document' }), { code: 'usage' }, name)
    }
  })

  test('an agent has an owner, an active user; others have none', async () => {
    await assert.rejects(make({ kind: 'agent', name: 'lonely', source: 'document' }), { code: 'usage' })
    await assert.rejects(make({ kind: 'agent', name: 'lonely', ownerId: newId('usr'), source: 'document' }), { code: 'usage' })
    await assert.rejects(make({ kind: 'user', name: 'owned', ownerId: boris.id, source: 'document' }), { code: 'usage' })
    const agent = await make({ kind: 'agent', name: 'boris-ai', ownerId: boris.id, source: 'document' })
    assert.equal(agent.ownerId, boris.id)
    await assert.rejects(make({ kind: 'agent', name: 'sub-agent', ownerId: agent.id, source: 'document' }), { code: 'usage' })
  })

  test('a name is never used again, also after its identity was deleted', async () => {
    const gone = await make({ kind: 'user', name: 'gone', source: 'document' })
    await assert.rejects(make({ kind: 'user', name: 'gone', source: 'document' }), { code: 'conflict' })
    await store.reduce((trx) => setIdentityState(trx, gone.id, 'deleted', now))
    await assert.rejects(make({ kind: 'agent', name: 'gone', ownerId: boris.id, source: 'document' }), { code: 'conflict' })
    assert.equal((await findIdentity(store.db, { name: 'gone' }))?.state, 'deleted')
    assert.ok(!(await listIdentities(store.db)).some(({ name }) => name === 'gone'))
    await assert.rejects(
      store.reduce((trx) => setIdentityState(trx, gone.id, 'active', now)),
      { code: 'not_found' },
      'deleted is for ever',
    )
  })

  test('of racers for one name one wins', async () => {
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => make({ kind: 'user', name: 'raced', source: 'document' })))
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1)
  })

  test('roles, traits and owner change; an agent named after its owner stays his', async () => {
    const dana = await make({ kind: 'user', name: 'dana', source: 'document' })
    const agent = await make({ kind: 'agent', name: 'report-bot', ownerId: boris.id, roles: ['reader'], source: 'document' })
    const changed = await store.reduce((trx) =>
      updateIdentity(trx, agent.id, { ownerId: dana.id, roles: ['writer'], traits: { a: 1 }, now: now + 5 }),
    )
    assert.deepEqual(changed.result, { ...agent, ownerId: dana.id, roles: ['writer'], traits: { a: 1 }, updatedAt: now + 5 })
    const client = await make({ kind: 'agent', name: 'boris/cursor', ownerId: boris.id, source: 'client' })
    await assert.rejects(
      store.reduce((trx) => updateIdentity(trx, client.id, { ownerId: dana.id, now })),
      { code: 'usage' },
    )
    await assert.rejects(
      store.reduce((trx) => updateIdentity(trx, newId('usr'), { roles: [], now })),
      { code: 'not_found' },
    )
  })

  test('deleting an identity ends what could bring it back', async () => {
    const leaver = await make({ kind: 'user', name: 'leaver', source: 'document' })
    const client = await make({ kind: 'agent', name: 'leaver/cursor', ownerId: leaver.id, source: 'client' })
    const { id } = await store.write((trx) => makeDelegation(trx, { fromId: leaver.id, toId: client.id, now }))
    await store.reduce((trx) => setIdentityState(trx, leaver.id, 'deleted', now))
    assert.deepEqual(await listDelegations(store.db, { fromId: leaver.id, now }), [])
    assert.equal((await overDelegations(store.db, now)).get(id), 'deleted', 'the sweep will end it on record')
  })

  test('a delegation has an end, and nobody delegates to himself', async () => {
    const agent = await make({ kind: 'agent', name: 'boris/codex', ownerId: boris.id, source: 'client' })
    const ask = { fromId: boris.id, toId: agent.id, now }
    await assert.rejects(
      store.write((trx) => makeDelegation(trx, { ...ask, toId: boris.id })),
      { code: 'usage' },
    )
    await assert.rejects(
      store.write((trx) => makeDelegation(trx, { ...ask, expiresAt: now })),
      { code: 'usage' },
    )
    const made = await store.write((trx) => makeDelegation(trx, { ...ask, expiresAt: now + 10, limits: { roles: ['reader'] } }))
    const standing = async (at: number) => (await listDelegations(store.db, { toId: agent.id, now: at })).map(({ id }) => id)
    assert.ok((await standing(now + 9)).includes(made.id))
    assert.ok(!(await standing(now + 10)).includes(made.id))
  })

  test('a chain is named for the record, unknown identities by their id', async () => {
    const agent = await make({ kind: 'agent', name: 'boris/claude-code', ownerId: boris.id, source: 'client' })
    const delegation = newId('dlg')
    const unknown = newId('agt')
    assert.deepEqual(await loadChain(store.db, [{ identity: boris.id }, { identity: agent.id, delegation }, { identity: unknown }]), [
      { id: boris.id, name: 'boris', kind: 'user' },
      { id: agent.id, name: 'boris/claude-code', kind: 'agent', delegation },
      { id: unknown, name: unknown },
    ])
  })
})

test('a name that looks like an id is no name: whoever locks by name or id would hit somebody else', () => {
  assert.throws(() => assertName('user', 'usr_01m81sqtyc12qws7d0w8kwn0kv'), { code: 'usage' })
  assertName('user', 'usr_boris')
})
