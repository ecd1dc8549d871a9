import assert from 'node:assert/strict'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import type { LockRow } from '../../src/api/contract.ts'
import type { RequestRow } from '../../src/api/requests-contract.ts'
import { openApi } from '../../src/client/api.ts'
import { openDataPlane } from '../../src/client/data-plane.ts'
import { EventStreamReader } from '../../src/client/event-stream.ts'
import { apply, governed, issued, unrenewed } from '../parts/governed.ts'

/** A lock hides tools, and lifting it brings them back: clients that listen are told, as they are when a server's own list changes. */

const MODERN = '2026-07-28'
const LEGACY = '2025-06-18'
const LISTS = ['tools', 'prompts', 'resources'].map((list) => `notifications/${list}/list_changed`)

/** A server of the modern era with two tools, which itself never tells of a change. */
async function quiet(t: { after(work: () => Promise<void>): void }): Promise<number> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      if (request.method !== 'POST') return void response.writeHead(405).end()
      const { id, method, params } = JSON.parse(Buffer.concat(chunks).toString())
      if (id === undefined) return void response.writeHead(202).end()
      const answer = (result: object) =>
        response
          .writeHead(200, { 'Content-Type': 'application/json' })
          .end(JSON.stringify({ jsonrpc: '2.0', id, result: { resultType: 'complete', ttlMs: 0, cacheScope: 'private', ...result } }))
      const capabilities = { tools: { listChanged: true } }
      if (method === 'server/discover') return answer({ supportedVersions: [MODERN], capabilities })
      if (method === 'tools/list') return answer({ tools: ['read', 'write'].map((name) => ({ name, inputSchema: { type: 'object' } })) })
      if (method !== 'subscriptions/listen') return answer({})
      const acknowledged = {
        method: 'notifications/subscriptions/acknowledged',
        params: { notifications: params.notifications, _meta: { 'io.modelcontextprotocol/subscriptionId': id } },
      }
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.write(`event: message\ndata: ${JSON.stringify({ jsonrpc: '2.0', ...acknowledged })}\n\n`)
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.after(async () => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

interface Note {
  readonly id?: number
  readonly method?: string
  readonly params?: { readonly _meta?: Readonly<Record<string, unknown>> }
}

/** What comes on a stream, one by one. */
async function* notes(answer: IncomingMessage): AsyncGenerator<Note> {
  assert.equal(answer.statusCode, 200)
  const reader = new EventStreamReader()
  for await (const chunk of answer) for (const { data } of reader.push(chunk as Buffer)) if (data !== '') yield JSON.parse(data) as Note
}

/** The next so many changes of lists that the stream tells of. */
async function changes(from: AsyncGenerator<Note>, many: number): Promise<Note[]> {
  const seen: Note[] = []
  while (seen.length < many) {
    const { value, done } = await from.next()
    assert.ok(!done, `the stream ended after ${JSON.stringify(seen)}`)
    if (LISTS.includes(value.method ?? '')) seen.push(value)
  }
  return seen
}

test('a lock on a tool, and its end, are told to every client that listens: in both eras, at a server and at all of them', {
  timeout: 180_000,
}, async (t) => {
  const { dana } = await governed(t)
  const port = await quiet(t)
  await apply(
    dana,
    `
kind: mcp
name: files
spec: { url: "http://127.0.0.1:${port}/", trusted: true, tools: { read: { effects: [read] }, write: { effects: [write] } } }
---
kind: role
name: worker
spec: { allow: [{ mcp: files, tools: any }] }
---
kind: user
name: boris
spec: {}
---
kind: agent
name: boris-ai
spec: { owner: boris, roles: [worker] }
---
kind: agent
name: nobody
spec: { owner: boris, roles: [] }
`,
  )
  const planeOf = async (name: string) => {
    const plane = openDataPlane(unrenewed(await issued(dana, name, '10m')))
    t.after(async () => plane.close())
    return plane
  }
  const plane = await planeOf('boris-ai')
  const post = (to: typeof plane, path: string, message: object, headers: Record<string, string>) => {
    const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', ...message }))
    const common = { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream', 'Content-Length': String(body.length) }
    return to.send({ method: 'POST', path, headers: { ...common, ...headers }, body })
  }
  const meta = { 'io.modelcontextprotocol/protocolVersion': MODERN, 'io.modelcontextprotocol/clientCapabilities': {} }
  const modern = async (to: typeof plane, path: string) => {
    const notifications = { toolsListChanged: true, promptsListChanged: false }
    const listen = { id: 7, method: 'subscriptions/listen', params: { notifications, _meta: meta } }
    const stream = notes(await post(to, path, listen, { 'MCP-Protocol-Version': MODERN, 'Mcp-Method': 'subscriptions/listen' }))
    assert.equal((await stream.next()).value?.method, 'notifications/subscriptions/acknowledged')
    return stream
  }
  const legacy = async (path: string) => {
    const params = { protocolVersion: LEGACY, capabilities: {}, clientInfo: { name: 'test', version: '1' } }
    const greeted = await post(plane, path, { id: 1, method: 'initialize', params }, {})
    const session = String(greeted.headers['mcp-session-id'])
    greeted.resume()
    const headers = { 'Mcp-Session-Id': session, 'MCP-Protocol-Version': LEGACY }
    ;(await post(plane, path, { method: 'notifications/initialized' }, headers)).resume()
    return notes(await plane.send({ method: 'GET', path, headers: { ...headers, Accept: 'text/event-stream' } }))
  }
  const streams = {
    modern: await modern(plane, '/mcp/files'),
    'modern, all servers': await modern(plane, '/mcp'),
    legacy: await legacy('/mcp/files'),
    'legacy, all servers': await legacy('/mcp'),
  }
  const blind = await modern(await planeOf('nobody'), '/mcp')
  let told = false
  void changes(blind, 1).then(
    () => (told = true),
    () => {},
  )

  const listed = async () => {
    const answer = await post(
      plane,
      '/mcp/files',
      { id: 2, method: 'tools/list', params: { _meta: meta } },
      { 'MCP-Protocol-Version': MODERN, 'Mcp-Method': 'tools/list' },
    )
    let text = ''
    for await (const chunk of answer) text += chunk
    return (JSON.parse(text).result.tools as { name: string }[]).map(({ name }) => name)
  }
  const everybodyIsTold = async (what: string) => {
    for (const [who, stream] of Object.entries(streams)) {
      const isModern = who.startsWith('modern')
      const seen = await changes(stream, isModern ? 1 : LISTS.length)
      assert.deepEqual(
        seen.map(({ method }) => method),
        isModern ? LISTS.slice(0, 1) : LISTS,
        `${what}: ${who}`,
      )
      if (isModern) assert.equal(seen[0]?.params?._meta?.['io.modelcontextprotocol/subscriptionId'], 7, who)
    }
  }
  assert.deepEqual(await listed(), ['read', 'write'])
  await dana.freshFactor()
  const lock = await dana.api.call<LockRow>('POST', '/v1/locks', { kind: 'tool', target: 'files/write', reason: 'incident 7' })
  await everybodyIsTold('locked')
  assert.deepEqual(await listed(), ['read'])
  await dana.api.call('DELETE', `/v1/locks/${lock.id}`)
  await everybodyIsTold('lifted')
  assert.deepEqual(await listed(), ['read', 'write'])
  assert.ok(!told, 'rule 8: who may not see the server hears nothing of it')
})

test('a role that is granted, its end, another role and a new server are told as well; who gained or lost nothing hears nothing', {
  timeout: 180_000,
}, async (t) => {
  const { dana } = await governed(t)
  const port = await quiet(t)
  const server = (name: string) => `kind: mcp
name: ${name}
labels: { team: ${name === 'elsewhere' ? 'b' : 'a'} }
spec: { url: "http://127.0.0.1:${port}/", trusted: true, tools: { read: { effects: [read] }, write: { effects: [write] } } }
`
  const documents = (roles: string) => `${server('files')}---
kind: role
name: reader
spec:
  allow: [{ mcp: { labels: { team: a } }, tools: [read] }]
  request: [{ role: writer, max: 1h, automatic: [{ approve: { up_to: 1h } }], approvers: { role: admin } }]
---
kind: role
name: writer
spec: { allow: [{ mcp: files, tools: [write] }] }
---
kind: role
name: other
spec: { allow: [{ mcp: elsewhere, tools: [read] }] }
---
${server('elsewhere')}---
kind: user
name: boris
spec: {}
---
kind: agent
name: boris-ai
spec: { owner: boris, roles: [${roles}] }
---
kind: agent
name: nobody
spec: { owner: boris, roles: [other] }
`
  await apply(dana, documents('reader'))
  const meta = { 'io.modelcontextprotocol/protocolVersion': MODERN, 'io.modelcontextprotocol/clientCapabilities': {} }
  const listen = async (name: string) => {
    const credential = unrenewed(await issued(dana, name, '10m'))
    const plane = openDataPlane(credential)
    t.after(async () => plane.close())
    const message = { jsonrpc: '2.0', id: 7, method: 'subscriptions/listen', params: { notifications: { toolsListChanged: true }, _meta: meta } }
    const body = Buffer.from(JSON.stringify(message))
    const common = { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream', 'Content-Length': String(body.length) }
    const stream = notes(
      await plane.send({
        method: 'POST',
        path: '/mcp',
        headers: { ...common, 'MCP-Protocol-Version': MODERN, 'Mcp-Method': 'subscriptions/listen' },
        body,
      }),
    )
    assert.equal((await stream.next()).value?.method, 'notifications/subscriptions/acknowledged')
    const { address, bundles } = credential.current().profile
    const api = openApi({ address, authorities: bundles.server, identity: credential.current() })
    t.after(async () => api.close())
    return { stream, api }
  }
  const { stream, api } = await listen('boris-ai')
  await apply(dana, documents('reader, writer'))
  assert.equal((await changes(stream, 1))[0]?.method, LISTS[0], 'another role')
  // From here on: what was applied before anybody listened has been told of by now.
  const blind = await listen('nobody')
  let told = false
  void changes(blind.stream, 1).then(
    () => (told = true),
    () => {},
  )
  await apply(dana, `${documents('reader, writer')}---\n${server('notes')}`)
  await changes(stream, 1)
  await apply(dana, documents('reader'))
  await changes(stream, 1)
  const granted = await api.call<RequestRow>('POST', '/v1/requests', { kind: 'access', role: 'writer', for: '10m' })
  assert.equal(granted.state, 'approved')
  await changes(stream, 1)
  await api.call('POST', `/v1/requests/${granted.id}/withdraw`, {})
  await changes(stream, 1)
  assert.ok(!told, 'rule 8: of what is not his he hears nothing')
})
