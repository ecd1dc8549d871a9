import { isUtf8 } from 'node:buffer'
import { hash, randomFillSync } from 'node:crypto'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { ChaperoneError } from '../errors.ts'
import { type DraftText, leafText } from './draft-text.ts'
import { type Columns, encodeEnvelope, fits, MAX_LEAF_BYTES, makeEnvelope, wholeText } from './envelope.ts'
import type { Masker } from './mask.ts'
import type { Body, BodyRef, Claim, Draft, Envelope } from './record.ts'
import type { Hash } from './tree.ts'

/** A record on its way to the writer's thread. */
export interface Incoming {
  /** the canonical text of the draft, or, where it has none, the draft as JSON */
  readonly text: DraftText | string
  readonly columns: Columns
  readonly bodies: readonly Body[]
  readonly claim?: Claim | undefined
}

export interface LeafRow extends Columns {
  readonly seq: number
  /** canonical JSON */
  readonly leaf: Buffer
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
  const { columns } = incoming
  const bodies = incoming.bodies.map((body) => storeBody(body, masker, maxBodyBytes))
  const refs = bodies.length === 0 ? NO_REFS : distinct(bodies.map(({ ref }) => ref))
  let text = assemble(incoming, place, refs)
  // JSON writes it so, and no other way.
  if (text.includes('\\u0000')) refuseNul(columns)
  let bytes = fits(text) ? bytesOf(text) : undefined
  // Whatever the detectors look for stands in the JSON text as it does in the values, so clean text needs no second look.
  // Masking goes before cutting: a digest of a secret, with its length, is enough to guess it by.
  if (!bytes || masker.suspects(bytes.leaf)) {
    const envelope = JSON.parse(text) as Envelope
    text = encodeEnvelope(masker.suspects(Buffer.from(text)) ? maskEnvelope(envelope, masker) : envelope)
    bytes = bytesOf(text)
  }
  return {
    row: { ...columns, seq: place.seq, ...bytes },
    bodies: bodies.map(({ salt, body }, i) => ({ seq: place.seq, name: refs[i]!.name, salt, body })),
  }
}

const NO_REFS: readonly BodyRef[] = []

/** The leaf before anything is masked or cut. */
function assemble({ text, columns: { id, at } }: Incoming, place: { readonly node: string; readonly seq: number }, refs: readonly BodyRef[]): string {
  if (typeof text !== 'string') return leafText(text, { ...place, at, bodies: refs.length === 0 ? '' : canonicalJson(refs) })
  return wholeText(makeEnvelope(JSON.parse(text) as Omit<Draft, 'bodies'>, { id, at, ...place }, refs))
}

/** Room for the largest leaf, after the 0x00 that its hash begins with (RFC 6962 section 2.1): encoded once for hash and store. */
const scratch = Buffer.alloc(1 + MAX_LEAF_BYTES)

function bytesOf(text: string): { readonly leaf: Buffer; readonly hash: Hash } {
  const end = 1 + scratch.write(text, 1)
  return { leaf: Buffer.from(scratch.subarray(1, end)), hash: hash('sha256', scratch.subarray(0, end)) }
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
  const {
    v,
    id,
    at,
    node,
    seq,
    type,
    actor,
    chain,
    session,
    connection,
    credential,
    issuer,
    permit,
    bodies,
    resource,
    action,
    decision,
    outcome,
    ...rest
  } = envelope
  const clean = <T extends object>(value: T): T => masker.value(value).value as T
  const kept = { v, id, at, node, seq, type, actor, chain, session, connection, credential, issuer, permit, bodies, resource }
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
