import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChaperoneError } from '../errors.ts'
import { describeMcp } from '../gateways/mcp/describe.ts'
import { setIdentityState } from '../identity/directory.ts'
import { makeLock } from '../identity/locks.ts'
import { openSessions } from '../identity/sessions.ts'
import type { Connection } from '../identity/types.ts'
import type { Resource } from '../policy/types.ts'
import { apply, document, type GuardPlace, guardPlace, lockVerb, refusedAs, START } from './guard.fixture.ts'
import { Refusal } from './types.ts'

test('rule 6: a lock aborts a permit that is out, and refuses the next', async (t) => {
  const { person, guard, sessionOf, reduce } = await guardPlace(t)
  const session = await sessionOf(person.id)
  const permit = await guard.admit(session, apply)
  await reduce((trx) => makeLock(trx, { kind: 'identity', target: person.id, reason: 'stop', now: START }))
  assert.equal(permit.signal.aborted, true)
  assert.equal(permit.signal.reason.code, 'locked')
  await assert.rejects(guard.admit(session, apply), refusedAs('locked'))
})

test('rule 6: a lock that comes while the intent is being written still stops the action, and the record says so', async (t) => {
  const { person, guard, records, hooks, sessionOf, reduce, types } = await guardPlace(t)
  const session = await sessionOf(person.id)
  hooks.beforeAppend = async (draft) => {
    hooks.beforeAppend = async () => {}
    if (draft.type === 'action.intent') await reduce((trx) => makeLock(trx, { kind: 'session', target: session.id, reason: 'stop', now: START }))
  }
  await assert.rejects(guard.admit(session, apply), refusedAs('locked'))
  assert.deepEqual(types(), ['action.intent', 'action.outcome'])
  assert.deepEqual(records[1]?.outcome, { status: 'refused', reason: 'locked' })
})

test('rule 6: who wants to be told is told once when his permit is cut, by a lock or with the connection, and not after it is settled', async (t) => {
  const { clock, person, guard, sessionOf, reduce } = await guardPlace(t)
  const session = await sessionOf(person.id)
  const connection = session.connect('https', { until: START + 1000 })
  const told: unknown[] = []
  const admission = { connection, cut: (reason: unknown) => told.push((reason as ChaperoneError).code) }
  const [over, out] = [await guard.admit(session, apply, admission), await guard.admit(session, apply, admission)]
  guard.settle(over, { status: 'ok' })
  await reduce((trx) => makeLock(trx, { kind: 'session', target: session.id, reason: 'stop', now: START }))
  assert.deepEqual(told, ['locked'])
  clock.advance(1000)
  assert.equal(connection.signal.aborted, true)
  assert.deepEqual(told, ['locked'], 'the end of the connection is not told as well')
  assert.equal((out.signal.reason as ChaperoneError).code, 'locked')
  assert.equal(over.signal.aborted, false)
})

test('rule 4: who wants to be told is told of every permit that ends with its connection', async (t) => {
  const { clock, person, guard, sessionOf } = await guardPlace(t)
  const session = await sessionOf(person.id)
  const connection = session.connect('https', { until: START + 1000 })
  const told: unknown[] = []
  for (let i = 0; i < 2; i++) await guard.admit(session, apply, { connection, cut: (reason) => told.push((reason as ChaperoneError).code) })
  clock.advance(1000)
  assert.deepEqual(told, ['credential_expired', 'credential_expired'])
})

test('rule 6: a disabled identity has no permit any more, and gets none', async (t) => {
  const { person, guard, sessionOf, reduce } = await guardPlace(t)
  const session = await sessionOf(person.id)
  const permit = await guard.admit(session, apply)
  await reduce((trx) => setIdentityState(trx, person.id, 'disabled', START))
  assert.equal(permit.signal.reason.code, 'identity_disabled')
  await assert.rejects(guard.admit(session, apply), refusedAs('identity_disabled'))
})

