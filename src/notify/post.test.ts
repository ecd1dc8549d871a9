import assert from 'node:assert/strict'
import { createServer as createPlainServer } from 'node:http'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { ChaperoneError } from '../errors.ts'
import { receiver } from './house.fixture.ts'
import { type Post, post } from './post.ts'
import { checkedLookup, systemResolve } from './reach.ts'

const ask = (more: Partial<Post> & Pick<Post, 'url'>) =>
  post({ headers: {}, body: '{}', resolve: systemResolve, signal: new AbortController().signal, ...more })

test('a status of success is success, whatever comes behind it: another length, nonsense, an answer without end', async (t) => {
  const there = await receiver(t)
  const answers: Parameters<typeof receiver>[1][] = [
    (response) => response.writeHead(200, { 'content-length': 1000 }).end('short'),
    (response) => response.writeHead(202, { 'content-type': 'application/json' }).end('<html>{{{'),
    (response) => response.writeHead(204).end(),
    (response) => {
      response.writeHead(200)
      const more = (): void => void (response.destroyed || response.write('x'.repeat(64 * 1024), () => setImmediate(more)))
      more()
    },
  ]
  for (const answer of answers) {
    const closed = Promise.withResolvers<void>()
    there.answer = (response, got, socket) => {
      socket.once('close', () => closed.resolve())
      answer!(response, got, socket)
    }
    assert.deepEqual(await ask({ url: there.url, ca: there.ca }), { ok: true })
    await closed.promise // nobody reads on
  }
})

test('what is no success fails, and the words of the receiver are in no error', async (t) => {
  const there = await receiver(t)
  const secret = 'what-the-receiver-says'
  for (const [status, headers, expected] of [
    [500, {}, { ok: false, error: 'answered 500' }],
    [404, {}, { ok: false, error: 'answered 404' }],
    [410, {}, { ok: false, error: 'answered 410', final: true }],
    [429, { 'retry-after': '30' }, { ok: false, error: 'answered 429', retryAfterMs: 30_000 }],
    [503, { 'retry-after': '999999' }, { ok: false, error: 'answered 503', retryAfterMs: 3_600_000 }],
    [503, { 'retry-after': 'Fri, 31 Dec 2999 23:59:59 GMT' }, { ok: false, error: 'answered 503' }],
    [999, {}, { ok: false, error: 'answered 999' }],
  ] as const) {
    there.answer = (response) => response.writeHead(status, headers).end(secret)
    assert.deepEqual(await ask({ url: there.url, ca: there.ca }), expected)
  }
})

test('a redirect is followed nowhere, least of all to a metadata service', async (t) => {
  const there = await receiver(t, (response, { path }) =>
    path === '/hook' ? response.writeHead(307, { location: '/elsewhere' }).end() : response.end(),
  )
  const expected = { ok: false, error: 'answered 307; redirects are not followed' }
  assert.deepEqual(await ask({ url: there.url, ca: there.ca }), expected)
  assert.deepEqual(
    there.seen.map(({ path }) => path),
    ['/hook'],
  )
  there.answer = (response) => response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data/' }).end()
  assert.deepEqual(await ask({ url: there.url, ca: there.ca }), { ok: false, error: 'answered 302; redirects are not followed' })
})

test('who hangs, resets, switches protocols or sends headers without end is left', async (t) => {
  const there = await receiver(t)
  there.answer = (_response, _got, socket) => void socket.destroy()
  assert.deepEqual(await ask({ url: there.url, ca: there.ca }), { ok: false, error: 'ECONNRESET' })

  const late = new AbortController()
  there.answer = () => late.abort(new ChaperoneError('upstream_timeout', 'no answer within 10 s'))
  assert.deepEqual(await ask({ url: there.url, ca: there.ca, signal: late.signal }), { ok: false, error: 'no answer within 10 s' })

  there.answer = (_response, _got, socket) => void socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n')
  assert.equal((await ask({ url: there.url, ca: there.ca })).ok, false)

  there.answer = (_response, _got, socket) =>
    void socket.write(`HTTP/1.1 200 OK\r\n${'x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n'.repeat(10_000)}`)
  assert.deepEqual(await ask({ url: there.url, ca: there.ca }), { ok: false, error: 'HPE_HEADER_OVERFLOW' })
})

