import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChaperoneError } from '../../../errors.ts'
import { ALL, type Asked, inputRequired, type Json, permitOf, settle, TestAnswer, textAt, world } from './legacy-world.fixture.ts'

const done = (value: unknown) => ({ resultType: 'complete', content: [{ type: 'text', text: JSON.stringify(value) }] })
const form = (message = 'Who?') => ({ method: 'elicitation/create', params: { message, requestedSchema: { type: 'object', properties: {} } } })
const sample = { method: 'sampling/createMessage', params: { messages: [], maxTokens: 5 } }
const roots = { method: 'roots/list' }

/** Asks `wishes` in the first round, then answers with what it was told. */
const asksOnce =
  (wishes: Json, state?: string) =>
  ({ body }: Asked): Json =>
    body.params.inputResponses === undefined && body.params.requestState === undefined
      ? inputRequired(wishes, state)
      : done(body.params.inputResponses)

const said = (response: Json): Json => JSON.parse(response.result.content[0].text)

test('what a server requires is asked of the client one by one, and the call is repeated with the answers', async () => {
  const state = 'opaque é "quoted" \\u0041 ='
  const { open, request, asks, errands, server } = world({
    script: ({ body }) =>
      body.params.requestState === undefined
        ? `{"jsonrpc":"2.0","id":$ID,"result":{"resultType":"input_required","requestState":${escaped(state)},"inputRequests":{"user":{"method":"elicitation/create","params":{"message":"Who?","n":1.50}},"s":${JSON.stringify(sample)},"r":{"method":"roots/list"}}}}`
        : done(body.params.inputResponses),
    answers: (method) =>
      ({ 'elicitation/create': { action: 'accept', content: { name: 'Dana' } }, 'roots/list': { roots: [] } })[method] ?? { model: 'm' },
  })
  await open()
  const { answer, response } = request('tools/call', { name: 'a', arguments: { n: 1 }, _meta: { progressToken: 9 } }, { id: 'call' })
  assert.deepEqual(said(await response), { user: { action: 'accept', content: { name: 'Dana' } }, s: { model: 'm' }, r: { roots: [] } })
  assert.deepEqual(
    asks.map(({ method }) => method),
    ['elicitation/create', 'sampling/createMessage', 'roots/list'],
  )
  assert.equal(new Set(asks.map(({ id }) => id)).size, 3)
  assert.equal('params' in asks[2], false)
  assert.deepEqual(
    answer.messages.map((message) => message.method ?? message.id),
    ['elicitation/create', 'sampling/createMessage', 'roots/list', 'call'],
  )
  const [, first, second] = server.received
  assert.notEqual(first!.body.id, second!.body.id)
  assert.equal(textAt(second!.text, 'params', 'requestState'), escaped(state))
  assert.deepEqual(second!.body.params.arguments, { n: 1 })
  assert.equal(second!.body.params._meta.progressToken, 9)
  assert.equal(second!.headers['mcp-name'], 'a')
  // The first went out with the client's permit; the second was judged and recorded by itself, as it is.
  assert.deepEqual(errands.slice(1), [second!.body])
})

/** JSON text that JSON.stringify would not write: it must come back as it is. */
const escaped = (text: string) => JSON.stringify(text).replace('A', '\\u0041').replace('o', '\\u006f')

test('every method that may require input does, and no other', async () => {
  const { open, request } = world({ script: asksOnce({ a: form() }), answers: () => ({ action: 'accept' }) })
  await open()
  for (const [method, params] of [
    ['prompts/get', { name: 'a' }],
    ['resources/read', { uri: 'a:b' }],
  ] as const)
    assert.deepEqual(said(await request(method, params).response), { a: { action: 'accept' } })
  assert.match((await request('tools/list').response).error.message, /where it may not/)
})

test('a page to open gets the id that the era of the client knows', async () => {
  const { open, request, asks } = world({
    script: asksOnce({ a: { method: 'elicitation/create', params: { mode: 'url', url: 'https://a.example/', message: 'Sign in' } } }),
    answers: () => ({ action: 'accept' }),
  })
  await open()
  await request('tools/call', { name: 'a' })
  await request('tools/call', { name: 'a' })
  const ids = asks.map(({ params }) => params.elicitationId)
  assert.equal(new Set(ids).size, 2)
  for (const id of ids) assert.equal(typeof id, 'string')
  assert.equal(asks[0].params.url, 'https://a.example/')
})

test('several rounds each carry only their own answers; too many end the call', async () => {
  let round = 0
  const { open, request, server } = world({
    script: ({ body }) => {
      round++
      return round <= 3
        ? inputRequired({ [`k${round}`]: form() }, `s${round}`)
        : body.params.name === 'endless'
          ? inputRequired({ k: form() })
          : done(body.params)
    },
    answers: () => ({ action: 'accept', content: { round } }),
    limits: { rounds: 4 },
  })
  await open()
  const params = said(await request('tools/call', { name: 'a' }).response)
  assert.deepEqual(params.inputResponses, { k3: { action: 'accept', content: { round: 3 } } })
  assert.equal(params.requestState, 's3')
  const { result } = await request('tools/call', { name: 'endless' }).response
  assert.equal(result.isError, true)
  assert.match(result.content[0].text, /asked for more 4 times/)
  assert.equal(server.received.length, 1 + 4 + 5)
})

test('a server that only wants another try gets it, later each time', async () => {
  let tries = 0
  const { open, request, clock, server } = world({ script: () => (++tries < 4 ? inputRequired(undefined, `try ${tries}`) : done(tries)) })
  await open()
  const { response } = request('tools/call', { name: 'a' })
  await settle()
  assert.equal(tries, 2)
  assert.equal(server.received.at(-1)!.body.params.requestState, 'try 1')
  assert.equal('inputResponses' in server.received.at(-1)!.body.params, false)
  clock.advance(250)
  await settle()
  assert.equal(tries, 3)
  clock.advance(499)
  await settle()
  assert.equal(tries, 3)
  clock.advance(1)
  assert.equal(said(await response), 4)
})

