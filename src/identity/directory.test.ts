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
import { clientAgent, createIdentity, findIdentity, type IdentityRecord, listIdentities, setIdentityState, updateIdentity } from './directory.ts'
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
    const { agent: client } = await store.write((trx) => clientAgent(trx, boris, 'cursor', now))
    await assert.rejects(
      store.reduce((trx) => updateIdentity(trx, client.id, { ownerId: dana.id, now })),
      { code: 'usage' },
    )
    await assert.rejects(
      store.reduce((trx) => updateIdentity(trx, newId('usr'), { roles: [], now })),
      { code: 'not_found' },
    )
  })

  test('the client of a person is one agent, made on first use, with one delegation', async () => {
    const first = await store.write((trx) => clientAgent(trx, boris, 'claude-code', now))
    assert.deepEqual(
      [first.created, first.agent.name, first.agent.ownerId, first.agent.roles, first.agent.source],
      [true, 'boris/claude-code', boris.id, 'inherit', 'client'],
    )
    const again = await store.write((trx) => clientAgent(trx, boris, 'claude-code', now))
    assert.deepEqual(again, { ...first, created: false })
    const [delegation] = await listDelegations(store.db, { fromId: boris.id, toId: first.agent.id, now })
    assert.equal(delegation?.id, first.delegationId)
    // An ended delegation is not brought back: the next use makes a new one, under a new id.
    await store.reduce((trx) => trx.updateTable('delegations').set({ ended_at: now }).where('id', '=', first.delegationId).execute())
    const third = await store.write((trx) => clientAgent(trx, boris, 'claude-code', now))
    assert.notEqual(third.delegationId, first.delegationId)
  })

  test('a disabled client agent stays disabled, and an agent has no clients', async () => {
    const { agent } = await store.write((trx) => clientAgent(trx, boris, 'vscode', now))
    await store.reduce((trx) => setIdentityState(trx, agent.id, 'disabled', now))
    await assert.rejects(
      store.write((trx) => clientAgent(trx, boris, 'vscode', now)),
      { code: 'identity_disabled' },
    )
    await assert.rejects(
      store.write((trx) => clientAgent(trx, agent, 'x', now)),
      { code: 'usage' },
    )
    await assert.rejects(
      store.write((trx) => clientAgent(trx, { ...boris, state: 'disabled' }, 'x', now)),
      { code: 'identity_disabled' },
    )
    for (const client of ['', '../x', 'A', 'a/b'])
      await assert.rejects(
        store.write((trx) => clientAgent(trx, boris, client, now)),
        { code: 'usage' },
        client,
      )
  })

  test('deleting an identity ends what could bring it back', async () => {
    const leaver = await make({ kind: 'user', name: 'leaver', source: 'document' })
    const { delegationId } = await store.write((trx) => clientAgent(trx, leaver, 'cursor', now))
    await store.reduce((trx) => setIdentityState(trx, leaver.id, 'deleted', now))
    assert.deepEqual(await listDelegations(store.db, { fromId: leaver.id, now }), [])
    assert.equal((await overDelegations(store.db, now)).get(delegationId), 'deleted', 'the sweep will end it on record')
  })

  test('a delegation has an end, and nobody delegates to himself', async () => {
    const { agent } = await store.write((trx) => clientAgent(trx, boris, 'codex', now))
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

  test('rule 7: a client named like an agent of the person is that agent; of somebody else, it is not', async () => {
    const mine = await make({ kind: 'agent', name: 'boris-bot', ownerId: boris.id, source: 'document' })
    const eve = await make({ kind: 'user', name: 'eve', source: 'document' })
    const asOwner = await store.write((trx) => clientAgent(trx, boris, 'boris-bot', now))
    assert.equal(asOwner.agent.id, mine.id)
    const asOther = await store.write((trx) => clientAgent(trx, eve, 'boris-bot', now))
    assert.equal(asOther.agent.name, 'eve/boris-bot')
  })

  test('a chain is named for the record, unknown identities by their id', async () => {
    const { agent, delegationId } = await store.write((trx) => clientAgent(trx, boris, 'claude-code', now))
    const unknown = newId('agt')
    assert.deepEqual(await loadChain(store.db, [{ identity: boris.id }, { identity: agent.id, delegation: delegationId }, { identity: unknown }]), [
      { id: boris.id, name: 'boris', kind: 'user' },
      { id: agent.id, name: 'boris/claude-code', kind: 'agent', delegation: delegationId },
      { id: unknown, name: unknown },
    ])
  })
})

test('a name that looks like an id is no name: whoever locks by name or id would hit somebody else', () => {
  assert.throws(() => assertName('user', 'usr_01m81sqtyc12qws7d0w8kwn0kv'), { code: 'usage' })
  assertName('user', 'usr_boris')
})
