import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { CallWish } from '../../src/access/requests/types.ts'
import { manualClock, systemClock } from '../../src/clock.ts'
import { answerOf, eventually, type Harness, harness, initialize, type Json, openSession } from '../../src/gateways/mcp/harness.fixture.ts'
import { openStore } from '../../src/store/open.ts'
import { rawServer } from './raw-server.ts'

const VERSION = '2026-07-28'
/** What is asked about is an exception to what is allowed. */
const ROLE = { allow: [{ mcp: 'any', can: 'any' }], ask: [{ mcp: 'any', tools: ['write', 'wizard', 'job'], approvers: { role: 'dba' } }] }
const ARGS = { to: 'prod', n: 1 }

interface Test {
  after(work: () => Promise<void>): void
}

async function world(t: Test, era: 'legacy' | 'modern', more: Partial<Parameters<typeof harness>[0]> = {}) {
  const upstream = await rawServer(era, ['write', 'wizard', 'job', 'read'])
  const given = await harness({ role: ROLE, servers: { s: { url: upstream.url } }, ...more })
  t.after(async () => {
    await given.close()
    upstream.close()
  })
  return { upstream, given }
}

let id = 1

/** One request of a modern client. */
const modern = async (
  given: Harness,
  params: Record<string, unknown> = {},
  { as, server = 's', capabilities = {}, method = 'tools/call' }: { as?: string; server?: string; capabilities?: object; method?: string } = {},
): Promise<Json> => {
  const all: Record<string, unknown> = method === 'tools/call' ? { name: 'write', arguments: ARGS, ...params } : params
  const envelope = { 'io.modelcontextprotocol/protocolVersion': VERSION, 'io.modelcontextprotocol/clientCapabilities': capabilities }
  const name = String(all.name ?? all.uri ?? all.taskId)
  const response = await given.post(
    server,
    { jsonrpc: '2.0', id: id++, method, params: { ...all, _meta: envelope } },
    { 'mcp-protocol-version': VERSION, 'mcp-method': method, 'mcp-name': name, ...(as ? { 'x-test-as': as } : {}) },
  )
  return answerOf(response)
}

/** The events of an open answer, as they come. */
async function* eventsOf(response: Response): AsyncGenerator<Json> {
  let text = ''
  for await (const chunk of response.body!) {
    text += Buffer.from(chunk).toString()
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const data = text
        .slice(0, end)
        .split('\n')
        .find((line) => line.startsWith('data: '))
      text = text.slice(end + 2)
      if (data) yield JSON.parse(data.slice(6))
    }
  }
}

const call = (params: Record<string, unknown> = {}, callId: string | number = id++) => ({
  jsonrpc: '2.0',
  id: callId,
  method: 'tools/call',
  params: { name: 'write', arguments: ARGS, ...params },
})

const pending = async (given: Harness, count = 1) => {
  let found = await given.asked()
  await eventually(() => {
    void given.asked().then((now) => {
      found = now
    })
    return found.length >= count
  }, `${count} requests`)
  return found[count - 1]!.id
}

const textOf = ({ result }: Json): string => result.content[0].text
const stateOf = ({ result }: Json): string => {
  assert.equal(result.resultType, 'input_required', JSON.stringify(result))
  return result.requestState
}

