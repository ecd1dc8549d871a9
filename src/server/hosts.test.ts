import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { test } from 'node:test'
import { hostCheck } from './hosts.ts'

const check = hostCheck(['localhost', '127.0.0.1', '::1', 'gate.example'])
const passes = (host: string | undefined, origin?: string) => {
  try {
    check({ headers: { ...(host === undefined ? {} : { host }), ...(origin === undefined ? {} : { origin }) } } as IncomingMessage)
    return true
  } catch {
    return false
  }
}

test('our own names pass, with and without a port, in any case', () => {
  for (const host of ['localhost', 'localhost:8443', 'LocalHost:1', '127.0.0.1:8443', '[::1]', '[::1]:8443', 'gate.example:443'])
    assert.equal(passes(host), true, host)
  assert.equal(passes('localhost:8443', 'https://gate.example'), true)
})

test('rule 9: a web page that points its own name at us, or comes from elsewhere, is refused', () => {
  for (const host of [
    undefined,
    '',
    'evil.example',
    'localhost.evil.example',
    'evil@localhost',
    'localhost:8443@evil',
    'localhost:99999999',
    '[::1',
    ' localhost',
  ])
    assert.equal(passes(host), false, String(host))
  for (const origin of [
    'null',
    '',
    'https://evil.example',
    'file://',
    'https://localhost.evil.example',
    'https://localhost@evil.example',
    'localhost',
  ])
    assert.equal(passes('localhost', origin), false, origin)
})