test('a client that cannot be asked gets that said, and the server is told before', async () => {
  const cases = [
    { offers: {}, wish: sample, streams: true, why: /asks for sampling\/createMessage, which this client does not offer/ },
    { offers: { sampling: {} }, wish: { ...sample, params: { tools: [] } }, streams: true, why: /does not offer/ },
    { offers: { elicitation: {} }, wish: { method: 'elicitation/create', params: { mode: 'url' } }, streams: true, why: /does not offer/ },
    { offers: { elicitation: { url: {} } }, wish: form(), streams: true, why: /does not offer/ },
    { offers: ALL, wish: { method: 'tools/call' }, streams: true, why: /does not offer/ },
    { offers: ALL, wish: roots, streams: false, why: /reads no event stream/ },
  ]
  for (const { offers, wish, streams, why } of cases) {
    const { open, request, asks, server } = world({ script: asksOnce({ a: wish }) })
    await open(offers)
    const { result } = await request('tools/call', { name: 'a' }, { answer: new TestAnswer(streams) }).response
    assert.equal(result.isError, true)
    assert.match(result.content[0].text, why)
    assert.deepEqual(asks, [])
    const told = server.received.at(-1)!.body.params._meta['io.modelcontextprotocol/clientCapabilities']
    assert.deepEqual(told, streams ? offers : {})
    const read = await request('resources/read', { uri: 'a:b' }, { answer: new TestAnswer(streams) }).response
    assert.match(read.error.message, why)
  }
})

test('an error of the client is a cancelled question, a forbidden one is declined; sampling has no such word', async () => {
  let error: unknown = { error: { code: -1, message: 'no dialog here' } }
  const { open, request, server } = world({
    script: ({ body }) => asksOnce({ a: body.params.name === 'sample' ? sample : form() })({ body } as Asked),
    answers: () => error,
  })
  await open()
  const ask = async (name: string) => (await request('tools/call', { name }).response).result
  assert.deepEqual(JSON.parse((await ask('form')).content[0].text), { a: { action: 'cancel' } })
  const sent = server.received.length
  assert.match((await ask('sample')).content[0].text, /sampling\/createMessage, which the MCP server scripted asked for, failed: no dialog here/)
  assert.equal(server.received.length, sent + 1)
  error = new ChaperoneError('denied_by_rule', 'No.')
  assert.deepEqual(JSON.parse((await ask('form')).content[0].text), { a: { action: 'decline' } })
  error = new ChaperoneError('upstream_timeout', 'Late.')
  assert.deepEqual(JSON.parse((await ask('form')).content[0].text), { a: { action: 'cancel' } })
})

test('nobody waits for ever for a person: the question is taken back', async () => {
  const { open, request, notify, clock, limits, withdrawn, asks } = world({
    script: ({ body }) => asksOnce({ a: body.params.name === 'sample' ? sample : form() })({ body } as Asked),
    answers: () => new Promise(() => {}),
  })
  await open()
  const late = request('tools/call', { name: 'form' })
  const later = request('tools/call', { name: 'sample' })
  await settle()
  clock.advance(limits.askMs)
  assert.deepEqual(said(await late.response), { a: { action: 'cancel' } })
  assert.match((await later.response).result.content[0].text, /failed: nobody answered for 600 s/)
  assert.deepEqual(
    withdrawn.map(({ params }) => params.requestId),
    asks.map(({ id }) => id),
  )
  assert.equal(late.answer.messages.at(-2).method, 'notifications/cancelled')

  const cancelled = request('tools/call', { name: 'a' }, { id: 'x' })
  await settle()
  await notify('notifications/cancelled', { requestId: 'x' })
  assert.match((await cancelled.response).error.message, /cancelled/)
  assert.equal(withdrawn[2].params.requestId, asks[2].id)

  const permit = new AbortController()
  const cut = request('tools/call', { name: 'a' }, { permit: permitOf(permit.signal) })
  await settle()
  permit.abort(new ChaperoneError('locked', 'A lock stops this.'))
  assert.equal((await cut.response).error.data.reason, 'locked')
  assert.equal(withdrawn[3].params.requestId, asks[3].id)
})

test('rule 9: a further round that is refused is not sent', async () => {
  const { open, request, server } = world({
    script: asksOnce({ a: form() }),
    answers: () => ({ action: 'accept' }),
    refuse: (message) => {
      if (message.params.inputResponses !== undefined) throw new ChaperoneError('denied_by_rule', 'No.')
    },
  })
  await open()
  assert.equal((await request('tools/call', { name: 'a' }).response).error.data.reason, 'denied_by_rule')
  assert.equal(server.received.length, 2)
})

test('what cannot be read as a question is an error of the server', async () => {
  const wishes = [{ a: null }, { a: { method: 5 } }, { a: { method: 'roots/list', params: [] } }, [], 'x', undefined]
  for (const wish of wishes) {
    const { open, request } = world({ script: () => inputRequired(wish) })
    await open()
    assert.match((await request('tools/call', { name: 'a' }).response).error.message, /cannot be read/, JSON.stringify(wish))
  }
  const many = world({ script: () => inputRequired(Object.fromEntries(Array.from({ length: 33 }, (_, i) => [i, roots]))) })
  await many.open()
  assert.match((await many.request('tools/call', { name: 'a' }).response).error.message, /more than 32 things/)
})
