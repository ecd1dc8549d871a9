import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { sqlitePlace } from '../../audit/fixtures.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import { setIdentityState } from '../../identity/directory.ts'
import { makeLock } from '../../identity/locks.ts'
import type { Action } from '../../policy/types.ts'
import type { Write } from '../../store/store.ts'
import type { Admission } from '../types.ts'
import { asking, callOf, type House, MINUTE, openHouse, ROLES, START, type TestSession } from './house.fixture.ts'

/** What may change between the yes and the run. Each must stop the run; none may use the approval of another. */
interface Change {
  readonly what: string
  readonly store?: (trx: Write, house: House) => Promise<unknown>
  readonly session?: (session: TestSession, house: House) => void
  readonly call?: (house: House) => { readonly action: Action; readonly admission: Admission }
  readonly clock?: (house: House) => void
  /** what the second attempt is answered with */
  readonly answer: string
}

const ARGS = { path: 'report', rows: [1, 2] }
const call =
  (args: object, tool = 'write_file', change: (action: Action) => Action = (action) => action) =>
  (house: House) => ({
    action: change(callOf(house.files, tool, args)),
    admission: asking(tool, args),
  })
const role = (name: string, spec: object) => (trx: Write) =>
  trx
    .updateTable('documents')
    .set({ spec: canonicalJson(spec) })
    .where('kind', '=', 'role')
    .where('name', '=', name)
    .execute()
const files = (set: { readonly labels?: string; readonly spec?: string }) => (trx: Write) =>
  trx.updateTable('documents').set(set).where('kind', '=', 'tool').execute()
const { worker } = ROLES
const asks = (change: object) => ({ ...worker, ask: [{ ...worker.ask[0], ...change }, ...worker.ask.slice(1)] })

