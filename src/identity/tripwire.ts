import { z } from 'zod'
import type { Envelope, RecordType } from '../audit/record.ts'
import { formatDuration, parseDuration } from '../encoding/duration.ts'
import type { ReasonCode } from '../errors.ts'

const time = z.string().refine((text) => {
  try {
    return parseDuration(text) > 0
  } catch {
    return false
  }
}, 'Write a time such as 30s, 15m or 2h.')

const refused = z.strictObject({
  more_than: z.number().int().min(1).max(1_000).describe('so many refusals are nothing yet'),
  within: time.describe('the time in which they are counted, at most 1h'),
  of: z
    .enum(['session', 'identity'])
    .optional()
    .describe('whose are counted together; default: session for a lock on a session or credential, else identity'),
})

const when = z.union([z.strictObject({ refused }), z.strictObject({ copied_credential: z.literal(true) })])

/** `kind: tripwire`: a lock that makes itself. */
export const tripwireSpec = z.strictObject({
  when: when.describe('what it reacts to'),
  lock: z.enum(['session', 'credential', 'identity', 'owner']).describe('what is locked; owner: every agent of the person who owns it'),
  for: time.describe('how long; then it lifts itself'),
  except: z.array(z.string().min(1).max(130)).max(100).default([]).describe('names of identities that it never locks'),
})

export type TripwireSpec = z.infer<typeof tripwireSpec>

/** What a schema cannot say. `path` counts from the spec. */
export function tripwireFaults(spec: TripwireSpec): readonly { readonly path: readonly string[]; readonly message: string; readonly fix?: string }[] {
  if ('copied_credential' in spec.when) {
    if (spec.lock === 'identity' || spec.lock === 'owner') return []
    return [
      {
        path: ['lock'],
        message: 'The session of a copied credential is locked without any tripwire.',
        fix: 'Write lock: identity, or lock: owner, where that is not enough.',
      },
    ]
  }
  if (parseDuration(spec.when.refused.within) > LONGEST_WINDOW_MS)
    return [{ path: ['when', 'refused', 'within'], message: 'Refusals are counted over one hour at the longest.' }]
  return []
}

const LONGEST_WINDOW_MS = 3_600_000

export interface Tripwire {
  readonly name: string
  /** undefined: a copied credential */
  readonly refused: { readonly moreThan: number; readonly withinMs: number; readonly of: 'session' | 'identity' } | undefined
  readonly lock: TripwireSpec['lock']
  readonly forMs: number
  readonly except: ReadonlySet<string>
  /** shown to whoever the lock stops */
  readonly reason: string
}

export function compileTripwire(name: string, spec: TripwireSpec): Tripwire {
  const { lock, except } = spec
  const common = { name, lock, forMs: parseDuration(spec.for), except: new Set(except) }
  if ('copied_credential' in spec.when) return { ...common, refused: undefined, reason: `A credential was copied (tripwire ${name}).` }
  const { more_than: moreThan, within, of = lock === 'session' || lock === 'credential' ? 'session' : 'identity' } = spec.when.refused
  const withinMs = parseDuration(within)
  return {
    ...common,
    refused: { moreThan, withinMs, of },
    reason: `More than ${moreThan} refused actions within ${formatDuration(withinMs)} (tripwire ${name}).`,
  }
}

/**
 * Refusals that say something about who asked: he wanted what he may not have. What is refused for the sake of Chaperone or
 * of a limit, or because he is locked already, is none of these; nor is anything of somebody who did not prove who he is,
 * or a stranger could lock anybody out by his name.
 */
const COUNTED: ReadonlySet<ReasonCode> = new Set([
  'denied_by_rule',
  'denied_by_guardrail',
  'no_rule',
  'delegation_exceeded',
  'not_found',
  'not_understood',
  'approval_denied',
])

/** The only records that have anything to do with a tripwire. */
export const TRIPPING: ReadonlySet<RecordType> = new Set(['action.refused', 'credential.copied'])

/** What a record has to do with this tripwire: undefined, or the key under which it is counted. Pure. */
export function causeOf({ refused, except }: Tripwire, { type, actor, session, decision }: Envelope): string | undefined {
  if (actor === undefined || session === undefined || except.has(actor.name)) return undefined
  if (!refused) return type === 'credential.copied' ? session : undefined
  if (type !== 'action.refused' || !decision || !COUNTED.has(decision.reason)) return undefined
  return refused.of === 'session' ? session : actor.id
}

/** How many are counted at once. The one that was quiet for longest is forgotten: it would have to begin anew anyway. */
const MOST_KEYS = 10_000

/** Times of the last refusals by key: never more than it takes, however many come. */
export class Windows {
  readonly #times = new Map<string, number[]>()

  /** Whether with this one there are more than `moreThan` within the time. Then counting begins again. */
  add(key: string, at: number, { moreThan, withinMs }: { readonly moreThan: number; readonly withinMs: number }): boolean {
    const times = this.#times.get(key) ?? []
    this.#times.delete(key)
    times.push(at)
    // A clock that was set back would keep what is in its future for ever.
    const recent = times.filter((time) => time <= at && at - time < withinMs).slice(-moreThan - 1)
    if (recent.length > moreThan) return true
    this.#times.set(key, recent)
    if (this.#times.size > MOST_KEYS) this.#times.delete(this.#times.keys().next().value!)
    return false
  }

  get size(): number {
    return this.#times.size
  }
}
