import { hash } from 'node:crypto'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { ChaperoneError } from '../errors.ts'
import type { BodyRef, Draft, Envelope } from './record.ts'

/** A leaf is never larger: what proves it, exports it or shows it can count on that. */
export const MAX_LEAF_BYTES = 65_536
/** How much of a cut text stays to be read. */
const HEAD_CHARACTERS = 512
/** Cutting what is smaller than this saves nothing. */
const WORTH_CUTTING = 1024
/** Nothing of ours nests deeper; canonical JSON itself stops at 128. */
const DEEPEST = 32

/** What stands in the place of a value that was too large. The digest is of its canonical JSON, or of the text itself. */
export interface Cut {
  readonly cut: { readonly size: number; readonly sha256: string }
  readonly head: string
}

/** What the writer adds to a draft. */
export interface Placed {
  readonly id: string
  readonly at: number
  readonly node: string
  readonly seq: number
}

export function makeEnvelope(draft: Omit<Draft, 'bodies'>, placed: Placed, bodies: readonly BodyRef[]): Envelope {
  return { ...draft, ...placed, ...(bodies.length > 0 && { bodies }), v: 1 }
}

/**
 * The leaf: canonical JSON of at most 64 KiB. What does not fit is cut where it can be seen, with size and digest, and
 * never dropped; the bodies are the place for what is large. Throws ChaperoneError('too_large') when cutting cannot help.
 */
export function encodeEnvelope(envelope: Envelope): string {
  const whole = wholeText(envelope)
  if (fits(whole)) return whole
  for (const shorten of [cutLargestFields, cutLongTexts, cutWholeParts]) {
    const text = wholeText(shorten(envelope))
    if (fits(text)) return text
  }
  throw new ChaperoneError('too_large', 'The record is too large even when all it carries is cut.', { detail: `${whole.length} characters` })
}

/** Reads a leaf. Throws 'schema_newer' for a version that this Chaperone does not know, 'record_broken' for what is no leaf. */
export function decodeEnvelope(leaf: Uint8Array | string): Envelope {
  let value: unknown
  try {
    value = JSON.parse(typeof leaf === 'string' ? leaf : new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(leaf))
  } catch (cause) {
    throw new ChaperoneError('record_broken', 'A record is not JSON.', { cause })
  }
  const version = typeof value === 'object' && value !== null && 'v' in value ? value.v : undefined
  if (version === 1) return value as Envelope
  if (typeof version === 'number' && version > 1) {
    throw new ChaperoneError('schema_newer', `A record has version ${version}; this Chaperone knows version 1.`, {
      fix: 'Read it with the Chaperone that wrote it.',
    })
  }
  throw new ChaperoneError('record_broken', 'A record has no version that is known.')
}

/** The columns beside a leaf, by which it is found. Made from the envelope by the writer, and again by verify. */
export interface Columns {
  readonly id: string
  readonly at: number
  readonly type: string
  readonly identity_id: string | null
  readonly session_id: string | null
  readonly resource_id: string | null
  readonly verdict: string | null
  readonly permit: string | null
}

export function columnsOf(
  envelope: Pick<Envelope, 'id' | 'at' | 'type' | 'actor' | 'session' | 'action' | 'resource' | 'decision' | 'permit'>,
): Columns {
  return {
    id: envelope.id,
    at: envelope.at,
    type: envelope.type,
    identity_id: envelope.actor?.id ?? null,
    session_id: envelope.session ?? null,
    resource_id: (envelope.action?.resource ?? envelope.resource)?.id ?? null,
    verdict: envelope.decision?.verdict ?? null,
    permit: envelope.permit ?? null,
  }
}

/** A UTF-16 unit is one to three bytes of UTF-8, so most texts need no counting. */
export const fits = (text: string) =>
  text.length * 3 <= MAX_LEAF_BYTES || (text.length <= MAX_LEAF_BYTES && Buffer.byteLength(text) <= MAX_LEAF_BYTES)

/** Canonical JSON, however long; what has no canonical form is repaired. */
export function wholeText(envelope: Envelope): string {
  try {
    return canonicalJson(envelope)
  } catch {
    // Half a surrogate pair, or too deep: what an attacker sends must not keep the record of it from being written.
    return canonicalJson(repaired(envelope, 0))
  }
}

function repaired(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return value.toWellFormed()
  if (typeof value !== 'object' || value === null) return value
  if (depth > DEEPEST) return cutOf(JSON.stringify(value))
  if (Array.isArray(value)) return value.map((item) => repaired(item, depth + 1))
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key.toWellFormed(), repaired(item, depth + 1)]))
}

function cutOf(text: string): Cut {
  return { cut: { size: Buffer.byteLength(text), sha256: hash('sha256', text) }, head: text.slice(0, HEAD_CHARACTERS).toWellFormed() }
}

const cutValue = (value: unknown): Cut => cutOf(typeof value === 'string' ? value : toTextOf(value))
const toTextOf = (value: unknown) => canonicalJson(repaired(value, 0))

/** The fields of `data`, `outcome`, the facts and the obligations, the largest first, until the rest fits. */
function cutLargestFields(envelope: Envelope): Envelope {
  const parts: Record<string, Record<string, unknown>> = {
    data: { ...envelope.data },
    outcome: { ...envelope.outcome },
    obligations: { ...envelope.decision?.obligations },
    facts: { ...envelope.action?.facts },
  }
  const fields = Object.entries(parts).flatMap(([part, values]) =>
    Object.entries(values).map(([name, value]) => ({ part, name, size: Buffer.byteLength(toTextOf(value)) })),
  )
  let over = Buffer.byteLength(wholeText(envelope)) - MAX_LEAF_BYTES
  for (const { part, name, size } of fields.sort((a, b) => b.size - a.size)) {
    if (over <= 0 || size < WORTH_CUTTING) break
    const cut = cutValue(parts[part]![name])
    parts[part] = { ...parts[part], [name]: cut }
    over -= size - Buffer.byteLength(canonicalJson(cut))
  }
  return withParts(envelope, parts)
}

function withParts(envelope: Envelope, parts: Record<string, unknown>): Envelope {
  return {
    ...envelope,
    ...(envelope.data && { data: parts.data }),
    ...(envelope.outcome && { outcome: parts.outcome }),
    ...(envelope.decision && { decision: { ...envelope.decision, obligations: parts.obligations } }),
    ...(envelope.action?.facts && { action: { ...envelope.action, facts: parts.facts } }),
  } as Envelope
}

/** Every long text wherever it stands, after the largest fields: a summary or a purpose has to stay a text. */
function cutLongTexts(envelope: Envelope): Envelope {
  const walk = (value: unknown): unknown => {
    if (typeof value === 'string') return value.length < WORTH_CUTTING ? value : cutText(value)
    if (Array.isArray(value)) return value.map(walk)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, walk(item)]))
  }
  return walk(repaired(cutLargestFields(envelope), 0)) as Envelope
}

function cutText(text: string): string {
  const { cut, head } = cutOf(text)
  return `${head}… [cut: ${cut.size} bytes, sha256 ${cut.sha256}]`
}

/** Thousands of small fields: nothing is left but to cut `data`, the outcome, the facts and the obligations as a whole. */
function cutWholeParts(envelope: Envelope): Envelope {
  const { status, ...rest } = envelope.outcome ?? {}
  const parts = {
    data: cutValue(envelope.data ?? {}),
    outcome: { status, ...cutValue(rest) },
    obligations: cutValue(envelope.decision?.obligations ?? {}),
    facts: cutValue(envelope.action?.facts ?? {}),
  }
  return cutLongTexts(withParts(envelope, parts))
}
