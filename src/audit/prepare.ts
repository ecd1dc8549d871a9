import { isUtf8 } from 'node:buffer'
import { hash, randomFillSync } from 'node:crypto'
import { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import { type Columns, columnsOf, encodeEnvelope, makeEnvelope } from './envelope.ts'
import type { Masker } from './mask.ts'
import type { Body, BodyRef, Draft, Envelope } from './record.ts'
import { type Hash, leafHash } from './tree.ts'

/** A draft on its way to the writer's thread: JSON, because that costs the main thread least. */
export interface Incoming {
  readonly draft: string
  readonly bodies: readonly Body[]
  /** ms since 1970 */
  readonly at: number
}

export interface LeafRow extends Columns {
  readonly seq: number
  /** canonical JSON */
  readonly leaf: string
  readonly hash: Hash
}

export interface BodyRow {
  readonly seq: number
  readonly name: string
  readonly salt: Uint8Array
  readonly body: Uint8Array
}

export interface Prepared {
  readonly row: LeafRow
  readonly bodies: readonly BodyRow[]
}

/** Makes of a draft what is stored: masked, cut, committed to, encoded, hashed. Throws ChaperoneError for a draft that cannot be one. */
export function prepare(incoming: Incoming, place: { readonly node: string; readonly seq: number }, masker: Masker, maxBodyBytes: number): Prepared {
  const draft = JSON.parse(incoming.draft) as Omit<Draft, 'bodies'>
  const bodies = incoming.bodies.map((body) => storeBody(body, masker, maxBodyBytes))
  const refs = distinct(bodies.map(({ ref }) => ref))
  const placed = { id: draft.id ?? newId('rec', incoming.at), at: incoming.at, ...place }
  const envelope = makeEnvelope(draft, placed, refs)
  let leaf = encodeEnvelope(envelope)
  // Whatever the detectors look for stands in the JSON text as it does in the values, so clean text needs no second look.
  // Masking goes before cutting: a digest of a secret, with its length, is enough to guess it by.
  if (masker.suspects(Buffer.from(incoming.draft))) leaf = encodeEnvelope(maskEnvelope(envelope, masker))
  const columns = columnsOf(envelope)
  // JSON writes it so, and no other way.
  if (incoming.draft.includes('\\u0000')) refuseNul(columns)
  return {
    row: { ...columns, seq: place.seq, leaf, hash: leafHash(leaf) },
    bodies: bodies.map(({ salt, body }, i) => ({ seq: place.seq, name: refs[i]!.name, salt, body })),
  }
}

/** HMAC-SHA256 (RFC 2104) by hand for a 32-byte key: a fifth of the time of createHmac, and checked against it in a test. */
export function commitment(salt: Uint8Array, body: Uint8Array): string {
  const inner = Buffer.allocUnsafe(64 + body.length).fill(0x36, 0, 64)
  const outer = Buffer.alloc(96, 0x5c)
  for (let i = 0; i < 32; i++) {
    inner[i] = salt[i]! ^ 0x36
    outer[i] = salt[i]! ^ 0x5c
  }
  inner.set(body, 64)
  outer.write(hash('sha256', inner, 'binary'), 64, 'latin1')
  return hash('sha256', outer)
}

function storeBody({ name, bytes }: Body, masker: Masker, limit: number): { ref: BodyRef; salt: Uint8Array; body: Uint8Array } {
  const { value, count } = masker.bytes(typeof bytes === 'string' ? Buffer.from(bytes) : bytes)
  const body = value.length <= limit ? value : value.subarray(0, endOfCharacter(value, limit))
  const salt = newSalt()
  const ref: BodyRef = {
    name,
    size: body.length,
    commitment: commitment(salt, body),
    ...(body.length < value.length && { cut: { size: value.length, sha256: hash('sha256', value) } }),
    ...(count > 0 && { masked: count }),
  }
  return { ref, salt, body }
}

/** The last place at or before `limit` that is not inside of a UTF-8 character, when the bytes are text at all. */
function endOfCharacter(bytes: Uint8Array, limit: number): number {
  for (let end = limit; end > limit - 4; end--) {
    if ((bytes[end]! & 0xc0) !== 0x80) return isUtf8(bytes.subarray(0, end)) ? end : limit
  }
  return limit
}

const SALT_BYTES = 32
const salts = Buffer.alloc(SALT_BYTES * 256)
let saltsUsed = salts.length

/** From a pool: asking the system for each would cost as much as the hashing. */
function newSalt(): Uint8Array {
  if (saltsUsed === salts.length) {
    randomFillSync(salts)
    saltsUsed = 0
  }
  const salt = Uint8Array.prototype.slice.call(salts, saltsUsed, saltsUsed + SALT_BYTES)
  saltsUsed += SALT_BYTES
  return salt
}

/** Two bodies of one name are two bodies still. */
function distinct(refs: readonly BodyRef[]): readonly BodyRef[] {
  const seen = new Map<string, number>()
  return refs.map((ref) => {
    const count = (seen.get(ref.name) ?? 0) + 1
    seen.set(ref.name, count)
    return count === 1 ? ref : { ...ref, name: `${ref.name}#${count}` }
  })
}

/**
 * Everything but what our own code chose from closed lists, and the ids and names of identities and resources: a secret
 * that happens to be called `postgres` must not make the record unreadable.
 */
function maskEnvelope(envelope: Envelope, masker: Masker): Envelope {
  const { v, id, at, node, seq, type, actor, chain, session, connection, credential, issuer, permit, bodies, action, decision, outcome, ...rest } =
    envelope
  const clean = <T extends object>(value: T): T => masker.value(value).value as T
  const kept = { v, id, at, node, seq, type, actor, chain, session, connection, credential, issuer, permit, bodies }
  return {
    ...clean(rest),
    ...Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined)),
    ...(action && {
      action: { ...clean({ ...action, resource: undefined }), kind: action.kind, effects: action.effects, resource: action.resource },
    }),
    ...(decision && { decision: { ...decision, obligations: clean(decision.obligations) } }),
    ...(outcome && { outcome: { ...clean(outcome), status: outcome.status } }),
  } as Envelope
}

/** PostgreSQL's text cannot hold NUL, and one such row would fail the transaction that others wait for too. */
function refuseNul(columns: Columns): void {
  for (const value of Object.values(columns)) {
    if (typeof value === 'string' && value.includes('\0')) throw new ChaperoneError('malformed', 'An id in a record holds a NUL.')
  }
}
