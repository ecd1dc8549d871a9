import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import { AsnConvert } from '@peculiar/asn1-schema'
import { authorityName, keyIdentifierOf } from './certificate.ts'
import { type SigningKey, startIssuer } from './issuer.ts'

function signingKey(id: string): SigningKey & { readonly spki: Uint8Array } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  return {
    id,
    spki,
    privateKey,
    keyIdentifier: keyIdentifierOf(spki),
    name: new Uint8Array(AsnConvert.serialize(authorityName('example.org', 'server'))),
  }
}

const life = { notBefore: 0, notAfter: 3_600_000 }

test('when the thread dies, those who wait get an error and the next ask starts another', async () => {
  const thread = startIssuer()
  const key = signingKey('one')
  await thread.sign(key, key.spki, life)
  const asks = Array.from({ length: 200 }, () => thread.sign(key, key.spki, life, { use: 'server', names: ['localhost'] }))
  const outcomes = Promise.allSettled(asks)
  await thread.kill()
  const failed = (await outcomes).filter((outcome) => outcome.status === 'rejected')
  assert.ok(failed.length > 0)
  for (const { reason } of failed) assert.equal(reason.code, 'internal')
  // The new thread was given the key again.
  assert.ok((await thread.sign(key, key.spki, life)).der.length > 100)
  await thread.close()
})

test('rule 11: too many asks at once are refused, not queued without end', async () => {
  const thread = startIssuer()
  const key = signingKey('one')
  const asks = Array.from({ length: 5000 }, () => thread.sign(key, key.spki, life))
  const outcomes = Promise.allSettled(asks)
  await thread.kill()
  const codes = (await outcomes).map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : 'ok'))
  assert.equal(codes.filter((code) => code === 'too_many').length, 5000 - 4096)
  await thread.close()
})

test('nothing is signed after close', async () => {
  const thread = startIssuer()
  const key = signingKey('one')
  await thread.close()
  await assert.rejects(thread.sign(key, key.spki, life), { code: 'draining' })
})