describe('a modern client whose call a human must approve', () => {
  test('rule 12: it comes back with the state that it was given, and the call runs once after the yes (R40)', async (t) => {
    const { upstream, given } = await world(t, 'modern')
    const first = await modern(given)
    assert.equal(first.result.inputRequests, undefined, 'it can be asked nothing')
    const requestState = stateOf(first)
    const request = await pending(given)
    const { parked } = { parked: first.result._meta['dev.chaperone/parked'] }
    assert.deepEqual([parked.request, parked.url, parked.approvers], [request, `https://chaperone.test/requests/${request}`, 'a holder of role dba'])
    const waiting = modern(given, { requestState })
    assert.equal(upstream.calls('write'), 0)
    await given.decide(request, 'approved')
    assert.equal(textOf(await waiting), 'done')
    assert.equal(upstream.calls('write'), 1)
    assert.equal(upstream.got.findLast(({ message }) => message.method === 'tools/call')?.message.params.requestState, undefined)
    stateOf(await modern(given, { requestState }))
    assert.equal(upstream.calls('write'), 1, 'a second time is a second question')
    assert.equal((await given.asked()).length, 2)
    const intent = given.of('action.intent').find((one) => one.request === request)
    assert.equal(intent?.decision?.verdict, 'ask')
  })

  test('rule 12: its approver reads the arguments as they will be sent, and what the server says of the tool (R42)', async (t) => {
    const { upstream, given } = await world(t, 'modern')
    upstream.results.set(
      'tools/list',
      '{"tools":[{"name":"write","title":"Write it","description":"Writes\\u202e it","inputSchema":{"type":"object"}}],"ttlMs":0,"cacheScope":"private"}',
    )
    await modern(given, {}, { method: 'tools/list' })
    const big = '{"n":9007199254740993,"to":"\u202eprod"}'
    const text = JSON.stringify(call()).replace(JSON.stringify(ARGS), big)
    const session = { 'mcp-protocol-version': VERSION, 'mcp-method': 'tools/call', 'mcp-name': 'write' }
    const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"${VERSION}","io.modelcontextprotocol/clientCapabilities":{}},`
    await (await given.post('s', text.replace('"params":{', `"params":{${meta}`), session)).text()
    const [asked] = await given.asked()
    const { shown } = asked!.body as CallWish
    const byTitle = new Map(shown.map((one) => [one.title, one.text]))
    assert.equal(byTitle.get('arguments'), '{\n  "n": 9007199254740993,\n  "to": "\\u202eprod"\n}')
    assert.match(byTitle.get('call')!, /server: s\ntools\/call: write\neffects: write, destroy, egress \(nobody vouches for it/)
    assert.equal(byTitle.get('what the server says of it'), 'Write it\nWrites\\u202e it')
  })

  test('rule 12: what `_meta` says to the server is part of the call, and what it says of the client and the try is not', async (t) => {
    const { upstream, given } = await world(t, 'modern')
    const headers = { 'mcp-protocol-version': VERSION, 'mcp-method': 'tools/call', 'mcp-name': 'write' }
    const envelope = { 'io.modelcontextprotocol/protocolVersion': VERSION, 'io.modelcontextprotocol/clientCapabilities': {} }
    const send = async (_meta: object) => answerOf(await given.post('s', call({ _meta: { ...envelope, ..._meta } }), headers))
    stateOf(await send({ 'com.example/tenant': 'staging', progressToken: 1 }))
    const [asked] = await given.asked()
    const { shown } = asked!.body as CallWish
    assert.equal(shown.find(({ title }) => title === '_meta')?.text, '{\n  "com.example/tenant": "staging"\n}')
    await given.decide(asked!.id, 'approved')
    stateOf(await send({ 'com.example/tenant': 'prod' }))
    stateOf(await send({ 'com.example/tenant': 'staging', 'com.example/force': true }))
    assert.equal(upstream.calls('write'), 0)
    assert.equal(
      textOf(await send({ traceparent: `00-${'1'.repeat(32)}-${'1'.repeat(16)}-00`, progressToken: 2, 'com.example/tenant': 'staging' })),
      'done',
    )
  })

  for (const [mode, capabilities] of [
    ['url', { elicitation: { url: {} } }],
    ['form', { elicitation: {} }],
  ] as const)
    test(`a client that asks its person by ${mode} shows the page once, and the answer approves nothing`, async (t) => {
      const { upstream, given } = await world(t, 'modern', { limits: { approvalPollMs: 0 } })
      const first = await modern(given, {}, { capabilities })
      const request = await pending(given)
      const { method, params } = first.result.inputRequests.approval
      assert.deepEqual([method, params.mode], ['elicitation/create', mode])
      assert.match(mode === 'url' ? params.url : params.message, new RegExp(`https://chaperone.test/requests/${request}`))
      const yes = { approval: { action: 'accept', content: { wait: true } } }
      const second = await modern(given, { requestState: stateOf(first), inputResponses: yes }, { capabilities })
      assert.equal(second.result.inputRequests, undefined, 'the person is not asked again')
      assert.equal(upstream.calls('write'), 0)
      const no = { approval: { action: 'decline' } }
      const third = await modern(given, { requestState: stateOf(second), inputResponses: no }, { capabilities })
      assert.equal(third.result.isError, true)
      assert.match(textOf(third), new RegExp(request))
      assert.equal((await given.asked())[0]!.state, 'pending', 'others may still say yes')
      assert.equal(upstream.calls('write'), 0)
    })

  test('after its rounds it gets a refusal with the request, and the same call runs once after the yes', async (t) => {
    const { upstream, given } = await world(t, 'modern', { limits: { approvalPollMs: 0, approvalRounds: 2 } })
    let answer = await modern(given)
    for (let round = 0; round < 2; round++) answer = await modern(given, { requestState: stateOf(answer) })
    assert.equal(answer.result.isError, true)
    const request = await pending(given)
    assert.match(textOf(answer), new RegExp(`${request}.*https://chaperone.test/requests/${request}.*Send the same call again`))
    assert.equal(answer.result._meta['dev.chaperone/refusal'].parked.request, request)
    await given.decide(request, 'approved')
    assert.equal(textOf(await modern(given)), 'done', 'also without the state')
    stateOf(await modern(given))
    assert.equal(upstream.calls('write'), 1)
  })

  test('rule 12: a changed argument is another question, whatever state it brings (R36)', async (t) => {
    const { upstream, given } = await world(t, 'modern', { limits: { approvalPollMs: 0 } })
    const requestState = stateOf(await modern(given))
    await given.decide(await pending(given), 'approved')
    const changed = { ...ARGS, n: 2 }
    stateOf(await modern(given, { arguments: changed, requestState }))
    assert.equal((await given.asked()).length, 2)
    stateOf(await modern(given, { task: { ttl: 5 }, requestState }))
    assert.equal((await given.asked()).length, 3, 'so is any other parameter')
    assert.equal(upstream.calls('write'), 0)
    assert.equal(textOf(await modern(given, { arguments: { n: 1, to: 'prod' } })), 'done', 'the order of keys is none')
  })

  test('rule 12: of fifty retries at once one runs (R41)', async (t) => {
    const { upstream, given } = await world(t, 'modern')
    const requestState = stateOf(await modern(given))
    const request = await pending(given)
    const waiting = Array.from({ length: 50 }, () => modern(given, { requestState }))
    await given.decide(request, 'approved')
    // Whoever comes second is asked anew, and a no to that ends the waiting of all.
    await given.decide(await pending(given, 2), 'denied', 'once is enough')
    const answers = await Promise.all(waiting)
    assert.equal(upstream.calls('write'), 1)
    assert.equal(answers.filter(({ result }) => result.content?.[0].text === 'done').length, 1)
  })

  test('a state is good for nobody else, and no forged one is believed', async (t) => {
    const { given } = await world(t, 'modern', { limits: { approvalPollMs: 0 } })
    const requestState = stateOf(await modern(given))
    assert.equal((await modern(given, { requestState }, { as: 'mallory' })).error.code, -32602)
    assert.equal((await modern(given, { requestState: `${requestState}A` })).error.code, -32602)
    assert.match(String(given.of('message.refused').at(-1)?.data?.message), /requestState/)
  })

  test('rule 12: a yes that nobody used in time counts no more (R37)', async (t) => {
    const clock = manualClock(Date.parse('2026-11-22T10:00:00Z'))
    const { upstream, given } = await world(t, 'modern', { clock, limits: { approvalPollMs: 0 } })
    const requestState = stateOf(await modern(given))
    await given.decide(await pending(given), 'approved')
    clock.advance(15 * 60_000)
    stateOf(await modern(given, { requestState }))
    assert.equal((await given.asked()).length, 2)
    assert.equal(upstream.calls('write'), 0)
  })

  test('rule 8: a no is told with its reason, and asked about again only when its time is over', async (t) => {
    const { upstream, given } = await world(t, 'modern')
    const requestState = stateOf(await modern(given))
    const waiting = modern(given, { requestState })
    await given.decide(await pending(given), 'denied', 'not on a Sunday')
    const answer = await waiting
    assert.equal(answer.result.isError, true)
    assert.match(textOf(answer), /not on a Sunday.*approval_denied/)
    assert.match(textOf(await modern(given)), /approval_denied/)
    assert.equal((await given.asked()).length, 1)
    assert.equal(upstream.calls('write'), 0)
  })

  test('what an approval could allow is listed', async (t) => {
    const { given } = await world(t, 'modern')
    const { result } = await modern(given, {}, { method: 'tools/list' })
    assert.deepEqual(
      result.tools.map(({ name }: Json) => name),
      ['write', 'wizard', 'job', 'read'],
    )
  })

  test('resources and prompts wait in the same way', async (t) => {
    const ask = [
      { mcp: 'any', resources: ['file:///secret'] },
      { mcp: 'any', prompts: ['plan'] },
    ]
    const { upstream, given } = await world(t, 'modern', { role: { ...ROLE, ask } })
    upstream.results.set('resources/read', '{"contents":[{"uri":"file:///secret","text":"s"}]}')
    upstream.results.set('prompts/get', '{"messages":[]}')
    for (const [method, params, n] of [
      ['resources/read', { uri: 'file:///secret' }, 1],
      ['prompts/get', { name: 'plan', arguments: { a: 'b' } }, 2],
    ] as const) {
      const requestState = stateOf(await modern(given, params, { method }))
      await given.decide(await pending(given, n), 'approved')
      const { result } = await modern(given, { ...params, requestState }, { method })
      assert.ok(result.contents ?? result.messages)
    }
  })

  test('completions and subscriptions are refused at once, and nobody is asked', async (t) => {
    const { given } = await world(t, 'modern', { role: { ...ROLE, ask: [{ mcp: 'any', prompts: ['plan'] }] } })
    const ref = { type: 'ref/prompt', name: 'plan' }
    const { error } = await modern(given, { ref, argument: { name: 'a', value: 'b' } }, { method: 'completion/complete' })
    assert.equal(error.data.reason, 'approval_unavailable')
    assert.match(error.message, /each would be a question of its own.*Send the call without them/s)
    assert.equal((await given.asked()).length, 0)
  })
})

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

