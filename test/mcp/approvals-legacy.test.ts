import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { manualClock } from '../../src/clock.ts'
import { answerOf, eventually, initialize, type Json, openSession } from '../../src/gateways/mcp/harness.fixture.ts'
import { call, eventsOf, modern, nextId, pending, stateOf, textOf, VERSION, world } from './approvals.fixture.ts'
import { rawServer } from './raw-server.ts'

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
    const list = async () => (await given.post('s', { jsonrpc: '2.0', id: nextId(), method: 'tools/list' }, session)).text()
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
