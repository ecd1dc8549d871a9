import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { modern, pending, ROLE, stateOf, type Test, textOf, world } from './approvals.fixture.ts'

describe('a server that asks back while it runs under an approval', () => {
  const REQUIRED =
    '{"resultType":"input_required","inputRequests":{"sure":{"method":"elicitation/create","params":{"mode":"form","message":"Sure?","requestedSchema":{"type":"object","properties":{}}}}},"requestState":"opaque"}'
  const capabilities = { elicitation: {} }
  const sure = { inputResponses: { sure: { action: 'accept', content: {} } } }
  const wizard = { name: 'wizard' }

  async function asked(t: Test, required = REQUIRED) {
    const all = await world(t, 'modern')
    const { upstream, given } = all
    upstream.results.set('tools/call wizard', required)
    const requestState = stateOf(await modern(given, wizard, { capabilities }))
    await given.decide(await pending(given), 'approved')
    const round = await modern(given, { ...wizard, requestState }, { capabilities })
    upstream.results.set('tools/call wizard', '{"resultType":"complete","content":[{"type":"text","text":"deployed"}]}')
    return { ...all, round, back: { ...wizard, ...sure, requestState: stateOf(round) } }
  }

  test('rule 12: the approval covers the further rounds of that call, each once', async (t) => {
    const { upstream, given, round, back } = await asked(t)
    assert.ok(round.result.inputRequests.sure)
    const answers = await Promise.all([modern(given, back, { capabilities }), modern(given, back, { capabilities })])
    assert.deepEqual(answers.map((one) => (one.result.isError ? 'refused' : textOf(one))).sort(), ['deployed', 'refused'])
    assert.match(textOf(answers.find((one) => one.result.isError)!), /approval_(used|unavailable)/)
    assert.equal(upstream.calls('wizard'), 2)
    const { message } = upstream.got.at(-1)!
    assert.deepEqual([message.params.requestState, message.params.inputResponses], ['opaque', sure.inputResponses], 'the server gets its own state')
    const again = await modern(given, back, { capabilities })
    assert.match(textOf(again), /approval_unavailable|approval_used/)
    assert.equal(upstream.calls('wizard'), 2)
    assert.equal((await given.asked()).length, 1)
  })

  test('rule 12: a further round with another argument is no round of that call', async (t) => {
    const { upstream, given, back } = await asked(t)
    const { error } = await modern(given, { ...back, arguments: { to: 'elsewhere' } }, { capabilities })
    assert.equal(error.code, -32602)
    assert.equal(upstream.calls('wizard'), 1)
  })

  test('a server without a state of its own gets none', async (t) => {
    const { upstream, given, back } = await asked(t, REQUIRED.replace(',"requestState":"opaque"', ''))
    assert.equal(textOf(await modern(given, back, { capabilities })), 'deployed')
    assert.equal('requestState' in upstream.got.at(-1)!.message.params, false)
  })

  test('a round is judged like any call: a rule that came in the meantime refuses it', async (t) => {
    const { upstream, given, back } = await asked(t)
    given.setRole({ ...ROLE, deny: [{ mcp: 'any', tools: ['wizard'] }] })
    assert.match(textOf(await modern(given, back, { capabilities })), /denied_by_rule/)
    given.setRole({ ...ROLE, ask: [{ mcp: 'any', tools: ['wizard'], approvers: { role: 'security' } }] })
    assert.match(textOf(await modern(given, back, { capabilities })), /approval_unavailable/, 'nor does another rule’s yes count')
    assert.equal(upstream.calls('wizard'), 1)
  })

  test('answers to a server that nobody asked for do not slip under an approval', async (t) => {
    const { upstream, given } = await world(t, 'modern')
    stateOf(await modern(given, wizard))
    await given.decide(await pending(given), 'approved')
    for (const more of [sure, { requestState: 'made up' }]) assert.match(textOf(await modern(given, { ...wizard, ...more })), /approval_unavailable/)
    assert.equal(upstream.calls('wizard'), 0)
    assert.equal(textOf(await modern(given, wizard)), 'done')
  })
})
