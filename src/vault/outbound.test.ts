import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { fakeAuthority } from '../../test/fakes/authority.ts'
import { systemClock } from '../clock.ts'
import { ChaperoneError, type ReasonCode } from '../errors.ts'
import { mayPointTo, reachOf, reachOfHost } from './addresses.ts'
import { readChallenge } from './challenge.ts'
import { openOutbound } from './outbound.ts'

const refused = (code: ReasonCode) => (error: unknown) => error instanceof ChaperoneError && error.code === code

for (const [reach, addresses] of [
  ['public', ['8.8.8.8', '172.32.0.1', '2606:4700::1111', '::ffff:8.8.8.8', '64:ff9b::808:808']],
  ['private', ['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '100.64.0.1', 'fd12::1', '::ffff:10.0.0.1', '64:ff9b::a00:1']],
  ['loopback', ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1', '::ffff:7f00:1']],
  [
    'never',
    [
      '169.254.169.254',
      '::ffff:169.254.169.254',
      '::ffff:a9fe:a9fe',
      '64:ff9b::a9fe:a9fe',
      'fd00:ec2::254',
      'fd20:ce::254',
      '100.100.100.200',
      '168.63.129.16',
    ],
  ],
  [
    'never',
    ['0.0.0.0', '::', 'fe80::1', 'fe80::1%eth0', '224.0.0.1', '255.255.255.255', '2002:7f00:1::', '2001:0:1::1', '192.0.0.192', 'localhost', ''],
  ],
] as const) {
  test(`${addresses[0]} and its like are ${reach}`, () => {
    for (const address of addresses) assert.equal(reachOf(address), reach, address)
  })
}

test('an IPv4 address is as deep in the network inside an IPv6 address as it is alone', () => {
  fc.assert(
    fc.property(fc.ipV4(), (address) => {
      const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number)
      const hex = `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`
      for (const form of [`::ffff:${address}`, `::ffff:${hex}`, `64:ff9b::${hex}`]) assert.equal(reachOf(form), reachOf(address))
    }),
  )
})

test('nobody points deeper into the network than he lies himself, and nobody to what is never one', () => {
  assert.deepEqual(
    (['public', 'private', 'loopback'] as const).map((from) =>
      (['public', 'private', 'loopback', 'never'] as const).map((to) => mayPointTo(from, to)),
    ),
    [
      [true, false, false, false],
      [true, true, false, false],
      [true, true, true, false],
    ],
  )
  assert.deepEqual(
    ['localhost', 'a.localhost', '[::1]', 'localhost.evil.test'].map((host) => reachOfHost(host)),
    ['loopback', 'loopback', 'loopback', undefined],
  )
})

async function target(t: TestContext, names: readonly string[] = ['mcp.test', 'login.test']) {
  const authority = await fakeAuthority()
  const { key, chain } = await authority.issue(names)
  const seen: string[] = []
  const server = createSecureServer({ key, cert: chain }, (request, response) => {
    seen.push(`${request.headers.host} ${request.url}`)
    if (request.url === '/large') response.write('x'.repeat(300 * 1024))
    else if (request.url === '/redirect') response.writeHead(302, { location: 'http://169.254.169.254/' }).end()
    else if (request.url === '/odd') response.writeHead(999).end()
    else if (request.url === '/stream') response.writeHead(401, { 'www-authenticate': 'Bearer' }).write('forever')
    else response.end('ok')
  })
  server.listen(0, '127.0.0.1')
  await new Promise((ready) => server.once('listening', ready))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { port, seen, ca: authority.certificate }
}

test('an address inside our network is reached only by a server that has proven to lie there', async (t) => {
  const { port, seen, ca } = await target(t)
  const resolve = async () => [{ address: '127.0.0.1', family: 4 }]
  const outbound = openOutbound({ server: new URL(`https://mcp.test:${port}/mcp`), name: 'wiki', ca, clock: systemClock, resolve })
  await assert.rejects(outbound.fetch(`https://login.test:${port}/`), refused('upstream_unavailable'))
  assert.deepEqual(seen, [])
  await outbound.fetch(`https://mcp.test:${port}/`)
  assert.equal(outbound.depth, 'loopback')
  await outbound.fetch(`https://login.test:${port}/`)
  assert.equal(seen.length, 2)
})

test('a server proves nothing where its certificate is not its own (DNS rebinding)', async (t) => {
  const { port, ca } = await target(t, ['login.test'])
  const resolve = async () => [{ address: '127.0.0.1', family: 4 }]
  const outbound = openOutbound({ server: new URL(`https://mcp.test:${port}/mcp`), name: 'wiki', ca, clock: systemClock, resolve })
  await assert.rejects(outbound.fetch(`https://mcp.test:${port}/`), refused('upstream_unavailable'))
  assert.equal(outbound.depth, 'public')
  await assert.rejects(outbound.fetch(`https://login.test:${port}/`), refused('upstream_unavailable'))
})

test('one address of a name inside is enough to refuse it, and it is asked for once: what was checked is what is connected to', async (t) => {
  const { port, seen, ca } = await target(t)
  let asked = 0
  const answers = [
    [
      { address: '203.0.114.1', family: 4 },
      { address: '127.0.0.1', family: 4 },
    ],
    [{ address: '127.0.0.1', family: 4 }],
  ]
  const resolve = async () => answers[asked++]!
  const outbound = openOutbound({ server: new URL('https://mcp.test/mcp'), name: 'wiki', ca, clock: systemClock, resolve })
  await assert.rejects(outbound.fetch(`https://login.test:${port}/`), refused('upstream_unavailable'))
  assert.equal(asked, 1)
  assert.deepEqual(seen, [])
})

test('what is not https is refused, except between servers of one machine', async (t) => {
  const plain = createServer((_, response) => response.end('ok'))
  plain.listen(0, '127.0.0.1')
  await new Promise((ready) => plain.once('listening', ready))
  t.after(() => {
    plain.closeAllConnections()
    plain.close()
  })
  const { port } = plain.address() as AddressInfo
  const from = (server: string) =>
    openOutbound({ server: new URL(server), name: 'wiki', clock: systemClock, resolve: async () => [{ address: '127.0.0.1', family: 4 }] })
  assert.equal((await from('http://127.0.0.1:1/mcp').fetch(`http://localhost:${port}/`)).status, 200)
  for (const server of ['https://127.0.0.1:1/mcp', 'http://10.0.0.1/mcp', 'http://mcp.test/mcp', 'https://mcp.test/mcp'])
    await assert.rejects(from(server).fetch(`http://127.0.0.1:${port}/`), refused('upstream_unavailable'), server)
  await assert.rejects(from('http://127.0.0.1:1/mcp').fetch('http://10.0.0.1/'), refused('upstream_unavailable'))
  for (const url of [
    'https://169.254.169.254/',
    'https://[::ffff:a9fe:a9fe]/',
    'https://2852039166/',
    'https://0xa9.0xfe.0xa9.0xfe/',
    'https://[fe80::1]/',
    'https://user:pw@login.test/',
    'file:///etc/passwd',
  ])
    await assert.rejects(from('http://127.0.0.1:1/mcp').fetch(url), refused('upstream_unavailable'), url)
  const named = from(`http://mcp.test:${port}/mcp`)
  assert.equal((await named.fetch(`http://mcp.test:${port}/x`)).status, 200, 'its own origin is where the administrator sent us')
  assert.equal(named.depth, 'public', 'but without TLS a name proves nothing of where it lies')
  await assert.rejects(named.fetch(`http://localhost:${port}/`), refused('upstream_unavailable'))
})

test('rule 11: answers have a size and a time, no redirect is followed, and an odd status breaks nothing', async (t) => {
  const { port, ca, seen } = await target(t)
  const waiting: (() => void)[] = []
  const clock = {
    now: () => 0,
    at(_: number, wake: () => void) {
      waiting.push(wake)
      return () => {}
    },
  }
  const outbound = openOutbound({
    server: new URL(`https://mcp.test:${port}/mcp`),
    name: 'wiki',
    ca,
    clock,
    resolve: async () => [{ address: '127.0.0.1', family: 4 }],
  })
  const at = `https://mcp.test:${port}`
  await assert.rejects(outbound.fetch(`${at}/large`), refused('upstream_unavailable'))
  assert.equal((await outbound.fetch(`${at}/redirect`)).status, 302)
  await assert.rejects(outbound.fetch(`${at}/odd`), refused('upstream_unavailable'))
  const head = await outbound.head(`${at}/stream`)
  assert.deepEqual([head.status, head.headers.get('www-authenticate')], [401, 'Bearer'])
  const before = seen.length
  const slow = outbound.fetch(`${at}/stream`)
  while (seen.length === before) await new Promise((resolve) => setImmediate(resolve))
  waiting.at(-1)!()
  await assert.rejects(slow, refused('upstream_timeout'))
})

test('a challenge is read as RFC 9110 writes it', () => {
  for (const [header, challenge] of [
    [undefined, undefined],
    ['', undefined],
    ['Basic realm="x"', undefined],
    ['Bearer', {}],
    ['  bearer scope="a b"', { scope: 'a b' }],
    [
      'Bearer error="insufficient_scope",scope=a , resource_metadata="https://x/y"',
      { error: 'insufficient_scope', scope: 'a', metadata: 'https://x/y' },
    ],
    ['Basic realm="Bearer scope=x", Bearer scope="y"', { scope: 'y' }],
    ['Bearer error_description="scope=\\"evil\\" error=x", scope="z"', { scope: 'z' }],
    ['Bearer scope="first", scope="second"', { scope: 'first' }],
    ['Bearer scope="a", Digest scope="b", error="c"', { scope: 'a' }],
    ['Bearer scope="a", DPoP scope="b", error="c"', { scope: 'b', error: 'c', dpop: true }],
    ['Bearer scope="a \\" b a"', { scope: 'a b' }],
  ] as const)
    assert.deepEqual(readChallenge(header), challenge, header)
})

test('whatever a header holds, reading it ends, and gives only scopes and codes that may be shown', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(fc.constantFrom('Bearer', ' ', ',', '=', '"', '\\', 'scope', 'error', 'x', 'Basic')).map((parts) => parts.join('')),
      ),
      (header) => {
        const challenge = readChallenge(header)
        if (challenge?.scope !== undefined) assert.match(challenge.scope, /^[\x20-\x7e]+$/)
        if (challenge?.error !== undefined) assert.match(challenge.error, /^[\x21-\x7e]+$/)
      },
    ),
  )
})