test('rule 6: a role that is taken away ends what it allowed (peers R33)', async (t) => {
  const { person, guard, sessionOf, reduce } = await guardPlace(t)
  const session = await sessionOf(person.id)
  const permit = await guard.admit(session, apply)
  await reduce((trx) => trx.updateTable('identities').set({ roles: '[]' }).where('id', '=', person.id).execute())
  assert.equal(permit.signal.aborted, true)
})

test('rule 4: a cut connection aborts its permits, and one that is cut while the intent is written gets none', async (t) => {
  const { clock, person, guard, hooks, sessionOf } = await guardPlace(t)
  const session = await sessionOf(person.id)
  const connection = session.connect('https', { until: START + 1000 })
  const permit = await guard.admit(session, apply, { connection })
  hooks.beforeAppend = async () => clock.advance(1000)
  await assert.rejects(guard.admit(session, apply, { connection }), refusedAs('credential_expired'))
  assert.equal(permit.signal.reason.code, 'credential_expired')
})

test('rule 4: a connection whose timer is late, as on a machine that slept, gets no permit past its end', async (t) => {
  const { clock, store, person, guard, sessionOf, types } = await guardPlace(t)
  const sleeping = openSessions({
    store,
    clock: { now: clock.now, at: () => () => {} },
    audit: { append: async () => ({ id: '', seq: 0 }) },
    raised: async () => {},
    mayAct: async () => {},
  })
  const { id, principal } = await sessionOf(person.id)
  const session = await sleeping.open({ ...principal, sessionId: id })
  const connection = session.connect('postgres', { until: START + 1000 })
  clock.advance(1000)
  await assert.rejects(guard.admit(session, apply, { connection }), refusedAs('credential_expired'))
  assert.deepEqual(types(), ['action.refused'])
})

test('a permit ends at the edge of the hours in which its role holds', async (t) => {
  const { clock, person, guard, sessionOf, reduce } = await guardPlace(t)
  await reduce((trx) => trx.updateTable('identities').set({ roles: '["office"]' }).where('id', '=', person.id).execute())
  const permit = await guard.admit(await sessionOf(person.id), lockVerb)
  clock.advance(3_599_999 - 1)
  assert.equal(permit.signal.aborted, false)
  clock.advance(2)
  assert.equal(permit.signal.aborted, true)
})

test('rule 6: of all permits that one lock cuts, each client has its goodbye before the first signal aborts; what is cut is not judged again', async (t) => {
  const { clock, person, sessions, guard, lost, sessionOf, reduce } = await guardPlace(t)
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

/** A resource of a kind, with a role `demo` that reaches it by its label. */
async function resourceWithLabel({ reduce, person, state }: GuardPlace, name: string): Promise<Resource> {
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

test('rule 6: a resource that gets another label is out of reach at once, also over what was opened on the old one', async (t) => {
  const place = await guardPlace(t)
  const { person, guard, sessionOf, reduce } = place
  const resource = await resourceWithLabel(place, 'files')
  const session = await sessionOf(person.id)
  const permit = await guard.admit(session, call(resource))
  await reduce((trx) => trx.updateTable('documents').set({ labels: '{"env":"prod"}' }).where('name', '=', 'files').execute())
  assert.equal(permit.signal.aborted, true)
  await assert.rejects(guard.admit(session, call(resource)), (error) => error instanceof Refusal && error.decision.reason === 'no_rule')
})

test('rule 6: a resource that was deleted is out of reach at once, and one that took its name is not it', async (t) => {
  const place = await guardPlace(t)
  const { person, guard, records, sessionOf, reduce } = place
  const resource = await resourceWithLabel(place, 'files')
  const session = await sessionOf(person.id)
  const permit = await guard.admit(session, call(resource))
  await reduce((trx) => trx.deleteFrom('documents').where('name', '=', 'files').execute())
  assert.equal(permit.signal.aborted, true)
  await assert.rejects(guard.admit(session, call(resource)), refusedAs('not_found'))
  await reduce((trx) =>
    trx
      .insertInto('documents')
      .values(document('mcp', 'files', { env: 'demo' }, {}))
      .execute(),
  )
  await assert.rejects(guard.admit(session, call(resource)), refusedAs('not_found'))
  assert.equal(records.at(-1)?.type, 'action.refused')
})
