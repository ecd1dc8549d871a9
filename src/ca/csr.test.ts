import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { createPublicKey, generateKeyPairSync, type webcrypto } from 'node:crypto'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import 'reflect-metadata' // first: @peculiar/x509 does not load without it
import * as peculiar from '@peculiar/x509'
import { p256Key, readCsr } from './csr.ts'
import { makeCsr } from './make-csr.ts'
import { pemOf } from './pem.ts'

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const spki = publicKey.export({ type: 'spki', format: 'der' })
const pem = makeCsr(privateKey, publicKey)
const der = Buffer.from(pem.replace(/-----.*-----|\n/g, ''), 'base64')

const hasOpenssl = spawnSync('openssl', ['version']).status === 0
const openssl = (input: string, ...args: string[]) => execFileSync('openssl', args, { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] })

function refuses(text: string): boolean {
  try {
    readCsr(text)
    return false
  } catch (error) {
    const { code } = error as { code?: string }
    assert.ok(code === 'issue_refused' || code === 'too_large', `${code}: ${error}`)
    return true
  }
}

describe('a certificate request', () => {
  test('of ours is read, by OpenSSL too', { skip: !hasOpenssl && 'openssl is not installed (Debian package openssl)' }, () => {
    assert.deepEqual(Buffer.from(readCsr(pem).spki), spki)
    assert.equal(openssl(pem, 'req', '-verify', '-noout', '-pubkey'), publicKey.export({ type: 'spki', format: 'pem' }))
  })

  test('of ours is read by @peculiar/x509, and has no names', async () => {
    const request = new peculiar.Pkcs10CertificateRequest(pem)
    assert.equal(request.subject, '')
    assert.equal(await request.verify(), true)
  })

  test('of OpenSSL gives its key; names and extensions in it are ignored', {
    skip: !hasOpenssl && 'openssl is not installed (Debian package openssl)',
  }, () => {
    const key = openssl('', 'genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256')
    const path = join(mkdtempSync(join(tmpdir(), 'chaperone-csr-')), 'key.pem')
    writeFileSync(path, key)
    const request = openssl(
      '',
      'req',
      '-new',
      '-key',
      path,
      '-subj',
      '/CN=admin/O=example',
      '-addext',
      'subjectAltName=URI:spiffe://example.org/user/admin',
    )
    const read = readCsr(request)
    assert.deepEqual(Object.keys(read), ['spki'])
    assert.deepEqual(Buffer.from(read.spki), createPublicKey(key).export({ type: 'spki', format: 'der' }))
  })

  test('with any single bit changed is refused', () => {
    for (let bit = 0; bit < der.length * 8; bit++) {
      const changed = Buffer.from(der)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      assert.ok(refuses(pemOf('CERTIFICATE REQUEST', changed)), `bit ${bit & 7} of byte ${bit >> 3}`)
    }
  })

  test('with bytes changed, added or taken away is refused', () => {
    fc.assert(
      fc.property(fc.nat(der.length), fc.nat(4), fc.uint8Array({ maxLength: 6 }), (at, taken, put) => {
        const changed = Buffer.concat([der.subarray(0, at), put, der.subarray(at + taken)])
        fc.pre(!changed.equals(der))
        return refuses(pemOf('CERTIFICATE REQUEST', changed))
      }),
      { numRuns: 500 },
    )
  })

  test('is refused when the PEM is anything but one block', () => {
    for (const text of [
      '',
      'x',
      der.toString('base64'),
      pem + pem,
      `x\n${pem}`,
      `${pem}x`,
      pem.replace(/REQUEST/g, ''),
      pem.replace('\n', ''),
      pem.replace('MI', 'MI='),
      pem.replace('MI', 'M\nI*'),
      pemOf('CERTIFICATE REQUEST', new Uint8Array()),
    ]) {
      assert.ok(refuses(text), text)
    }
    assert.ok(!refuses(pem.replaceAll('\n', '\r\n')))
    assert.throws(() => readCsr(pem + '\n'.repeat(9000)), { code: 'too_large' })
  })

  test('is refused when its base64 has stray bits, which Node would forgive', () => {
    // Signatures differ in length; one of a few requests ends in padding.
    const padded = Array.from({ length: 60 }, () => makeCsr(privateKey, publicKey)).find((text) => text.includes('='))
    assert.ok(padded)
    const stray = padded.replace(
      /[A-Za-z0-9+/](?==)/,
      (last) => ({ A: 'B', Q: 'R', g: 'h', w: 'x' })[last] ?? String.fromCharCode(last.charCodeAt(0) + 1),
    )
    assert.notEqual(stray, padded)
    assert.ok(!refuses(padded) && refuses(stray))
  })

  test('of another kind of key, or without its private half, is refused', async () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    assert.ok(refuses(makeCsr(other.privateKey, publicKey)), 'signed with another key')
    const algorithms = [
      { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-256' },
      { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-384' },
      { name: 'RSASSA-PKCS1-v1_5', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' },
      { name: 'Ed25519' },
    ]
    for (const algorithm of algorithms) {
      const keys = (await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair
      const request = await peculiar.Pkcs10CertificateRequestGenerator.create({ name: 'CN=x', keys, signingAlgorithm: algorithm })
      assert.ok(refuses(request.toString('pem')), JSON.stringify(algorithm))
    }
  })
})

test('one key has one form: a compressed point or explicit parameters are refused', () => {
  const compressed = Buffer.concat([
    Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex'),
    Buffer.from([2 + (spki.at(-1)! & 1)]),
    spki.subarray(27, 59),
  ])
  assert.ok(createPublicKey({ key: compressed, format: 'der', type: 'spki' }), 'OpenSSL reads the compressed form')
  assert.throws(() => p256Key(compressed), { code: 'issue_refused' })
  const offCurve = Buffer.from(spki)
  offCurve[40]! ^= 1
  assert.throws(() => p256Key(offCurve), { code: 'issue_refused' })
  assert.throws(() => p256Key(Buffer.concat([spki, Buffer.from([0])])), { code: 'issue_refused' })
})
