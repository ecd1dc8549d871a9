import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeChallenge, readChallenge } from './challenge.ts'
import { NOW } from './joining.fixture.ts'

const key = Buffer.alloc(32, 1)

test('rule 1: a nonce counts for two minutes, in one spelling, and only where it was made', () => {
  const { nonce, notAfter } = makeChallenge(key, NOW)
  assert.equal(readChallenge(key, nonce, NOW), notAfter)
  assert.equal(readChallenge(key, nonce, notAfter - 1), notAfter)
  assert.equal(readChallenge(key, nonce, notAfter), undefined)
  assert.equal(readChallenge(Buffer.alloc(32, 2), nonce, NOW), undefined, 'another server')
  // What is decoded leniently would be another name of the same nonce, and count once more.
  for (const same of [`${nonce}=`, `${nonce}\n`, ` ${nonce}`, nonce.replaceAll('-', '+').replaceAll('_', '/').concat('=')])
    assert.equal(readChallenge(key, same, NOW), undefined, same)
  for (const other of ['', nonce.slice(0, -2), `${nonce}AAAA`, Buffer.alloc(56).toString('base64url')])
    assert.equal(readChallenge(key, other, NOW), undefined, other)
})
