import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request } from 'node:http'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import { fakeChaperone } from '../../test/fakes/chaperone.ts'
import type { ChaperoneError } from '../errors.ts'
import { openLoopback } from './loopback.ts'

async function start(t: TestContext, origins: string[] = []) {
  const server = await fakeChaperone()
  const keeper = await server.keeper()
  const loopback = await openLoopback({ server: 'files', keeper, origins })
  t.after(async () => {
    await loopback.close()
    await server.close()
  })
  return { server, keeper, loopback, url: new URL(loopback.url) }
}

/** node:http, because fetch does not let a test lie about Host and Origin. */
const ask = (url: URL, { method = 'POST', headers = {}, path = url.pathname, body = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}' } = {}) =>
  new Promise<{ status: number; headers: Record<string, unknown>; text: string }>((resolve, reject) => {
    const asked = request(
      { host: url.hostname, port: url.port, method, path, headers: { 'content-type': 'application/json', ...headers } },
      (answer) => {
        let text = ''
        answer.on('data', (chunk) => (text += chunk))
        answer.on('end', () => resolve({ status: answer.statusCode!, headers: answer.headers, text }))
        answer.on('error', reject)
      },
    )
    asked.on('error', reject)
    asked.end(method === 'POST' ? body : undefined)
  })

test('a request goes on with the agent’s certificate, and nothing that the client believed to be its login', async (t) => {
  const { server, url } = await start(t)
  server.answer = (_, response) => void response.writeHead(200, { 'content-type': 'application/json', 'mcp-session-id': 's1' }).end('{"ok":1}')
  const answer = await ask(url, { headers: { authorization: 'Bearer stolen', cookie: 'a=b', 'mcp-session-id': 's1', 'x-forwarded-for': '10.0.0.1' } })
  assert.deepEqual([answer.status, answer.text, answer.headers['mcp-session-id']], [200, '{"ok":1}', 's1'])
  const [seen] = server.seen
  assert.equal(seen!.path, '/mcp/files')
  assert.notEqual(seen!.certificate, '')
  assert.equal(seen!.headers['mcp-session-id'], 's1')
  assert.match(seen!.body, /tools\/list/)
  for (const name of ['authorization', 'cookie', 'x-forwarded-for']) assert.equal(seen!.headers[name], undefined, name)
})

test('a page in a browser cannot use it: foreign Host, foreign Origin, wrong path', async (t) => {
  const { server, url } = await start(t, ['http://localhost:6274'])
  server.answer = (_, response) => void response.end('{}')
  for (const headers of [{ host: `evil.example:${url.port}` }, { host: '127.0.0.1' }, { origin: 'https://evil.example' }, { origin: 'null' }]) {
    const answer = await ask(url, { headers })
    assert.equal(answer.status, 403, JSON.stringify(headers))
    assert.equal(JSON.parse(answer.text).error.data.code, 'foreign_origin')
  }
  for (const path of ['/', '/mcp/files', `${url.pathname}/`, `${url.pathname}?x`, url.pathname.toUpperCase()])
    assert.equal((await ask(url, { path })).status, 404, path)
  assert.equal((await ask(url, { method: 'PUT' })).status, 501)
  assert.deepEqual(server.seen, [])
  assert.equal((await ask(url, { headers: { origin: 'http://localhost:6274', host: `localhost:${url.port}` } })).status, 200)
})

test('the secret is another one each time, and the port is only on the loopback', async (t) => {
  const [one, two] = [await start(t), await start(t)]
  assert.notEqual(one.url.pathname, two.url.pathname)
  assert.ok(one.url.pathname.length > 32)
  assert.equal(one.url.hostname, '127.0.0.1')
})

test('a stream flows as it comes, and a cut looks like a cut', async (t) => {
  const { server, url } = await start(t)
  let go!: () => void
  server.answer = (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write('data: 1\n\n')
    go = () => response.socket!.destroy()
  }
  const first = await new Promise<string>((resolve, reject) => {
    const asked = request({ host: url.hostname, port: url.port, path: url.pathname, method: 'POST' }, (answer) => {
      answer.once('data', (chunk) => {
        answer.once('error', () => resolve(`${chunk}cut`))
        answer.once('end', () => resolve(`${chunk}clean end`))
        go()
      })
    })
    asked.on('error', reject)
    asked.end('{}')
  })
  assert.equal(first, 'data: 1\n\ncut')
})

test('a client that goes away takes its request with it', async (t) => {
  const { server, url } = await start(t)
  const closed = new Promise<void>((resolve) => {
    server.answer = (_, response) => {
      response.once('close', resolve)
      asked.destroy()
    }
  })
  const asked = request({ host: url.hostname, port: url.port, path: url.pathname, method: 'POST' })
  asked.on('error', () => {})
  asked.end('{}')
  await closed
})

test('a server that is not there is an error in the protocol’s words', async (t) => {
  const { server, url } = await start(t)
  await server.close()
  const answer = await ask(url)
  assert.equal(answer.status, 502)
  assert.equal(JSON.parse(answer.text).error.data.code, 'upstream_unavailable')
  await assert.rejects(
    openLoopback({ server: 'x', keeper: await server.keeper(), port: Number(url.port) }),
    (error: ChaperoneError) => error.code === 'conflict',
  )
})

test('rule 11: who only connects, as every user of the machine can, takes no more descriptors than there is a limit for', {
  timeout: 9_000,
}, async (t) => {
  const { url } = await start(t)
  const sockets = Array.from({ length: 520 }, () => connect(Number(url.port), '127.0.0.1').on('error', () => {}))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
  })
  await Promise.race(sockets.map((socket) => once(socket, 'close')))
})
