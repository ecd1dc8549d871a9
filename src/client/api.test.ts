import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { fakeChaperone } from '../../test/fakes/chaperone.ts'
import { openApi } from './api.ts'
import type { ApiError } from './api-error.ts'

const start = async (t: TestContext, more: { factor?: () => Promise<string | undefined> } = {}) => {
  const server = await fakeChaperone()
  const identity = (await server.keeper()).current()
  const api = openApi({ address: server.address, authorities: server.authority.certificate, identity, timeoutMs: 2000, ...more })
  t.after(async () => {
    api.close()
    await server.close()
  })
  return { server, api }
}

test('an error of the server keeps its code, fix, problems and decision', async (t) => {
  const { server, api } = await start(t)
  const problems = [{ file: 'a.yaml', line: 3, column: 5, message: 'no', level: 'error' as const }]
  server.answer = (_, response) =>
    void response
      .writeHead(422)
      .end(JSON.stringify({ error: { code: 'invalid_document', message: 'bad', fix: 'mend', decisionId: 'rec_1', problems } }))
  await assert.rejects(api.call('POST', '/v1/apply', {}), (error: ApiError) => {
    assert.deepEqual(
      [error.code, error.message, error.fix, error.decisionId, error.problems, error.status],
      ['invalid_document', 'bad', 'mend', 'rec_1', problems, 422],
    )
    return true
  })
  assert.notEqual(server.seen[0]!.certificate, '')
})

test('a second factor is asked for once, given, and the call is made again', async (t) => {
  let asked = 0
  const { server, api } = await start(t, { factor: async () => `12345${5 + ++asked}` })
  let given = false
  server.answer = (seen, response) => {
    if (seen.path === '/v1/factor') {
      given = JSON.parse(seen.body).code === '123456'
      response.end('{"until":1}')
    } else if (given) response.end('{"ok":true}')
    else response.writeHead(403).end(JSON.stringify({ error: { code: 'factor_required', message: 'A second factor is needed.' } }))
  }
  assert.deepEqual(await api.call('POST', '/v1/locks', { target: 'x' }), { ok: true })
  assert.equal(asked, 1)
  given = false
  server.answer = (seen, response) =>
    void response
      .writeHead(403)
      .end(JSON.stringify({ error: { code: seen.path === '/v1/factor' ? 'factor_invalid' : 'factor_required', message: 'no' } }))
  await assert.rejects(api.call('POST', '/v1/locks', {}), { code: 'factor_invalid' })
})

test('an unknown code, a page of something between us, and no JSON at all are still errors with a code', async (t) => {
  const { server, api } = await start(t)
  server.answer = (_, response) => void response.writeHead(403).end('{"error":{"code":"from_the_future","message":"later"}}')
  await assert.rejects(api.call('GET', '/v1/x'), { code: 'denied_by_rule', message: 'later' })
  server.answer = (_, response) => void response.writeHead(502).end('<html>')
  await assert.rejects(api.call('GET', '/v1/x'), { code: 'upstream_unavailable' })
  server.answer = (_, response) => void response.end('<html>')
  await assert.rejects(api.call('GET', '/v1/x'), { code: 'malformed' })
})

test('a server that does not answer is given up', async (t) => {
  const { server, api } = await start(t)
  server.answer = () => {}
  await assert.rejects(api.call('GET', '/v1/x', undefined, { timeoutMs: 50 }), { code: 'upstream_timeout' })
})

test("the difference of the clocks is known from the server's Date header", async (t) => {
  const { server, api } = await start(t)
  server.answer = (_, response) => void response.setHeader('date', new Date(Date.now() + 3_600_000).toUTCString()).end('{}')
  assert.equal(api.skewMs, undefined)
  await api.call('GET', '/v1/x')
  assert.ok(Math.abs(api.skewMs! - 3_600_000) < 3000)
})

test('events come one by one, and stop when they are no longer wanted', async (t) => {
  const { server, api } = await start(t)
  server.answer = (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(': hello\n\ndata: {"n":1}\n\ndata: {"n"')
    setImmediate(() => response.write(':2}\r\n\r\n'))
  }
  const stop = new AbortController()
  const seen: number[] = []
  for await (const { n } of api.events<{ n: number }>('/v1/audit/tail', stop.signal)) {
    seen.push(n)
    if (n === 2) stop.abort()
  }
  assert.deepEqual(seen, [1, 2])
})

test('rule 6: a stream that is cut tells its reader why', async (t) => {
  const { server, api } = await start(t)
  server.answer = (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.end('data: {"n":1}\n\nevent: over\ndata: {"error":{"code":"locked","message":"A lock stops this: incident 7"}}\n\n')
  }
  const seen: number[] = []
  await assert.rejects(
    async () => {
      for await (const { n } of api.events<{ n: number }>('/v1/audit/tail')) seen.push(n)
    },
    { code: 'locked', message: 'A lock stops this: incident 7' },
  )
  assert.deepEqual(seen, [1])
})
