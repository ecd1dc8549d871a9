import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { CallWish } from '../../src/access/requests/types.ts'
import { manualClock, systemClock } from '../../src/clock.ts'
import { answerOf, harness, type Json, openSession } from '../../src/gateways/mcp/harness.fixture.ts'
import { openStore } from '../../src/store/open.ts'
import { ARGS, call, eventsOf, modern, pending, ROLE, stateOf, textOf, VERSION, world } from './approvals.fixture.ts'
import { rawServer } from './raw-server.ts'

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
