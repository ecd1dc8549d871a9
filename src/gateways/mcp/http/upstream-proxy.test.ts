import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type TestContext, test } from 'node:test'
import { fakeProxy } from '../../../../test/fakes/proxy.ts'
import { systemClock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { listen } from '../harness.fixture.ts'
import { MCP_LIMITS } from '../limits.ts'
import { NotSent } from '../types.ts'
import { UpstreamHttp } from './upstream.ts'

async function place(t: TestContext) {
  const server = createServer((_, response) => response.end('{}'))
  const { port } = new URL(await listen(server))
  const proxy = await fakeProxy()
  const open: UpstreamHttp[] = []
  t.after(async () => {
    for (const one of open) one.close()
    await proxy.close()
    server.closeAllConnections()
    server.close()
  })
  const ask = async (written: string, credential: boolean) => {
    const http = new UpstreamHttp({
      name: 'crm',
      url: written.replace('PORT', port),
      ca: undefined,
      headers: async (): Promise<Record<string, string>> => (credential ? { 'x-api-key': 'hunter2' } : {}),
      credential,
      env: { HTTP_PROXY: `http://boris:pw@127.0.0.1:${proxy.port}` },
      clock: systemClock,
      limits: MCP_LIMITS,
      log() {},
    })
    open.push(http)
    const response = await http.channel({ method: 'GET', headers: {}, stop: new AbortController().signal })
    response.resume()
    return response.statusCode
  }
  return { ask, proxy, port }
}

test('rule 5: a credential for a server without TLS is not shown to the proxy of the company', async (t) => {
  const { ask, proxy } = await place(t)
  for (const [url, credential] of [
    ['http://crm.test:PORT/mcp', true],
    ['http://dana:hunter2@crm.test:PORT/mcp', false],
  ] as const) {
    await assert.rejects(ask(url, credential), (error) => {
      assert.ok(error instanceof NotSent && error instanceof ChaperoneError)
      assert.match(`${error.message} ${error.fix}`, /crm is reached by plain http, and the proxy http:\/\/127\.0\.0\.1:\d+ would read.*NO_PROXY/)
      return true
    })
  }
  assert.deepEqual(proxy.seen, [])
})

test('what says nothing of who asks passes it, and what lies on this machine does not', async (t) => {
  const { ask, proxy, port } = await place(t)
  assert.equal(await ask('http://crm.test:PORT/mcp', false), 200)
  assert.deepEqual(proxy.seen, [`GET http://crm.test:${port}/mcp`])
  assert.equal(await ask('http://127.0.0.1:PORT/mcp', true), 200)
  assert.equal(proxy.seen.length, 1)
})
