import assert from 'node:assert/strict'
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { test } from 'node:test'
import { CompactSign } from 'jose'
import { joinContext, NOW, refusedFor as refused, SERVER } from './joining.fixture.ts'
import { PROOF_TYPE, signedText, verifyStatement } from './signed-proof.ts'

const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const context = joinContext({ challenge: (nonce) => (nonce === 'ours' ? NOW + 1000 : undefined) })
const hash = createHash('sha256').update(context.spki).digest('base64url')
const honest = { aud: 'https://test', ca: SERVER, join: 'ci', nonce: 'ours', key: hash }

const sign = (said: object | string, header: Record<string, unknown> = {}, key: KeyObject = privateKey) =>
  new CompactSign(Buffer.from(typeof said === 'string' ? said : JSON.stringify(said)))
    .setProtectedHeader({ alg: 'EdDSA', typ: PROOF_TYPE, ...header })
    .sign(key)
const verify = async (signed: string, key = publicKey) => verifyStatement(signed, key, context, 'x509')

test('what was signed for this moment is believed, and its nonce counts once', async () => {
  assert.deepEqual(await verify(await sign(honest)), { said: honest, once: { key: 'nonce ours', until: NOW + 1000 } })
})

test('rule 1: what was signed for anything else is not', async () => {
  const wrong: readonly (readonly [object | string, RegExp])[] = [
    [{ ...honest, aud: 'https://other' }, /another server/],
    [{ ...honest, ca: 'b'.repeat(64) }, /another server/],
    [{ ...honest, join: 'other' }, /another way to join/],
    [{ ...honest, key: 'x'.repeat(43) }, /another key/],
    [{ ...honest, nonce: 'another' }, /too long ago/],
    [{ ...honest, more: 1 }, /cannot be read/],
    [{ ...honest, joins: -1 }, /cannot be read/],
    // What is said stands in the record.
    [{ ...honest, aud: 'a'.repeat(601) }, /cannot be read/],
    [{ ...honest, join: 'a'.repeat(65) }, /cannot be read/],
    // One parser would take the first, another the second.
    [JSON.stringify(honest).replace('{', '{"aud":"https://other",'), /cannot be read/],
  ]
  for (const [said, told] of wrong) await assert.rejects(verify(await sign(said)), refused(told), JSON.stringify(said))
})

test('rule 1: a token of another type, of another key, or without a signature is no proof', async () => {
  for (const typ of ['JWT', 'at+jwt', undefined]) await assert.rejects(verify(await sign(honest, { typ })), refused(/no proof for joining/))
  const stranger = generateKeyPairSync('ed25519')
  await assert.rejects(verify(await sign(honest), stranger.publicKey), refused(/signature does not hold/))
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  for (const alg of ['none', 'HS256'])
    await assert.rejects(verify(`${part({ alg, typ: PROOF_TYPE })}.${part(honest)}.`), refused(/cannot be read|signature/), alg)
  // RFC 7797: the payload as it stands would be signed, and something else read.
  await assert.rejects(verify(await sign(honest, { b64: true, crit: ['b64'] })), refused(/no proof for joining/))
  await assert.rejects(verify('no token'), refused(/cannot be read/))
  assert.deepEqual(
    [0, 1, 48 * 1024, 48 * 1024 + 1].map((length) => signedText.safeParse('x'.repeat(length)).success),
    [false, true, true, false],
  )
})