describe('a legacy client whose call a human must approve', () => {
  test('rule 12: it is held, told of progress that rises, and answered on the same stream', async (t) => {
    const { upstream, given } = await world(t, 'legacy')
    const session = await openSession(given, 's')
    const response = await given.post('s', call({ _meta: { progressToken: 'p' } }, 7), session)
    const events = eventsOf(response)
    const { value: told } = await events.next()
    const request = await pending(given)
    assert.equal(told.method, 'notifications/progress')
    assert.match(told.params.message, new RegExp(`https://chaperone.test/requests/${request}`))
    assert.ok(told.params.progress > 0 && told.params.progress < 0.01, 'below what a server begins with')
    assert.equal(upstream.calls('write'), 0)
    await given.decide(request, 'approved')
    const { value: answer } = await events.next()
    assert.deepEqual([answer.id, textOf(answer)], [7, 'done'])
    assert.equal(upstream.calls('write'), 1)
  })

  for (const [how, more, ms] of [
    ['without a progress token', {}, 45_000],
    ['with one', { _meta: { progressToken: 1 } }, 170_000],
  ] as const)
    test(`${how} it waits ${ms / 1000} s, and the same call runs once after the yes`, async (t) => {
      const clock = manualClock(Date.parse('2026-11-22T10:00:00Z'))
      const { upstream, given } = await world(t, 'legacy', { clock })
      const session = await openSession(given, 's')
      let over = false
      const waiting = given
        .post('s', call(more), session)
        .then(answerOf)
        .finally(() => {
          over = true
        })
      const request = await pending(given)
      clock.advance(ms - 1)
      await given.asked()
      assert.equal(over, false)
      // The timer may be set a moment after the request is there.
      await eventually(() => {
        clock.advance(1)
        return over
      }, 'the refusal')
      const refused = await waiting
      assert.equal(refused.result.isError, true)
      assert.match(textOf(refused), new RegExp(request))
      await given.decide(request, 'approved')
      assert.equal(textOf(await answerOf(await given.post('s', call(more), session))), 'done')
      assert.equal(upstream.calls('write'), 1)
    })

  test('a client of 2025-11-25 is shown the page; its yes runs nothing, and it hears when it is over', async (t) => {
    const { upstream, given } = await world(t, 'legacy')
    const hello = initialize()
    const opened = await given.post('s', { ...hello, params: { ...hello.params, capabilities: { elicitation: { url: {} } } } })
    await opened.text()
    const session = { 'mcp-session-id': opened.headers.get('mcp-session-id')!, 'mcp-protocol-version': '2025-11-25' }
    const events = eventsOf(await given.post('s', call(), session))
    const { value: question } = await events.next()
    const request = await pending(given)
    assert.equal(question.method, 'elicitation/create')
    assert.deepEqual([question.params.mode, question.params.elicitationId], ['url', request])
    const yes = await given.post('s', { jsonrpc: '2.0', id: question.id, result: { action: 'accept' } }, session)
    assert.equal(yes.status, 202)
    assert.equal((await given.asked())[0]!.state, 'pending')
    assert.equal(upstream.calls('write'), 0)
    await given.decide(request, 'approved')
    const { value: complete } = await events.next()
    assert.deepEqual([complete.method, complete.params.elicitationId], ['notifications/elicitation/complete', request])
    assert.equal(textOf((await events.next()).value), 'done')
  })

  test('whose person does not want to wait gets the refusal at once', async (t) => {
    const { given } = await world(t, 'legacy')
    const hello = initialize()
    const opened = await given.post('s', { ...hello, params: { ...hello.params, capabilities: { elicitation: { url: {} } } } })
    await opened.text()
    const session = { 'mcp-session-id': opened.headers.get('mcp-session-id')!, 'mcp-protocol-version': '2025-11-25' }
    const events = eventsOf(await given.post('s', call(), session))
    const { value: question } = await events.next()
    await (await given.post('s', { jsonrpc: '2.0', id: question.id, result: { action: 'cancel' } }, session)).text()
    let answer: Json
    for await (const event of events) answer = event
    assert.equal(answer.result.isError, true)
  })

  test('rule 12: a client that cancels has nothing run, and its approval stays good', async (t) => {
    const { upstream, given } = await world(t, 'legacy')
    const session = await openSession(given, 's')
    const waiting = given.post('s', call({}, 'mine'), session).then(answerOf)
    const request = await pending(given)
    const cancelled = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'mine' } }
    assert.equal((await given.post('s', cancelled, session)).status, 202)
    await given.decide(request, 'approved')
    await waiting
    assert.equal(upstream.calls('write'), 0)
    assert.equal(upstream.got.filter(({ message }) => message.method === 'notifications/cancelled').length, 0, 'no server knows of it')
    assert.equal(textOf(await answerOf(await given.post('s', call(), session))), 'done')
  })

  test('rule 12: a cancellation that overtakes its call is not forgotten', { timeout: 180_000 }, async (t) => {
    const { given } = await world(t, 'legacy')
    const session = await openSession(given, 's')
    const cancelled = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'mine' } }
    await (await given.post('s', cancelled, session)).text()
    const answer = await answerOf(await given.post('s', call({}, 'mine'), session))
    assert.equal(answer.result.isError, true, 'it is not held')
  })

  for (const era of ['legacy', 'modern'] as const)
    test(`rule 12: for a ${era} client that has gone nothing runs, and its approval stays good`, async (t) => {
      const { upstream, given } = await world(t, era)
      const session = era === 'legacy' ? await openSession(given, 's') : {}
      const requestState = era === 'legacy' ? '' : stateOf(await modern(given))
      const leave = new AbortController()
      const envelope = { 'io.modelcontextprotocol/protocolVersion': VERSION, 'io.modelcontextprotocol/clientCapabilities': {} }
      const more = era === 'legacy' ? {} : { requestState, _meta: envelope }
      const headers = era === 'legacy' ? session : { 'mcp-protocol-version': VERSION, 'mcp-method': 'tools/call', 'mcp-name': 'write' }
      const asked = () => given.of('action.asked').length
      const before = asked()
      const left = fetch(`${given.base}s`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers } as Record<string, string>,
        body: JSON.stringify(call(more)),
        signal: leave.signal,
      }).catch(() => {})
      await eventually(() => asked() > before && given.waiting === 1, 'the question')
      leave.abort()
      await left
      const request = await pending(given)
      await eventually(() => given.waiting === 0, 'the gateway has seen that nobody waits')
      await given.decide(request, 'approved')
      assert.equal(upstream.calls('write'), 0)
      const answer = era === 'legacy' ? await answerOf(await given.post('s', call(), session)) : await modern(given, { requestState })
      assert.equal(textOf(answer), 'done')
      assert.equal(upstream.calls('write'), 1)
    })

  test('a batch does not wait: its call is refused with the request, and the others are answered', { timeout: 180_000 }, async (t) => {
    const { upstream, given } = await world(t, 'legacy')
    upstream.results.set('initialize', '{"protocolVersion":"2025-03-26","capabilities":{"tools":{}},"serverInfo":{"name":"raw","version":"1"}}')
    const session = await openSession(given, 's', {}, '2025-03-26')
    const response = await given.post('s', [call({}, 'w'), call({ name: 'read' }, 'r')], session)
    const [write, read] = (await response.json()) as Json[]
    assert.match(textOf(write), new RegExp(await pending(given)))
    assert.equal(textOf(read), 'done')
  })

  test('rule 12: a tool whose definition changes between question and run is not run by that approval', async (t) => {
    const { upstream, given } = await world(t, 'legacy')
    const session = await openSession(given, 's')
    const list = async () => (await given.post('s', { jsonrpc: '2.0', id: id++, method: 'tools/list' }, session)).text()
    await list()
    const waiting = given.post('s', call(), session).then(answerOf)
    const request = await pending(given)
    upstream.results.set('tools/list', '{"tools":[{"name":"write","description":"and mails it","inputSchema":{"type":"object"}}]}')
    await list()
    await given.decide(request, 'approved')
    const answer = await waiting
    assert.equal(answer.result.isError, true)
    assert.match(textOf(answer), /quarantined/)
    assert.equal(upstream.calls('write'), 0)
    const row = given.pins.of('res_s').get('tool', 'write')!
    await given.pins.approve({ id: 'res_s', name: 's' }, [{ kind: 'tool', name: 'write', sha256: row.pending! }], {
      actor: { id: 'usr_dana', name: 'dana' },
    })
    void given.post('s', call(), session).then((response) => response.text().catch(() => {}))
    assert.notEqual(await pending(given, 2), request, 'the new definition needs a yes of its own')
    assert.equal(upstream.calls('write'), 0)
  })

  test('rule 12: a server that is another one by then is asked about anew, and what was approved reaches nobody (R39, R48)', async (t) => {
    const { upstream, given } = await world(t, 'modern')
    const other = await rawServer('modern', ['write'])
    t.after(async () => other.close())
    const requestState = stateOf(await modern(given))
    const waiting = modern(given, { requestState })
    await eventually(() => given.of('action.asked').length === 2, 'the retry waits')
    const request = await pending(given)
    given.setServer('s', { url: other.url })
    await given.decide(request, 'approved')
    const second = await pending(given, 2)
    assert.equal(upstream.calls('write') + other.calls('write'), 0)
    await given.decide(second, 'approved')
    assert.equal(textOf(await waiting), 'done')
    assert.deepEqual([upstream.calls('write'), other.calls('write')], [0, 1], 'and runs where it was asked about')
  })

  test('a session that ends while a human thinks runs nothing', async (t) => {
    const { upstream, given } = await world(t, 'legacy')
    const session = await openSession(given, 's')
    const waiting = given.post('s', call(), session).then((response) => response.text().catch(() => ''))
    const request = await pending(given)
    given.cut('boris/claude-code')
    await waiting
    await given.decide(request, 'approved')
    assert.equal(upstream.calls('write'), 0)
  })
})