test('a certificate of another authority, or for another name, is not believed', async (t) => {
  const there = await receiver(t)
  assert.deepEqual(await ask({ url: there.url }), { ok: false, error: 'SELF_SIGNED_CERT_IN_CHAIN' })
  // A name of ours that leads to another machine of ours.
  const resolve = async () => [{ address: '127.0.0.1', family: 4 }]
  assert.deepEqual(await ask({ url: `https://x.localhost:${there.port}/`, ca: there.ca, resolve }), {
    ok: false,
    error: 'ERR_TLS_CERT_ALTNAME_INVALID',
  })
  assert.equal(there.seen.length, 0)
})

test('no message goes to link-local addresses, metadata services or this machine, by whatever name they have', async (t) => {
  const there = await receiver(t)
  const refused = async (url: string, addresses: readonly string[] = []) => {
    const attempt = await ask({
      url,
      ca: there.ca,
      resolve: async () => addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    })
    assert.ok(!attempt.ok && attempt.error.startsWith('refused: '), `${url} ${addresses}: ${JSON.stringify(attempt)}`)
  }
  for (const host of ['169.254.169.254', '[::ffff:169.254.169.254]', '[fd00:ec2::254]', '100.100.100.200', '0.0.0.0', '[fe80::1]', '2852039166'])
    await refused(`https://${host}/`)
  for (const addresses of [['169.254.169.254'], ['203.0.113.1'], ['::ffff:169.254.169.254'], ['8.8.8.8', '169.254.169.254'], ['fe80::1'], []])
    await refused('https://hooks.test/', addresses)
  await refused(`https://hooks.test:${there.port}/`, ['127.0.0.1'])
  await refused(`https://hooks.test:${there.port}/`, ['::1'])
  await refused(`https://user:password@localhost:${there.port}/`, ['127.0.0.1'])
  assert.equal(there.seen.length, 0)
})

test('the address that was checked is the one that is connected to, also where the name changes', async (t) => {
  const there = await receiver(t)
  let asked = 0
  const resolve = async () => {
    asked++
    return [{ address: asked === 1 ? '127.0.0.1' : '169.254.169.254', family: 4 }]
  }
  assert.deepEqual(await ask({ url: there.url, ca: there.ca, resolve }), { ok: true })
  assert.equal(asked, 1)
})

test('plain text goes to this machine alone, and only where that was written', async (t) => {
  const seen: string[] = []
  const server = createPlainServer((request, response) => {
    seen.push(request.url ?? '')
    response.end()
  })
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  t.after(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  assert.deepEqual(await ask({ url }), { ok: false, error: 'refused: the address is not https' })
  assert.deepEqual(await ask({ url: 'http://10.0.0.1/', insecure: true }), { ok: false, error: 'refused: without TLS nothing leaves this machine' })
  const resolve = async () => [{ address: '10.0.0.1', family: 4 }]
  assert.deepEqual(await ask({ url: 'http://hooks.test/', insecure: true, resolve }), {
    ok: false,
    error: 'refused: without TLS nothing leaves this machine',
  })
  assert.deepEqual(seen, [])
  assert.deepEqual(await ask({ url, insecure: true }), { ok: true })
  assert.deepEqual(await ask({ url: 'file:///etc/passwd', insecure: true }), { ok: false, error: 'the address is no http or https URL' })
})

test('a lookup that asks for one address gets a checked one', async () => {
  const lookup = checkedLookup(async () => [{ address: '10.0.0.1', family: 4 }], false)
  const { promise, resolve } = Promise.withResolvers<unknown>()
  lookup('hooks.test', { all: false }, (error, address) => resolve(error ?? address))
  assert.equal(await promise, '10.0.0.1')
})

test('a server that takes the connection and says nothing is left when the time is over', async (t) => {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => sockets.add(socket))
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const late = new AbortController()
  server.once('connection', () => late.abort(new ChaperoneError('upstream_timeout', 'no answer within 10 s')))
  const url = `https://localhost:${(server.address() as AddressInfo).port}/`
  assert.deepEqual(await ask({ url, signal: late.signal }), { ok: false, error: 'no answer within 10 s' })
})
