import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AuditDetail, AuditPage } from '../api/audit-contract.ts'
import type { SessionDetail } from '../api/contract.ts'
import { openRequestHouse } from '../api/requests-house.fixture.ts'
import type { McpServerSpec } from '../catalog/mcp-server.ts'
import { describeCall } from '../gateways/mcp/describe.ts'
import { reasonOf, verdictOf } from './audit.ts'

test('a call that ran because somebody said yes is read as approved, with who, which request and the rule', async (t) => {
  const { ask, dana, signIn, calls, decide, show } = await openRequestHouse(t, { record: 'real' })
  const [bot, fred] = [await signIn('bot'), await signIn('fred')]
  const { parked } = await calls(bot, 'files', 'delete_file', { path: '/tmp/x' })
  const request = parked!.request
  const search = async (query: string) => (await ask<AuditPage>(dana, 'GET', `/v1/audit?${query}`)).value.records
  const [asked] = await search('actor=bot&type=action.asked')
  assert.deepEqual([verdictOf(asked!), reasonOf(asked!), asked!.request], ['ask', 'approval_required', request])

  assert.equal((await decide(fred, (await show(fred, request)).value)).status, 200)
  const { permit } = await calls(bot, 'files', 'delete_file', { path: '/tmp/x' })
  const [ran] = await search('actor=bot&type=action.intent')
  assert.equal(ran?.id, permit)
  assert.deepEqual([verdictOf(ran!), reasonOf(ran!)], ['ok', `approved by fred (${request}): role reporter, ask rule 1`])
  assert.deepEqual([ran?.verdict, ran?.reason], ['ask', 'approval_required'], 'what the record says stays as it is')
  const { value } = await ask<AuditDetail>(dana, 'GET', `/v1/audit/records/${permit}`)
  assert.deepEqual([value.approval?.request, value.approval?.by.map(({ name, how }) => [name, how])], [request, [['fred', 'cli']]])

  const { actions } = (await ask<SessionDetail>(dana, 'GET', `/v1/sessions/${bot.id}`)).value
  assert.deepEqual(
    actions.map(({ verdict, summary }) => [verdict, summary]),
    [
      ['approved', 'tools/call delete_file'],
      ['ask', 'tools/call delete_file'],
    ],
  )
})

test('an approved call whose approver is not looked up, as in a tail, still reads as approved', () => {
  const approval = { request: 'req_1', by: [] }
  assert.deepEqual([verdictOf({ verdict: 'ask', approval }), reasonOf({ approval, reason: 'approval_required' })], ['approved', 'approved (req_1)'])
})

test('what was allowed and then refused, because a demand could not be kept, reads as refused and is found', async (t) => {
  const row = { verdict: 'allow', reason: 'allowed', outcome: 'failed' }
  const result = { sent: false, reason: 'obligation_unmet' }
  assert.deepEqual([verdictOf({ ...row, result }), reasonOf({ ...row, result })], ['refused', 'obligation_unmet'])
  assert.deepEqual([verdictOf(row), reasonOf(row)], ['failed', 'allowed'])

  const { ask, dana, signIn, state, guard } = await openRequestHouse(t, { record: 'real' })
  const bot = await signIn('bot')
  const { resource, spec } = state.current().find('mcp', 'files')!
  const action = describeCall({ resource, spec: spec as McpServerSpec, tool: 'read_file', args: {} })
  const permit = await guard.admit(bot, action, {})
  guard.settle(permit, { status: 'failed', facts: { sent: false, reason: 'obligation_unmet' } })
  guard.settle(await guard.admit(bot, action, {}), { status: 'failed' })
  const { records } = (await ask<AuditPage>(dana, 'GET', '/v1/audit?unsent=any')).value
  assert.deepEqual(
    records.map(({ id }) => id),
    [permit.id],
  )
})
