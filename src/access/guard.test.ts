import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openPinBook } from '../catalog/pin-book.ts'
import { definitionOf } from '../catalog/pins.ts'
import { ChaperoneError } from '../errors.ts'
import { describeMcp } from '../gateways/mcp/describe.ts'
import { clientOf } from '../identity/delegation/client.fixture.ts'
import { createIdentity, setIdentityState } from '../identity/directory.ts'
import { newId } from '../ids.ts'
import type { Resource } from '../policy/types.ts'
import { apply, document, guardPlace, lockVerb, refusedAs, START } from './guard.fixture.ts'
import { Refusal } from './types.ts'

test('rule 3: the intent is recorded before there is a permit, the outcome after', async (t) => {
  const { person, guard, records, hooks, sessionOf, types } = await guardPlace(t)
  const session = await sessionOf(person.id)
  let permitted = false
  let release = () => {}
  hooks.beforeAppend = () => new Promise((done) => (release = done))
  const admitted = guard.admit(session, apply).then((permit) => {
    permitted = true
    return permit
  })
  await new Promise((turn) => setImmediate(turn))
  assert.equal(permitted, false, 'no permit while the intent is being written')
  hooks.beforeAppend = async () => {}
  release()
  const permit = await admitted
  guard.settle(permit, { status: 'ok', facts: { changes: 1 } })
  guard.settle(permit, { status: 'failed' })
  await new Promise((turn) => setImmediate(turn))
  assert.deepEqual(types(), ['action.intent', 'action.outcome'], 'and a permit is settled once')
  assert.equal(records[1]?.permit, permit.id)
  assert.equal(guard.open, 0)
})

test('rule 3: if it cannot be recorded, it does not happen', async (t) => {
  const { person, guard, hooks, sessionOf } = await guardPlace(t)
  const session = await sessionOf(person.id)
  hooks.beforeAppend = async () => {
    throw new ChaperoneError('audit_unavailable', 'The disk is full.')
  }
  await assert.rejects(guard.admit(session, apply), refusedAs('audit_unavailable'))
  await assert.rejects(guard.admit(session, lockVerb), refusedAs('audit_unavailable'), 'nor is a refusal given out unrecorded')
  assert.equal(guard.open, 0)
})

test('rule 1: what no role allows is refused, and the refusal is recorded', async (t) => {
  const { person, guard, records, sessionOf, types } = await guardPlace(t)
  const session = await sessionOf(person.id)
  await assert.rejects(guard.admit(session, lockVerb), (error) => error instanceof Refusal && error.decision.reason === 'no_rule')
  assert.deepEqual(types(), ['action.refused'])
  assert.equal(records[0]?.decision?.reason, 'no_rule')
})

test('rule 1: a node that cannot prove that it is up to date refuses everything', async (t) => {
  const { person, guard, hooks, sessionOf } = await guardPlace(t)
  const session = await sessionOf(person.id)
  hooks.leaseError = new ChaperoneError('lease_lapsed', 'This node cannot prove that it knows the latest changes.')
  await assert.rejects(guard.admit(session, apply), refusedAs('lease_lapsed'))
})

test('rule 12: where no requests are kept, nothing runs by one: ask refuses with approval_unavailable', async (t) => {
  const { person, guard, sessionOf, reduce } = await guardPlace(t)
  await reduce((trx) => trx.updateTable('identities').set({ roles: '["asker"]' }).where('id', '=', person.id).execute())
  await assert.rejects(guard.admit(await sessionOf(person.id), lockVerb), refusedAs('approval_unavailable'))
})

test('rule 7: what a client inherits from its person administers nothing', async (t) => {
  const { store, person, state, sessions, guard } = await guardPlace(t)
  const { agent, delegationId } = await clientOf(store, { id: person.id, name: 'dana' }, 'claude-code', START)
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
    notAfter: START + 3_600_000,
    proof: 'mtls',
  })
  await assert.rejects(guard.admit(session, apply), refusedAs('not_found'))
})

test('an outcome that cannot be recorded is reported to the operator', async (t) => {
  const { person, guard, lost, hooks, sessionOf } = await guardPlace(t)
  const permit = await guard.admit(await sessionOf(person.id), apply)
  hooks.beforeAppend = async () => {
    throw new ChaperoneError('audit_unavailable', 'The disk is full.')
  }
  guard.settle(permit, { status: 'ok' })
  await new Promise((turn) => setImmediate(turn))
  assert.equal(lost.length, 1)
})

test('rule 1: a lease that runs out while the intent is being written gives no permit: others have stopped waiting for this node', async (t) => {
  const { person, guard, records, hooks, sessionOf, types } = await guardPlace(t)
  const session = await sessionOf(person.id)
  hooks.beforeAppend = async () => {
    hooks.leaseError = new ChaperoneError('lease_lapsed', 'This node cannot prove that it knows the latest changes.')
  }
  await assert.rejects(guard.admit(session, apply), refusedAs('lease_lapsed'))
  assert.deepEqual(types(), ['action.intent', 'action.outcome'])
  assert.deepEqual(records[1]?.outcome, { status: 'refused', reason: 'lease_lapsed' })
  assert.equal(guard.open, 0)
})

test('rule 8: a refusal because a link is gone is recorded like any other', async (t) => {
  const { person, guard, records, sessionOf, reduce, types } = await guardPlace(t)
  const session = await sessionOf(person.id)
  await reduce((trx) => setIdentityState(trx, person.id, 'disabled', START))
  await assert.rejects(guard.admit(session, apply), refusedAs('identity_disabled'))
  assert.deepEqual(types(), ['action.refused'])
  assert.equal(records[0]?.decision?.reason, 'identity_disabled')
})

test('rule 3: an identity disabled while the intent is being written leaves an outcome behind', async (t) => {
  const { person, guard, records, hooks, sessionOf, reduce, types } = await guardPlace(t)
  const session = await sessionOf(person.id)
  hooks.beforeAppend = async (draft) => {
    hooks.beforeAppend = async () => {}
    if (draft.type === 'action.intent') await reduce((trx) => setIdentityState(trx, person.id, 'disabled', START))
  }
  await assert.rejects(guard.admit(session, apply), refusedAs('identity_disabled'))
  assert.deepEqual(types(), ['action.intent', 'action.outcome'])
  assert.deepEqual(records[1]?.outcome, { status: 'refused', reason: 'identity_disabled' })
})

test('a tool whose definition waits for an administrator is refused to who could call it, and says nothing to others (rule 8)', async (t) => {
  const { clock, store, person, state, guard, records, sessionOf } = await guardPlace(t)
  const resource: Resource = { kind: 'mcp', id: newId('res'), name: 'files', labels: {} }
  const define = (text: string) => definitionOf(text, JSON.stringify(text))
  let carlaId = ''
  await store.reduce(async (trx) => {
    const row = { ...document('mcp', 'files', {}, { command: ['server'] }), id: resource.id }
    const role = document('role', 'caller', {}, { allow: [{ mcp: 'files', tools: ['send'] }], ask: [{ mcp: 'files', tools: ['read'] }] })
    await trx.insertInto('documents').values([row, role]).execute()
    carlaId = (await createIdentity(trx, { kind: 'user', name: 'carla', roles: ['caller'], source: 'document', now: START })).id
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