const CHANGES: readonly Change[] = [
  { what: 'the role denies it now', store: role('worker', { ...worker, deny: [{ tool: 'any', tools: ['write_file'] }] }), answer: 'denied_by_rule' },
  { what: 'the role says nothing about it any more', store: role('worker', { ...worker, ask: worker.ask.slice(1) }), answer: 'no_rule' },
  { what: 'the rule wants other approvers', store: role('worker', asks({ approvers: { users: ['ann'] } })), answer: 'approval_required' },
  { what: 'the rule wants a mask', store: role('worker', asks({ mask: ['name'] })), answer: 'approval_required' },
  {
    what: 'a guardrail asks as well',
    store: (trx, { files }) =>
      trx
        .insertInto('documents')
        .values({
          ...files,
          id: 'res_guard',
          kind: 'guardrail',
          name: 'careful',
          labels: '{}',
          spec: canonicalJson({ ask: [{ tool: 'any', tools: ['write_file'] }] }),
        })
        .execute(),
    answer: 'approval_required',
  },
  {
    what: 'a guardrail denies it',
    store: (trx, { files }) =>
      trx
        .insertInto('documents')
        .values({
          ...files,
          id: 'res_guard',
          kind: 'guardrail',
          name: 'never',
          labels: '{}',
          spec: canonicalJson({ deny: [{ tool: 'any', tools: ['write_file'] }] }),
        })
        .execute(),
    answer: 'denied_by_guardrail',
  },
  { what: 'the agent lost the role', store: (trx, { ids }) => roles(trx, ids.bot!, []), answer: 'not_found' },
  { what: 'the person behind it lost the role', store: (trx, { ids }) => roles(trx, ids.boris!, []), answer: 'not_found' },
  { what: 'the resource has another label', store: files({ labels: '{"env":"prod"}' }), answer: 'approval_required' },
  { what: 'the resource lies at another address', store: files({ spec: '{"address":"two"}' }), answer: 'approval_required' },
  { what: 'the resource is gone', store: (trx) => trx.deleteFrom('documents').where('kind', '=', 'tool').execute(), answer: 'not_found' },
  {
    what: 'its name is another one’s now',
    store: (trx) => trx.updateTable('documents').set({ id: 'res_second' }).where('kind', '=', 'tool').execute(),
    answer: 'not_found',
  },
  {
    what: 'the delegation ended',
    store: (trx, { ids }) => trx.updateTable('delegations').set({ ended_at: START }).where('id', '=', ids['boris>bot']!).execute(),
    answer: 'session_ended',
  },
  { what: 'the agent is disabled', store: (trx, { ids }) => setIdentityState(trx, ids.bot!, 'disabled', START), answer: 'identity_disabled' },
  {
    what: 'the person behind it is disabled',
    store: (trx, { ids }) => setIdentityState(trx, ids.boris!, 'disabled', START),
    answer: 'identity_disabled',
  },
  { what: 'the agent is locked', store: (trx, { ids }) => lock(trx, 'identity', ids.bot!), answer: 'locked' },
  { what: 'the resource is locked', store: (trx, { files }) => lock(trx, 'resource', files.id), answer: 'locked' },
  { what: 'everything is locked', store: (trx) => lock(trx, 'everything', '*'), answer: 'locked' },
  { what: 'the session is over', session: over, answer: 'session_ended' },
  { what: 'the credential is over', session: expired, answer: 'credential_expired' },
  { what: 'the approval is over', clock: ({ clock }) => clock.advance(16 * MINUTE), answer: 'approval_required' },
  { what: 'one byte of an argument', call: call({ ...ARGS, path: 'Report' }), answer: 'approval_required' },
  { what: 'one more argument', call: call({ ...ARGS, force: true }), answer: 'approval_required' },
  { what: 'another order in a list', call: call({ ...ARGS, rows: [2, 1] }), answer: 'approval_required' },
  { what: 'another tool of the same rule’s role', call: call(ARGS, 'anybody'), answer: 'approval_required' },
  {
    what: 'the same as another operation',
    call: call(ARGS, 'write_file', (action) => ({ ...action, operation: 'other' })),
    answer: 'approval_required',
  },
  {
    what: 'the same with more effects',
    call: call(ARGS, 'write_file', (action) => ({ ...action, effects: ['write', 'destroy'] })),
    answer: 'approval_required',
  },
]

const roles = (trx: Write, id: string, names: readonly string[]) =>
  trx
    .updateTable('identities')
    .set({ roles: JSON.stringify(names) })
    .where('id', '=', id)
    .execute()
const lock = (trx: Write, kind: 'identity' | 'resource' | 'everything', target: string) => makeLock(trx, { kind, target, reason: 'stop', now: START })
function over(session: TestSession): void {
  session.over = new ChaperoneError('session_ended', 'The session is over.')
}
function expired(session: TestSession): void {
  session.over = new ChaperoneError('credential_expired', 'The credential is past its end.')
}

