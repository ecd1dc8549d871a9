import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { ChaperoneError } from '../errors.ts'
import { openCheckpoint, originOf, readVerifierKey, signCheckpoint } from './note.ts'
import { leafHash } from './tree.ts'

const key = generateKeyPairSync('ed25519')
const other = generateKeyPairSync('ed25519')
const checkpoint = { origin: originOf('example.org'), size: 1234, root: leafHash('a') }
const code = (expected: string) => (error: unknown) => error instanceof ChaperoneError && error.code === expected

test('A signed checkpoint reads back, and only under its key.', () => {
  const note = signCheckpoint(checkpoint, key)
  const { publicKey, ...read } = openCheckpoint(note, [other.publicKey, key.publicKey])
  assert.deepEqual(read, checkpoint)
  assert.equal(publicKey, key.publicKey)
  assert.throws(() => openCheckpoint(note, [other.publicKey]), code('record_broken'))
})

test('The note has the shape that C2SP describes.', () => {
  assert.match(
    signCheckpoint(checkpoint, key),
    /^chaperone\.example\.org\/log\n1234\n[A-Za-z0-9+/]{43}=\n\n— chaperone\.example\.org\/log [A-Za-z0-9+/]{90,91}={0,2}\n$/,
  )
})

test('The verifier key in the documentation of the Go note package reads.', () => {
  const vkey = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW'
  // https://pkg.go.dev/golang.org/x/mod/sumdb/note
  const { x } = readVerifierKey(vkey).export({ format: 'jwk' })
  assert.equal(x, Buffer.from(vkey.split('+')[2]!, 'base64').subarray(1).toString('base64url'))
})

test('A signature line of somebody else beside ours does no harm.', () => {
  const foreign = signCheckpoint({ ...checkpoint, origin: 'witness.example.net/w' }, other).split('\n\n')[1]
  assert.equal(openCheckpoint(signCheckpoint(checkpoint, key) + foreign, [key.publicKey]).size, 1234)
})

test('No changed byte of a note verifies as another checkpoint.', () => {
  const note = Buffer.from(signCheckpoint(checkpoint, key))
  fc.assert(
    fc.property(fc.nat(note.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const changed = Buffer.from(note)
      changed[at]! ^= change
      try {
        const { publicKey, ...read } = openCheckpoint(changed.toString(), [key.publicKey])
        assert.deepEqual(read, checkpoint)
      } catch (error) {
        assert.ok(error instanceof ChaperoneError, String(error))
      }
    }),
    { numRuns: 400 },
  )
})

test('What is no checkpoint is refused as malformed.', () => {
  for (const text of [
    '',
    'x',
    'a\nb\nc\n\n',
    '\n1\nAA==\n\n— a b\n',
    `o\n01\n${Buffer.alloc(32).toString('base64')}\n\n— o AAAAAAAA\n`,
    'a'.repeat(20_000),
  ]) {
    assert.throws(() => openCheckpoint(text, [key.publicKey]), code('malformed'))
  }
})

test('A PEM key is taken when it is Ed25519, and nothing else is.', () => {
  const pem = key.publicKey.export({ format: 'pem', type: 'spki' }).toString()
  assert.ok(readVerifierKey(pem).equals(key.publicKey))
  const wrong = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'pem', type: 'spki' }).toString()
  for (const text of [wrong, 'nonsense', 'a+b+c', 'PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW'])
    assert.throws(() => readVerifierKey(text), code('usage'))
})
