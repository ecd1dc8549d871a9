import { createPublicKey, hash, type KeyObject, sign, verify } from 'node:crypto'
import { ChaperoneError } from '../errors.ts'
import { type Hash, hashFromBytes, hashToBytes } from './tree.ts'

/**
 * Checkpoints as C2SP tlog-checkpoint in C2SP signed-note: a few lines of text that any transparency tool can check.
 *
 *     chaperone.example.org/log
 *     1234
 *     <root, base64>
 *
 *     — chaperone.example.org/log <base64 of key hash and Ed25519 signature>
 */
export interface Checkpoint {
  readonly origin: string
  readonly size: number
  readonly root: Hash
}

/** A checkpoint that verifies under one of the given keys, and which. */
export interface SignedCheckpoint extends Checkpoint {
  readonly publicKey: KeyObject
}

/** A signed note is a few hundred bytes; a file that is not one need not be read. */
const LONGEST_NOTE = 16_384
/** The first bytes of every Ed25519 SubjectPublicKeyInfo (RFC 8410); the 32 bytes of the key follow. */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')
/** signed-note's algorithm byte for Ed25519 */
const ED25519 = 1

export const originOf = (trustDomain: string): string => `chaperone.${trustDomain}/log`

/** The text that is signed. */
function checkpointText(checkpoint: Checkpoint): string {
  return `${checkpoint.origin}\n${checkpoint.size}\n${hashToBytes(checkpoint.root).toString('base64')}\n`
}

/** Signs with an Ed25519 key; the key's name is the origin. */
export function signCheckpoint(checkpoint: Checkpoint, key: { readonly privateKey: KeyObject; readonly publicKey: KeyObject }): string {
  const text = checkpointText(checkpoint)
  const signature = sign(null, Buffer.from(text), key.privateKey)
  const line = Buffer.concat([keyHash(checkpoint.origin, key.publicKey), signature]).toString('base64')
  return `${text}\n— ${checkpoint.origin} ${line}\n`
}

/**
 * What the note says, when one of `publicKeys` signed it. Throws ChaperoneError('malformed') for what is no checkpoint and
 * 'record_broken' when no key of ours signed it. Signatures of others (witnesses) are passed over, as signed-note says.
 */
export function openCheckpoint(note: string, publicKeys: readonly KeyObject[]): SignedCheckpoint {
  const { checkpoint, text, signatures } = parse(note)
  for (const publicKey of publicKeys) {
    const expected = keyHash(checkpoint.origin, publicKey)
    for (const { name, keyHash: given, signature } of signatures) {
      if (name !== checkpoint.origin || !given.equals(expected)) continue
      if (verify(null, Buffer.from(text), publicKey, signature)) return { ...checkpoint, publicKey }
    }
  }
  throw new ChaperoneError('record_broken', `The checkpoint of size ${checkpoint.size} is not signed by a known key of this log.`)
}

/** Reads a public key of a log: PEM, or the verifier key of signed-note, `name+hash+base64`. Throws ChaperoneError('usage'). */
export function readVerifierKey(text: string): KeyObject {
  try {
    if (text.includes('-----BEGIN')) {
      const key = createPublicKey(text)
      if (key.asymmetricKeyType === 'ed25519') return key
    } else {
      const [name = '', hex = '', ...base64] = text.trim().split('+')
      const raw = Buffer.from(base64.join('+'), 'base64')
      if (raw.length === 33 && raw[0] === ED25519) {
        const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, raw.subarray(1)]), format: 'der', type: 'spki' })
        if (keyHash(name, key).toString('hex') === hex) return key
      }
    }
  } catch (cause) {
    throw notAKey(cause)
  }
  throw notAKey()
}

const notAKey = (cause?: unknown) =>
  new ChaperoneError('usage', 'This is not a public key of a log.', {
    fix: 'Give the key as `name+hash+base64` (signed note), or as PEM with an Ed25519 key.',
    cause,
  })

const rawKey = (publicKey: KeyObject): Buffer => publicKey.export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX.length)

/** Tells which of several keys to try; four bytes only, so it proves nothing. */
function keyHash(name: string, publicKey: KeyObject): Buffer {
  return hash('sha256', Buffer.concat([Buffer.from(`${name}\n`), Buffer.from([ED25519]), rawKey(publicKey)]), 'buffer').subarray(0, 4)
}

interface Signature {
  readonly name: string
  readonly keyHash: Buffer
  readonly signature: Buffer
}

function parse(note: string): { checkpoint: Checkpoint; text: string; signatures: readonly Signature[] } {
  const end = note.length <= LONGEST_NOTE ? note.lastIndexOf('\n\n') : -1
  const text = note.slice(0, end + 1)
  const [origin, size, root, ...more] = text.split('\n')
  const bytes = Buffer.from(root ?? '', 'base64')
  // Lines after the root are extensions, and the last piece is what follows the final newline: nothing.
  const wellFormed =
    end > 0 && origin && /^(?:0|[1-9][0-9]{0,15})$/.test(size ?? '') && bytes.length === 32 && bytes.toString('base64') === root && more.at(-1) === ''
  const signatures = note.slice(end + 2).split('\n')
  if (!wellFormed || !Number.isSafeInteger(Number(size)) || signatures.pop() !== '' || signatures.length === 0) throw malformed()
  return { checkpoint: { origin, size: Number(size), root: hashFromBytes(bytes) }, text, signatures: signatures.map(parseSignature) }
}

function parseSignature(line: string): Signature {
  const match = /^— ([^ +]{1,256}) ([A-Za-z0-9+/]+={0,2})$/.exec(line)
  if (!match) throw malformed()
  const bytes = Buffer.from(match[2]!, 'base64')
  if (bytes.length < 5) throw malformed()
  return { name: match[1]!, keyHash: bytes.subarray(0, 4), signature: bytes.subarray(4) }
}

const malformed = () => new ChaperoneError('malformed', 'This is not a checkpoint of a log.')
