import { createHash } from 'node:crypto'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { ChaperoneError } from '../errors.ts'

/** What an MCP server offers and describes to a model. Resources are data: they are judged by URI, and not pinned. */
export const PIN_KINDS = ['tool', 'prompt', 'template', 'instructions'] as const
export type PinKind = (typeof PIN_KINDS)[number]

/** A thing of one server. A template's name is its `uriTemplate`; instructions have the name ''. */
export interface Subject {
  readonly kind: PinKind
  readonly name: string
}

/** All that a server says of one thing, in one form: two with the same hash say the same to a model. */
export interface Definition {
  /** canonical JSON; '' when it is too long to be kept, and so to be shown to anybody who should approve it */
  readonly text: string
  /** hex, of the whole definition */
  readonly sha256: string
}

/** What a decision reads of a pin: hashes, no texts. */
export interface Pin extends Subject {
  /** hash of the definition that holds; absent: none was ever approved */
  readonly approved?: string
  /** somebody has looked at it; else it was taken as first seen */
  readonly confirmed: boolean
  /** hash of another definition that was seen since. While it is here the thing is quarantined, whichever one is shown. */
  readonly pending?: string
  readonly pendingAt?: number
  /** when somebody last decided about it */
  readonly decidedAt?: number
}

/** Of one server, as of one state. */
export interface ServerPins {
  /** Somebody has confirmed something here: from then on nothing new is used unseen (peers R93). */
  readonly confirmed: boolean
  /** newest decision about any of them, 0 when there was none */
  readonly decidedAt: number
  readonly size: number
  /** Something here waits for a decision. */
  readonly waits: boolean
  get(kind: PinKind, name: string): Pin | undefined
}

/** Longer than any description that a person would read to the end. */
const LONGEST = 128 * 1024
/** More than any server offers. What a server lists beyond is not used. */
export const MOST_PINS = 1_000
/** Bytes; what PostgreSQL takes into an index, with room to spare. */
const LONGEST_NAME = 2_000
/** A server that changes a definition at every look does not get a write and a new epoch for each. */
const CHANGES_MS = 60_000

/**
 * The definition of an item as it stands in a list: every field counts, known or not, because a model or a client may read it.
 * `raw` is its text; it counts as it is where the values alone lose something (`exact` false: a number that no double keeps).
 */
export function definitionOf(value: unknown, raw: string, exact = true): Definition {
  const text = exact ? (canonical(value) ?? raw) : raw
  return { text: text.length > LONGEST ? '' : text, sha256: createHash('sha256').update(text).digest('hex') }
}

/** What canonical JSON cannot say (deeper than its limit) is compared as it was written. */
function canonical(value: unknown): string | undefined {
  try {
    return canonicalJson(value)
  } catch (error) {
    if (error instanceof ChaperoneError && error.code === 'malformed') return undefined
    throw error
  }
}

export type PinState = 'confirmed' | 'unconfirmed' | 'changed' | 'new'

/** `new`: seen after something of its server was confirmed, and never approved. `changed`: it differs from what holds. */
export function stateOf({ approved, pending, confirmed }: Pick<Pin, 'approved' | 'pending' | 'confirmed'>): PinState {
  if (approved === undefined) return 'new'
  if (pending !== undefined) return 'changed'
  return confirmed ? 'confirmed' : 'unconfirmed'
}

export const isUsable = (pin: Pin): boolean => pin.approved !== undefined && pin.pending === undefined

/** What has no name that can be kept is never approved. */
export const isPinnable = ({ name }: Subject): boolean =>
  name.length <= LONGEST_NAME && Buffer.byteLength(name) <= LONGEST_NAME && !name.includes('\0')

/** Why a thing may not be used: its definition waits for an administrator. Undefined when it may. */
export function heldBack(pins: ServerPins, subject: Subject): 'changed' | 'new' | undefined {
  const pin = pins.get(subject.kind, subject.name)
  if (pin) return isUsable(pin) ? undefined : pin.approved === undefined ? 'new' : 'changed'
  // A tool under a name that was never listed would be a way around the list (peers R93).
  return pins.confirmed || pins.size >= MOST_PINS || !isPinnable(subject) ? 'new' : undefined
}

/** The pin after this definition was seen; the same object when nothing changes. */
export function observed(
  pin: Pin | undefined,
  subject: Subject,
  seen: Definition,
  { confirmed, now }: { readonly confirmed: boolean; readonly now: number },
): Pin {
  const { kind, name } = subject
  if (!pin) {
    const held = confirmed || seen.text === ''
    return held ? { kind, name, confirmed: false, pending: seen.sha256, pendingAt: now } : { kind, name, confirmed: false, approved: seen.sha256 }
  }
  if (seen.sha256 === pin.approved || seen.sha256 === pin.pending) return pin
  if (pin.pending !== undefined && now - (pin.pendingAt ?? 0) < CHANGES_MS) return pin
  return { ...pin, pending: seen.sha256, pendingAt: now }
}

/** The pin after somebody approved the definition with this hash, which is the one that he was shown (peers R47). Throws `conflict`. */
export function approved(pin: Pin, sha256: string, now: number): Pin {
  const shown = pin.pending ?? pin.approved
  if (sha256 !== shown) {
    throw new ChaperoneError('conflict', `${titleOf(pin)} has another definition by now than the one that was shown.`, {
      fix: 'Look at it again: chaperone mcp pins SERVER --diff',
    })
  }
  const { kind, name } = pin
  return { kind, name, approved: sha256, confirmed: true, decidedAt: now }
}

/** The pin after somebody turned the new definition down: the one before holds again, until the other is seen again. Throws `conflict`. */
export function kept(pin: Pin, now: number): Pin {
  if (pin.pending === undefined) throw new ChaperoneError('conflict', `${titleOf(pin)} has not changed: there is nothing to turn down.`)
  if (pin.approved === undefined) {
    throw new ChaperoneError('conflict', `${titleOf(pin)} was never approved: there is nothing to keep.`, {
      fix: 'It stays held back until somebody approves it.',
    })
  }
  const { kind, name, approved, confirmed } = pin
  return { kind, name, approved, confirmed, decidedAt: now }
}

export const titleOf = ({ kind, name }: Subject): string => (kind === 'instructions' ? 'The instructions' : `The ${kind} ${name}`)

const NONE: ServerPins = { confirmed: false, decidedAt: 0, size: 0, waits: false, get: () => undefined }

/** The pins of each server, for a state. */
export function pinsByServer(pins: Iterable<readonly [resourceId: string, pin: Pin]>): (resourceId: string) => ServerPins {
  const servers = new Map<string, { confirmed: boolean; decidedAt: number; waits: boolean; readonly byKey: Map<string, Pin> }>()
  for (const [id, pin] of pins) {
    const server = servers.get(id) ?? { confirmed: false, decidedAt: 0, waits: false, byKey: new Map<string, Pin>() }
    servers.set(id, server)
    server.byKey.set(keyOf(pin.kind, pin.name), pin)
    server.confirmed ||= pin.confirmed
    server.waits ||= !isUsable(pin)
    server.decidedAt = Math.max(server.decidedAt, pin.decidedAt ?? 0)
  }
  const made = new Map<string, ServerPins>()
  for (const [id, { confirmed, decidedAt, waits, byKey }] of servers)
    made.set(id, { confirmed, decidedAt, waits, size: byKey.size, get: (kind, name) => byKey.get(keyOf(kind, name)) })
  return (id) => made.get(id) ?? NONE
}

const keyOf = (kind: PinKind, name: string) => `${kind} ${name}`
