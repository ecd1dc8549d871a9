import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ChaperoneError } from '../errors.ts'
import { proxyFor, proxyName } from './proxy.ts'

const to = (host: string, port = 443, secure = true) => ({ host, port, secure })
const HTTPS = { HTTPS_PROXY: 'http://proxy.corp.test:3128' }

test('HTTPS_PROXY holds for TLS, HTTP_PROXY for the rest, and lower-case names win', () => {
  assert.equal(proxyFor(to('a.test'), HTTPS)?.host, 'proxy.corp.test:3128')
  assert.equal(proxyFor(to('a.test', 80, false), HTTPS), undefined)
  assert.equal(proxyFor(to('a.test', 80, false), { HTTP_PROXY: 'p.test:8080' })?.host, 'p.test:8080')
  assert.equal(proxyFor(to('a.test'), { ...HTTPS, https_proxy: 'http://low.test:1' })?.host, 'low.test:1')
  assert.equal(proxyFor(to('a.test'), { ALL_PROXY: 'http://all.test:1' })?.host, 'all.test:1')
  assert.equal(proxyFor(to('a.test'), { HTTPS_PROXY: '' }), undefined)
})

test('where a request made the environment, HTTP_PROXY is not believed (CVE-2016-5385)', () => {
  assert.equal(proxyFor(to('a.test', 80, false), { HTTP_PROXY: 'http://evil.test', REQUEST_METHOD: 'GET' }), undefined)
})

test('this machine is never reached through a proxy', () => {
  for (const host of ['localhost', 'a.localhost', '127.0.0.1', '127.9.9.9', '::1', '[::1]']) assert.equal(proxyFor(to(host), HTTPS), undefined, host)
  for (const host of ['localhost.', '0.0.0.0', '::', '::ffff:127.0.0.1']) assert.equal(proxyFor(to(host), HTTPS), undefined, host)
  assert.ok(proxyFor(to('localhost.evil.test'), HTTPS))
})

test('a private address that is written as one is reached without the proxy, a name and a public address through it', () => {
  for (const host of [
    '10.0.0.1',
    '172.16.0.1',
    '172.31.255.1',
    '192.168.1.8',
    '100.64.0.1',
    '169.254.169.254',
    'fd12::1',
    '[fc00::1]',
    'fe80::1',
    '::ffff:10.0.0.1',
  ])
    for (const secure of [true, false]) assert.equal(proxyFor(to(host, 443, secure), { ...HTTPS, HTTP_PROXY: 'p.test:1' }), undefined, host)
  for (const host of ['9.255.255.255', '11.0.0.1', '172.32.0.1', '192.167.0.1', '100.128.0.1', '2001:4860::1', '10.0.0.1.test', 'crm'])
    assert.ok(proxyFor(to(host), HTTPS), host)
})

for (const [list, without, within] of [
  ['corp.test', ['corp.test', 'a.corp.test', 'A.CORP.TEST'], ['evilcorp.test', 'corp.test.evil.test']],
  ['.corp.test', ['corp.test', 'a.corp.test'], ['evilcorp.test']],
  ['*.corp.test', ['a.corp.test'], ['evilcorp.test']],
  ['corp.test:443', ['corp.test'], []],
  ['corp.test:8443', [], ['corp.test']],
  ['11.0.0.0/8, 192.88.1.7', ['11.255.0.1', '192.88.1.7'], ['12.0.0.1', '192.88.1.8', 'a11.0.0.1.test']],
  ['2a00::/8', ['2a12::1', '[2a12::1]'], ['2b00::1', '11.0.0.1']],
  ['11.0.0.0/99 , , x', ['x'], ['11.0.0.1']],
  ['*', ['anything.test'], []],
] as const) {
  test(`NO_PROXY=${list} leaves out what it names, and nothing that only looks like it`, () => {
    for (const host of without) assert.equal(proxyFor(to(host), { ...HTTPS, NO_PROXY: list }), undefined, host)
    for (const host of within) assert.ok(proxyFor(to(host), { ...HTTPS, NO_PROXY: list }), host)
  })
}

test('what is no HTTP proxy is refused without repeating it: it may hold a password', () => {
  for (const value of ['socks5://user:hunter2@p.test', 'http://', 'http://[', 'ftp://hunter2@x']) {
    assert.throws(
      () => proxyFor(to('a.test'), { HTTPS_PROXY: value }),
      (error) => error instanceof ChaperoneError && error.code === 'usage' && !error.message.includes('hunter2'),
      value,
    )
  }
  assert.equal(proxyName(new URL('http://user:hunter2@p.test:3128/')), 'http://p.test:3128')
})

test('whatever NO_PROXY holds, asking ends and never throws', () => {
  fc.assert(
    fc.property(fc.string(), fc.domain(), (list, host) => {
      proxyFor(to(host), { ...HTTPS, NO_PROXY: list })
    }),
  )
})
