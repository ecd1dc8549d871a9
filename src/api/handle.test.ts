import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { openHouse } from './house.fixture.ts'

test('behind a node listener: the caller given there is the one that counts, errors are answered, a watch ends with its socket', async (t) => {
  const native = globalThis.Request
  const { api, signIn, parts } = await openHouse(t)
  const dana = await signIn('dana')
  let caller: { session: typeof dana } | undefined
  const server = createServer((incoming, outgoing) => void api.handle(incoming, outgoing, caller))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const get = (path: string) => fetch(base + path)

  assert.equal((await get('/v1/whoami')).status, 401)
  caller = { session: dana }
  const whoami = await get('/v1/whoami')
  assert.equal(((await whoami.json()) as { name: string }).name, 'dana')
  assert.equal(whoami.headers.get('cache-control'), 'no-store')
  assert.equal((await get('/v1/documents/role/%zz')).status, 404)

  // A body that stops half way: an answer, or a closed socket, but never a stuck handler.
  const half = request(`${base}/v1/locks`, { method: 'POST', headers: { 'content-type': 'application/json', 'content-length': 100 } })
  half.on('error', () => {})
  half.write('{"kind":')
  half.destroy()

  const stop = new AbortController()
  const tail = await fetch(`${base}/v1/audit/tail`, { signal: stop.signal })
  const reader = tail.body!.getReader()
  assert.match(Buffer.from((await reader.read()).value!).toString(), /^: watching/)
  const settled = new Promise<void>((resolve) => {
    const end = parts.audit.watch((envelope) => {
      if (envelope.type !== 'action.outcome') return
      end()
      resolve()
    })
  })
  stop.abort()
  await reader.read().catch(() => {})
  await settled
  assert.equal(globalThis.Request, native)
})
