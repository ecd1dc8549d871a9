import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatServerLine, parseServerLine } from './line.ts'

const fingerprint = 'a'.repeat(64)

test('what was written is read again', () => {
  for (const address of ['chaperone.example.com:7443', '10.0.0.7:1', '[fd00::1]:65535']) {
    const line = { address, fingerprint, audience: 'https://chaperone.internal/a b' }
    assert.deepEqual(parseServerLine(formatServerLine(line)), line)
  }
})

test('a line that is not whole, or holds more, is refused with what a whole one looks like', () => {
  const good = `chaperone://host:7443?ca=${fingerprint}&for=https%3A%2F%2Fx`
  assert.equal(parseServerLine(` ${good}\n`).address, 'host:7443')
  for (const bad of [
    good.replace('7443', '0'),
    good.replace('7443', '65536'),
    good.replace('7443', '99999'),
    good.replace(fingerprint, 'a'.repeat(63)),
    good.replace(fingerprint, 'A'.repeat(64)),
    good.replace('&for=https%3A%2F%2Fx', ''),
    good.replace('%3A', '%zz'),
    good.replace('host', '[fd00::zz]'),
    good.replace('host', '[127.0.0.1]'),
    good.replace('host', 'user@host'),
    good.replace('chaperone:', 'https:'),
    `${good}&more=1`,
    `${good}${'x'.repeat(1024)}`,
  ])
    assert.throws(() => parseServerLine(bad), { code: 'usage', fix: /chaperone get join NAME --line/ }, bad)
})
