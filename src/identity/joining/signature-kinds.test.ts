import assert from 'node:assert/strict'
import { constants, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { test } from 'node:test'
import { id_RSASSA_PSS, RsaSaPssParams } from '@peculiar/asn1-rsa'
import { AsnConvert } from '@peculiar/asn1-schema'
import { AlgorithmIdentifier } from '@peculiar/asn1-x509'
import { isBelieved, isStrong, verifies } from './signature-kinds.ts'

const SHA1 = '1.3.14.3.2.26'
const SHA256 = '2.16.840.1.101.3.4.2.1'
const SHA384 = '2.16.840.1.101.3.4.2.2'
const MGF1 = '1.2.840.113549.1.1.8'
const kind = (algorithm: string, parameters?: ArrayBuffer) => new AlgorithmIdentifier({ algorithm, ...(parameters ? { parameters } : {}) })
const pss = (hash: string, { mask = MGF1, inside = hash as string | null, salt = 32 } = {}) =>
  kind(
    id_RSASSA_PSS,
    AsnConvert.serialize(
      new RsaSaPssParams({
        hashAlgorithm: kind(hash),
        maskGenAlgorithm: kind(mask, inside === null ? undefined : AsnConvert.serialize(kind(inside))),
        saltLength: salt,
      }),
    ),
  )
const ecdsa = kind('1.2.840.10045.4.3.2')
const rsaSha256 = kind('1.2.840.113549.1.1.11')
const ed25519 = kind('1.3.101.112')

test('rule 1: of RSA-PSS each part says which hash it is, and what is left out is SHA-1', () => {
  assert.equal(isBelieved(pss(SHA256)), true)
  assert.equal(isBelieved(kind(id_RSASSA_PSS)), false)
  assert.equal(isBelieved(pss(SHA1)), false)
  assert.equal(isBelieved(pss(SHA256, { inside: SHA1 })), false)
  assert.equal(isBelieved(pss(SHA256, { inside: SHA384 })), false)
  assert.equal(isBelieved(pss(SHA256, { inside: null })), false)
  assert.equal(isBelieved(pss(SHA256, { mask: '1.2.3' })), false)
  for (const old of ['1.2.840.113549.1.1.5', '1.2.840.113549.1.1.4', '1.2.840.10045.4.1', 'constructor'])
    assert.equal(isBelieved(kind(old)), false, old)
})

test('rule 1: keys are strong enough, or of no use', () => {
  const rsa = (type: 'rsa' | 'rsa-pss', modulusLength: number) => generateKeyPairSync(type as 'rsa', { modulusLength }).publicKey
  const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve }).publicKey
  for (const key of [
    rsa('rsa', 2048),
    rsa('rsa-pss', 2048),
    ec('prime256v1'),
    ec('secp384r1'),
    ec('secp521r1'),
    generateKeyPairSync('ed25519').publicKey,
  ])
    assert.equal(isStrong(key), true, `${key.asymmetricKeyType}`)
  for (const key of [
    rsa('rsa', 1024),
    rsa('rsa-pss', 1024),
    ec('secp256k1'),
    generateKeyPairSync('ed448').publicKey,
    generateKeyPairSync('x25519').publicKey,
  ])
    assert.equal(isStrong(key), false, `${key.asymmetricKeyType}`)
})

test('rule 1: what is no certificate is verified with a key of the kind that is named, strong, by a hash that is believed', () => {
  const data = Buffer.from('a list')
  const [p256, k1, rsa, short, own] = [
    generateKeyPairSync('ec', { namedCurve: 'prime256v1' }),
    generateKeyPairSync('ec', { namedCurve: 'secp256k1' }),
    generateKeyPairSync('rsa', { modulusLength: 2048 }),
    generateKeyPairSync('rsa', { modulusLength: 1024 }),
    generateKeyPairSync('rsa-pss', { modulusLength: 2048 }),
  ]
  const pssOf = (key: KeyObject, hash = 'sha256') => sign(hash, data, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 })
  assert.equal(verifies(ecdsa, data, sign('sha256', data, p256.privateKey), p256.publicKey), true)
  assert.equal(verifies(ecdsa, Buffer.from('another'), sign('sha256', data, p256.privateKey), p256.publicKey), false)
  assert.equal(verifies(rsaSha256, data, sign('sha256', data, rsa.privateKey), rsa.publicKey), true)
  assert.equal(verifies(pss(SHA256), data, pssOf(rsa.privateKey), rsa.publicKey), true)
  assert.equal(verifies(pss(SHA256), data, pssOf(own.privateKey), own.publicKey), true)
  const wrong: readonly (readonly [AlgorithmIdentifier, Buffer, KeyObject])[] = [
    [ecdsa, sign('sha256', data, k1.privateKey), k1.publicKey],
    [rsaSha256, sign('sha256', data, short.privateKey), short.publicKey],
    [kind('1.2.840.113549.1.1.5'), sign('sha1', data, rsa.privateKey), rsa.publicKey],
    // A signature of another kind than is named, by a key that could have made it.
    [ed25519, sign('sha256', data, p256.privateKey), p256.publicKey],
    [rsaSha256, sign('sha256', data, p256.privateKey), p256.publicKey],
    [ecdsa, sign('sha256', data, rsa.privateKey), rsa.publicKey],
    [pss(SHA256), sign('sha256', data, p256.privateKey), p256.publicKey],
  ]
  for (const [named, signature, key] of wrong) assert.equal(verifies(named, data, signature, key), false, named.algorithm)
})
