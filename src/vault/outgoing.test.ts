import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer as createPlainServer } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { fakeAuthority } from '../../test/fakes/authority.ts'
import { fakeProxy } from '../../test/fakes/proxy.ts'
import { systemClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { openOutgoing } from './outbound.ts'

const refused = (text: RegExp) => (error: unknown) =>
  error instanceof ChaperoneError && error.code === 'upstream_unavailable' && text.test(error.message)

async function place(t: TestContext) {
  const authority = await fakeAuthority()
  const { key, chain } = await authority.issue(['idp.test'])
  const seen: string[] = []
  const server = createServer({ key, cert: chain }, (request, response) => {
    seen.push(`${request.method} ${request.url}`)
    if (request.url === '/large') response.end('x'.repeat(2_000))
    else if (request.url === '/away') response.writeHead(302, { location: 'http://169.254.169.254/' }).end()
    else if (request.url === '/silent') return
    else if (request.url === '/slow') response.write('{')
    else if (request.url === '/bomb') response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(10_000_000)))
    else request.pipe(response)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  let at: readonly { address: string; family: number }[] = [{ address: '127.0.0.1', family: 4 }]
  let asked = 0
  const open = (env: Record<string, string> = {}) =>
    openOutgoing({
      clock: systemClock,
      env,
      resolve: async () => {
        asked++
        return at
      },
    })
  return {
    ca: authority.certificate,
    url: `https://idp.test:${port}`,
    port,
    seen,
    open,
    asked: () => asked,
    lies: (...addresses: string[]) => {
      at = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
    },
  }
}

test('what a document names is fetched; a private address only where the document says so', async (t) => {
  const { url, ca, open, lies, asked, seen } = await place(t)
  const answer = await open().fetch({ url: `${url}/x`, ca, allowPrivate: true, method: 'POST', body: 'a=1' })
  assert.deepEqual([answer.status, await answer.text()], [200, 'a=1'])
  assert.equal(asked(), 1, 'looked up once: what was checked is what is connected to')
  await assert.rejects(open().fetch({ url, ca }), refused(/private network/))
  for (const address of ['10.0.0.1', '192.168.0.1', 'fd12::1', '::ffff:10.0.0.1']) {
    lies('8.8.8.8', address)
    await assert.rejects(open().fetch({ url, ca }), refused(/private network/), address)
  }
  for (const address of ['169.254.169.254', 'fd00:ec2::254', '0.0.0.0']) {
    lies(address)
    await assert.rejects(open().fetch({ url, ca, allowPrivate: true }), refused(/can lie there/), address)
  }
  lies()
  await assert.rejects(open().fetch({ url, ca, allowPrivate: true }), refused(/no address/))
  for (const [written, why] of [
    ['https://169.254.169.254/', /can lie there/],
    ['https://[::ffff:169.254.169.254]/', /can lie there/],
    ['https://10.0.0.1/', /private/],
    ['https://localhost/', /private/],
    ['https://2130706433/', /private/],
    ['https://localhost./', /private/],
    ['https://0x7f.1/', /private/],
    ['https://0/', /can lie there/],
    ['https://[::]/', /can lie there/],
    ['https://[64:ff9b::a00:1]/', /private/],
    ['https://[64:ff9b:1::a00:1]/', /can lie there/],
    ['https://[::7f00:1]/', /can lie there/],
    ['https://[2002:7f00:1::]/', /can lie there/],
    ['https://[fe80::1]/', /can lie there/],
    ['http://idp.test/', /not https/],
    ['file:///etc/passwd', /not https/],
    ['https://user:pw@idp.test/', /password/],
    ['nonsense', /no valid address/],
  ] as const)
    await assert.rejects(open().fetch({ url: written }), refused(why), written)
  assert.equal(seen.length, 1)
})

test('rule 11: answers are bounded, redirects are not followed, and TLS must verify', async (t) => {
  const { url, ca, open, seen } = await place(t)
  const { fetch } = open()
  await assert.rejects(fetch({ url: `${url}/large`, ca, allowPrivate: true, maxBytes: 1_000 }), refused(/over 1000 bytes/))
  assert.equal((await fetch({ url: `${url}/away`, ca, allowPrivate: true })).status, 302)
  await assert.rejects(fetch({ url: `${url}/silent`, ca, allowPrivate: true, timeoutMs: 30 }), { code: 'upstream_timeout' })
  await assert.rejects(
    fetch({ url: `${url}/slow`, ca, allowPrivate: true, timeoutMs: 300 }),
    { code: 'upstream_timeout' },
    'the time is that of the whole answer',
  )
  const bomb = await (await fetch({ url: `${url}/bomb`, ca, allowPrivate: true })).arrayBuffer()
  assert.ok(bomb.byteLength < 20_000, 'nothing is unpacked, whatever a server says of it')
  const before = seen.length
  await assert.rejects(fetch({ url, allowPrivate: true }), refused(/cannot be reached/))
  assert.equal(seen.length, before, 'nothing was sent to whom nobody vouches for')
})

test('plain http is for this machine alone, and only where the document says so', async (t) => {
  const server = createPlainServer((_, response) => response.end('here')).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => void server.close())
  const { open, lies } = await place(t)
  const { port } = server.address() as AddressInfo
  assert.equal(await (await open().fetch({ url: `http://127.0.0.1:${port}`, allowPrivate: true })).text(), 'here')
  lies('10.0.0.1')
  await assert.rejects(open().fetch({ url: `http://idp.test:${port}`, allowPrivate: true }), refused(/not https/))
  const proxy = await fakeProxy()
  t.after(() => proxy.close())
  const proxied = open({ HTTP_PROXY: `http://127.0.0.1:${proxy.port}`, ALL_PROXY: `http://127.0.0.1:${proxy.port}` })
  const secret = { authorization: 'Basic aHVudGVyMg==' }
  await assert.rejects(proxied.fetch({ url: `http://idp.test:${port}`, allowPrivate: true, headers: secret }), refused(/not https/))
  assert.deepEqual(proxy.seen, [], 'nor does it pass a proxy, which would read all of it')
})

test('behind a proxy names are looked up there, and addresses that are written down are judged all the same', async (t) => {
  const { url, ca, open, asked, port } = await place(t)
  const proxy = await fakeProxy()
  t.after(() => proxy.close())
  const outgoing = open({ HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` })
  const answer = await outgoing.asFetch({ ca })(`${url}/keys`, { method: 'POST', body: new URLSearchParams({ a: 'b' }) })
  assert.equal(await answer.text(), 'a=b')
  assert.deepEqual([asked(), proxy.seen], [0, [`CONNECT idp.test:${port}`]])
  await assert.rejects(outgoing.fetch({ url: 'https://169.254.169.254/' }), refused(/can lie there/))
  await assert.rejects(outgoing.fetch({ url: 'https://10.1.2.3/' }), refused(/private/))
  assert.equal(proxy.seen.length, 1)
})
