import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { createServer as createSecureServer, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { fakeAuthority } from '../../test/fakes/authority.ts'
import { fakeProxy, type ProxyKnobs } from '../../test/fakes/proxy.ts'
import { ChaperoneError } from '../errors.ts'
import { agentFor, openSocket } from './tunnel.ts'

async function world(t: TestContext, knobs: ProxyKnobs = {}) {
  const authority = await fakeAuthority()
  const { key, chain } = await authority.issue(['far.test'])
  const client = await authority.issue()
  const server = createSecureServer(
    { key, cert: chain, ca: authority.certificate, requestCert: true, rejectUnauthorized: false },
    (asked, answer) => {
      answer.end((asked.socket as TLSSocket).authorized ? 'with certificate' : 'without')
    },
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy = await fakeProxy(knobs)
  t.after(async () => {
    server.closeAllConnections()
    server.close()
    await proxy.close()
  })
  const port = (server.address() as AddressInfo).port
  const env = (login = '') => ({ HTTPS_PROXY: `http://${login}127.0.0.1:${proxy.port}` })
  const get = (given: Record<string, string>, own = client.key) =>
    new Promise<string>((resolve, reject) => {
      const options = { ca: authority.certificate, key: own, cert: client.certificate }
      const agent = agentFor({ host: 'far.test', port, secure: true }, options, given)
      const asked = request({ host: 'far.test', port, agent, path: '/', ...options, servername: 'far.test' }, (answer) => {
        let text = ''
        answer.on('data', (chunk) => {
          text += chunk
        })
        answer.once('end', () => resolve(text))
      })
      asked.once('error', reject)
      asked.end()
    })
  const strangersKey = (await authority.issue()).key
  return { proxy, port, env, get, strangersKey }
}

const unavailable = (text: RegExp) => (error: unknown) =>
  error instanceof ChaperoneError &&
  error.code === 'upstream_unavailable' &&
  text.test(`${error.message} ${error.fix}`) &&
  !JSON.stringify(error).includes('hunter2')

test('mutual TLS goes through a CONNECT proxy untouched; the proxy looks the name up', async (t) => {
  const { proxy, env, get, port } = await world(t, { login: 'boris:hunt er2' })
  assert.equal(await get(env('boris:hunt%20er2@')), 'with certificate')
  assert.deepEqual(proxy.seen, [`CONNECT far.test:${port}`])
})

test('a proxy that wants a password, refuses, or is not there is named, and its password is not', async (t) => {
  const { env, get } = await world(t, { login: 'boris:hunter2' })
  await assert.rejects(get(env()), unavailable(/wants a name and a password.*USER:PASSWORD/))
  await assert.rejects(get(env('boris:wrong-hunter2@')), unavailable(/wants a name and a password/))
  const closed = await world(t, { status: 403 })
  await assert.rejects(closed.get(closed.env()), unavailable(/does not connect to far\.test:\d+ \(it answered 403\).*NO_PROXY/))
  await assert.rejects(get({ HTTPS_PROXY: 'http://x:hunter2@127.0.0.1:9' }), unavailable(/^The proxy http:\/\/127\.0\.0\.1:9 cannot be reached/))
})

test('a percent sign in a password may stand for itself', async (t) => {
  const { env, get } = await world(t, { login: 'boris:100%' })
  assert.equal(await get(env('boris:100%@')), 'with certificate')
})

test('a key that does not go with its certificate fails the request, and not the process', async (t) => {
  const { env, get, strangersKey } = await world(t)
  await assert.rejects(get(env(), strangersKey), /key values mismatch/)
})

test('rule 11: a proxy that does not answer is not waited for, and an abort ends the wait', async (t) => {
  const silent = createServer().listen(0, '127.0.0.1')
  silent.on('connect', () => {})
  await once(silent, 'listening')
  t.after(() => {
    silent.closeAllConnections()
    silent.close()
  })
  const env = { HTTPS_PROXY: `http://127.0.0.1:${(silent.address() as AddressInfo).port}` }
  const to = { host: 'far.test', port: 443, secure: true }
  await assert.rejects(openSocket(to, env, { timeoutMs: 50 }), unavailable(/cannot be reached/))
  await assert.rejects(openSocket(to, env, { signal: AbortSignal.timeout(50) }), unavailable(/cannot be reached/))
})

test('plain http is asked of the proxy by its whole address', async (t) => {
  const proxy = await fakeProxy()
  const origin = createServer((asked, answer) => answer.end(`here ${asked.url}`)).listen(0, '127.0.0.1')
  await once(origin, 'listening')
  t.after(async () => {
    origin.close()
    await proxy.close()
  })
  const port = (origin.address() as AddressInfo).port
  const agent = agentFor({ host: 'far.test', port, secure: false }, {}, { HTTP_PROXY: `http://127.0.0.1:${proxy.port}` })
  const { get } = await import('node:http')
  const text = await new Promise<string>((resolve, reject) => {
    get({ host: 'far.test', port, path: '/x?y', agent }, (answer) => {
      answer.setEncoding('utf8').once('data', resolve)
    }).once('error', reject)
  })
  agent.destroy()
  assert.equal(text, 'here /x?y')
  assert.deepEqual(proxy.seen, [`GET http://far.test:${port}/x?y`])
})
