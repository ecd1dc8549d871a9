import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { ChaperoneError } from '../../../errors.ts'
import { answerOf, eventually, type Harness, harness, openSession, WHO } from '../harness.fixture.ts'
import type { Builtin, BuiltinCall } from './types.ts'

const NOTES = 'notes/all'
const HINTS = { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false }
const schema = { type: 'object' }

/** A server of one tool, which does what its argument says. */
const state = { open: 0, ended: [] as string[], calls: [] as BuiltinCall[], cancelled: 0 }
const notes: Builtin = {
  resource: { kind: 'mcp', id: 'res_notes/all', name: NOTES, labels: {} },
  title: 'Notes',
  instructions: 'Read them.',
  tools: () => [{ name: 'do', title: 'Do', description: 'does it', inputSchema: schema, outputSchema: schema, annotations: HINTS }],
  open() {
    const number = ++state.open
    return {
      async call(call) {
        state.calls.push(call)
        const { what } = call.args
        if (what === 'fail') throw new ChaperoneError('usage', 'That does not work.', { fix: 'Do it otherwise.' })
        if (what === 'wait')
          await new Promise<void>((done) =>
            call.signal.addEventListener('abort', () => {
              state.cancelled++
              done()
            }),
          )
        return { content: [{ type: 'text', text: `seat ${number}` }], structuredContent: { n: number } }
      },
      async end(why) {
        state.ended.push(why.code)
      },
    }
  },
}

let given: Harness
before(async () => {
  given = await harness({
    role: { allow: [{ mcp: 'any', can: 'any' }] },
    servers: {},
    builtins: {
      find: (session, name) => (name === NOTES && session.principal.name !== 'sam' ? notes : undefined),
      list: (session) => (session.principal.name === 'sam' ? [] : [notes]),
    },
  })
})
after(() => given.close())

const META = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} }
const request = (method: string, params: object = {}, id: string | number = 1) => ({ jsonrpc: '2.0', id, method, params })
const modern = (method: string, params: { name?: string; [key: string]: unknown } = {}, headers: Record<string, string> = {}, server = NOTES) =>
  given.post(server, request(method, { ...params, _meta: META }), {
    'mcp-protocol-version': '2026-07-28',
    'mcp-method': method,
    ...(params.name === undefined ? {} : { 'mcp-name': params.name }),
    ...headers,
  })

test('it answers in both eras, and nothing of it is an action of MCP', async () => {
  given.records.length = 0
  const session = await openSession(given, NOTES)
  const legacy = await answerOf(await given.post(NOTES, request('tools/call', { name: 'do' }), session))
  assert.deepEqual(Object.keys(legacy.result).sort(), ['content', 'structuredContent'])
  assert.deepEqual((await answerOf(await given.post(NOTES, request('ping'), session))).result, {})
  assert.equal((await answerOf(await given.post(NOTES, request('tools/list'), session))).result.tools[0].name, 'do')
  const found = await answerOf(await modern('server/discover'))
  assert.deepEqual([found.result.capabilities, found.result.instructions, found.result.cacheScope], [{ tools: {} }, 'Read them.', 'private'])
  assert.equal((await answerOf(await modern('tools/list'))).result.ttlMs, 0)
  assert.equal((await answerOf(await modern('tools/call', { name: 'do' }))).result.resultType, 'complete')
  assert.deepEqual(
    given.records.map(({ type }) => type),
    ['connection.opened'],
  )
})

test('what it does not have is not there: methods, pages, tools', async () => {
  const session = await openSession(given, NOTES)
  assert.equal((await answerOf(await given.post(NOTES, request('prompts/list'), session))).error.code, -32601)
  const unknown = await modern('prompts/list')
  assert.deepEqual([unknown.status, (await answerOf(unknown)).error.code], [404, -32601])
  assert.equal((await answerOf(await modern('tools/list', { cursor: 'x' }))).error.code, -32602)
  assert.equal((await answerOf(await modern('tools/call', { name: 'undo' }))).error.code, -32602)
  assert.equal((await given.post(NOTES, { jsonrpc: '2.0', method: 'tools/call', params: { name: 'do' } }, session)).status, 400)
})

test('a call that never became an action is told to the model, and recorded', async () => {
  given.records.length = 0
  const { result } = await answerOf(await modern('tools/call', { name: 'do', arguments: { what: 'fail' } }))
  assert.deepEqual(result.content, [{ type: 'text', text: 'That does not work. Do it otherwise.' }])
  assert.equal(result.isError, true)
  assert.deepEqual(
    given.records.map(({ type, data }) => [type, data?.server, data?.reason]),
    [['message.refused', NOTES, 'usage']],
  )
})

test('a call ends when its client cancels it, goes away, or its session ends', async () => {
  const session = await openSession(given, NOTES)
  const wait = (id: string) => given.post(NOTES, request('tools/call', { name: 'do', arguments: { what: 'wait' } }, id), session)
  const [one, two] = [wait('one'), wait('two')]
  const before = state.calls.length
  await eventually(() => state.calls.length >= before && state.calls.filter(({ args }) => args.what === 'wait').length === 2, 'both run')
  await given.post(NOTES, { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'one' } }, session)
  await one
  assert.equal(state.cancelled, 1)
  await fetch(`${given.base}${NOTES}`, { method: 'DELETE', headers: session })
  await two
  assert.equal(state.cancelled, 2)

  const gone = new AbortController()
  const leaving = fetch(`${given.base}${NOTES}`, {
    method: 'POST',
    signal: gone.signal,
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'tools/call',
      'mcp-name': 'do',
    },
    body: JSON.stringify(request('tools/call', { name: 'do', arguments: { what: 'wait' }, _meta: META })),
  }).catch(() => {})
  await eventually(() => state.calls.filter(({ args }) => args.what === 'wait').length === 3, 'the third runs')
  gone.abort()
  await leaving
  await eventually(() => state.cancelled === 3, 'the third is cancelled')
})

test('each session has a seat of its own, which ends with it', async () => {
  const seatOf = async (headers: Record<string, string>) =>
    (await answerOf(await modern('tools/call', { name: 'do' }, headers))).result.structuredContent.n
  const dana = { 'x-test-as': 'dana' }
  const mine = await seatOf({})
  assert.equal(await seatOf({}), mine)
  assert.notEqual(await seatOf(dana), mine)
  const ended = state.ended.length
  given.cut('dana')
  await eventually(() => state.ended.length === ended + 1, 'it ended')
  assert.equal(state.ended.at(-1), 'locked')
})

test('rule 8: who may not see it finds nothing there, as everybody does where nothing is', async () => {
  const sam = { 'x-test-as': 'sam' }
  const hidden = await modern('tools/list', {}, sam)
  const absent = await modern('tools/list', {}, sam, 'notes/alL')
  assert.equal(hidden.status, 404)
  assert.equal((await hidden.text()).replace('notes/all', 'notes/alL'), await absent.text())
  assert.equal(given.of('message.refused').filter(({ data }) => data?.reason === 'not_found').length, 2)
})

test('among all servers its tools carry its name, and its seat is that of the session', async () => {
  const all = (method: string, params: { name?: string; [key: string]: unknown } = {}) => modern(method, params, {}, '')
  assert.deepEqual(
    (await answerOf(await all('tools/list'))).result.tools.map(({ name }: { name: string }) => name),
    ['notes_all__do'],
  )
  assert.equal((await answerOf(await all('tools/call', { name: 'notes_all__do' }))).result.isError, undefined)
  assert.deepEqual((await answerOf(await all('prompts/list'))).result.prompts, [])
  assert.equal(state.calls.at(-1)!.session.principal.name, WHO)
})