/** An approval is good for what it was given for, as everything was when it was given (rule 12). */
describe('what changes between the yes and the run', () => {
  const approved = async (t: TestContext) => {
    const house = await openHouse(t, await sqlitePlace(t))
    const node = await house.startNode()
    const session = house.sessionOf('boris', 'bot')
    const attempt = (given = call(ARGS)(house)) => node.guard.admit(session, given.action, given.admission)
    const parked = await attempt().catch((error) => error.parked)
    const dana = house.sessionOf('dana')
    const { seen } = await node.requests.show(dana, parked.request)
    await node.requests.decide(dana, parked.request, { verdict: 'approve', seen, how: 'cli' })
    const apply = async (change: Change) => {
      if (change.store) await house.reduce((trx) => change.store!(trx, house))
      change.session?.(session, house)
      change.clock?.(house)
    }
    const intents = () => house.records.filter((record) => record.type === 'action.intent').length
    return { house, node, session, attempt, apply, intents, request: parked.request as string }
  }

  for (const change of CHANGES) {
    test(`rule 12: ${change.what}: it does not run`, async (t) => {
      const { house, attempt, apply, intents } = await approved(t)
      await apply(change)
      const code = await attempt(change.call?.(house)).then(
        () => 'allowed',
        (error) => error.code,
      )
      assert.equal(code, change.answer)
      assert.equal(intents(), 0)
    })

    if (change.store)
      test(`rule 12: ${change.what} while the intent is being written: it does not run, and the approval is used up`, async (t) => {
        const { house, node, attempt, apply, request } = await approved(t)
        house.hooks.beforeAppend = async (draft) => {
          if (draft.type !== 'action.intent') return
          house.hooks.beforeAppend = async () => {}
          await apply(change)
        }
        await assert.rejects(attempt(), ChaperoneError)
        const row = await node.requests.parts.book.find(request)
        assert.notEqual(row?.state, 'approved')
        assert.equal(node.guard.open, 0)
      })

    if (change.store)
      test(`rule 6: ${change.what} while it runs: its permit is cut`, async (t) => {
        const { attempt, apply } = await approved(t)
        const permit = await attempt()
        assert.equal(permit.signal.aborted, false)
        await apply(change)
        assert.equal(permit.signal.aborted, true)
      })
  }

  for (const [what, change] of Object.entries({
    locked: (trx: Write, dana: string) => lock(trx, 'identity', dana),
    disabled: (trx: Write, dana: string) => setIdentityState(trx, dana, 'disabled', START),
    'no approver any more': (trx: Write, dana: string) => roles(trx, dana, []),
  }))
    test(`rule 6: who said yes is ${what} while the intent is being written: it does not run, and the approval is used up`, async (t) => {
      const { house, node, attempt, request } = await approved(t)
      house.hooks.beforeAppend = async (draft) => {
        if (draft.type !== 'action.intent') return
        house.hooks.beforeAppend = async () => {}
        await house.reduce((trx) => change(trx, house.ids.dana!))
      }
      await assert.rejects(attempt(), (error: ChaperoneError) => error.code === 'approval_required')
      assert.equal((await node.requests.parts.book.find(request))?.state, 'used')
      assert.equal(node.guard.open, 0)
    })

  test('what was asked about and is allowed by now needs no yes and uses none', async (t) => {
    const { house, node, attempt, request } = await approved(t)
    await house.reduce(role('worker', { ...worker, ask: [], allow: [{ tool: 'files', tools: ['write_file'] }] }))
    assert.equal((await attempt()).decision.verdict, 'allow')
    assert.equal((await node.requests.parts.book.find(request))?.state, 'approved')
  })

  test('a change of something else stops nothing', async (t) => {
    const { house, attempt } = await approved(t)
    await house.reduce(role('auditor', {}))
    const permit = await attempt()
    await house.reduce(role('lead', { allow: [{ tool: 'any', tools: ['x'] }] }))
    assert.equal(permit.signal.aborted, false)
  })

  test('another session of the same chain may use it: a client that lost its connection while somebody thought', async (t) => {
    const { house, node } = await approved(t)
    const { action, admission } = call(ARGS)(house)
    await node.guard.admit(house.sessionOf('boris', 'bot'), action, admission)
  })

  test('rule 12: the same agent in another chain does not', async (t) => {
    const { house, node } = await approved(t)
    const { action, admission } = call(ARGS)(house)
    await assert.rejects(node.guard.admit(house.sessionOf('bot'), action, admission), (error: ChaperoneError) => error.code === 'approval_required')
  })

  test('rule 4: a clock that is set back makes no used approval good again, and no expired one', async (t) => {
    const { house, node, attempt, request } = await approved(t)
    house.clock.advance(16 * MINUTE)
    await node.sweep.round()
    house.clock.set(START)
    const code = await attempt().then(
      () => 'allowed',
      (error) => error.code,
    )
    assert.equal(code, 'approval_required')
    assert.equal((await node.requests.parts.book.find(request))?.state, 'expired')
  })
})