describe('approvals and everything else', () => {
  test('the endpoint of all servers waits as well, in both eras', async (t) => {
    const { upstream, given } = await world(t, 'legacy')
    const name = 's__write'
    const requestState = stateOf(await modern(given, { name }, { server: '' }))
    await given.decide(await pending(given), 'approved')
    assert.equal(textOf(await modern(given, { name, requestState }, { server: '' })), 'done')
    const session = await openSession(given, '')
    const events = eventsOf(await given.post('', call({ name, _meta: { progressToken: 9 } }), session))
    const { value: told } = await events.next()
    assert.deepEqual([told.method, told.params.progressToken], ['notifications/progress', 9])
    await given.decide(await pending(given, 2), 'approved')
    let answer: Json
    for await (const event of events) answer = event
    assert.equal(textOf(answer), 'done')
    assert.equal(upstream.calls('write'), 2)
  })

  test('rule 12: what waits survives a restart, and an approval of before it is used once', async (t) => {
    const dataDir = mkdtempSync(join(tmpdir(), 'chaperone-approvals-'))
    const store = await openStore({ dataDir }, { clock: systemClock })
    t.after(async () => {
      await store.close()
      rmSync(dataDir, { recursive: true })
      rmSync(`${store.location}.own-root-key`, { force: true })
    })
    const upstream = await rawServer('modern', ['write'])
    t.after(async () => upstream.close())
    const start = () => harness({ role: ROLE, servers: { s: { url: upstream.url } }, store })
    const first = await start()
    const requestState = stateOf(await modern(first))
    const request = await pending(first)
    await first.close()
    const second = await start()
    t.after(() => second.close())
    await second.decide(request, 'approved')
    assert.equal(textOf(await modern(second, { requestState })), 'done')
    stateOf(await modern(second, { requestState }))
    assert.equal(upstream.calls('write'), 1)
  })

  test('whose call was approved may follow the task that it made', async (t) => {
    const { upstream, given } = await world(t, 'modern')
    const capabilities = { extensions: { 'io.modelcontextprotocol/tasks': {} } }
    upstream.results.set('tools/call job', '{"resultType":"task","taskId":"t1","status":"working","createdAt":"","lastUpdatedAt":"","ttlMs":null}')
    upstream.results.set('tasks/get', '{"resultType":"complete","taskId":"t1","status":"completed","result":{"content":[]}}')
    const requestState = stateOf(await modern(given, { name: 'job' }, { capabilities }))
    await given.decide(await pending(given), 'approved')
    const made = await modern(given, { name: 'job', requestState }, { capabilities })
    assert.equal(made.result.taskId, 't1')
    const get = () => modern(given, { taskId: 't1' }, { method: 'tasks/get', capabilities })
    for (let i = 0; i < 2; i++) assert.equal((await get()).result.status, 'completed')
    given.setRole({ ...ROLE, ask: [{ mcp: 'any', tools: ['job'], approvers: { role: 'security' } }] })
    assert.equal((await get()).error.data.reason, 'approval_unavailable')
    assert.equal(upstream.calls('job'), 1)
  })
})
