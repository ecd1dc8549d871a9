import { parseDuration } from '../../encoding/duration.ts'
import { limitsInside, narrowingOf } from '../../policy/narrowing.ts'
import type { Limits } from '../../policy/types.ts'

/** What a program, or a client, gets of a person. */
export interface Share {
  readonly limits: Limits
  readonly forMs: number
  /** what the profile says of that, however much is left of the sign-in */
  readonly lifeMs: number
  /** It ends with the sign-in in which it was agreed to. */
  readonly bound: boolean
}

/** A document of kind `profile`, as it is kept: its optional parts may be there and undefined. */
export interface Profile {
  readonly limits: { readonly [Part in keyof Limits]?: Limits[Part] | undefined }
  readonly for: string
  readonly session: 'bound' | 'free'
}

/** Signing out of a browser ends no client by itself: what says so is a profile, `session: bound`. */
const EVERYTHING: Profile = { limits: {}, for: '8h', session: 'free' }

export interface Besides {
  /** What narrows besides: flags, the server that was asked for. */
  readonly limits: Limits
  /** ms: for how long it was asked for. Beside a profile it only shortens. */
  readonly askedMs?: number | undefined
  /** ms: what is left of what it comes from */
  readonly mostMs: number
}

/** A profile, and what else narrows: both narrow, neither widens. Throws `invalid_document`. */
export function shareOf(profile: Profile | undefined, { limits: more, askedMs, mostMs }: Besides): Share {
  const { limits: written, for: life, session } = profile ?? EVERYTHING
  const limits = limitsInside(JSON.parse(JSON.stringify(written)) as Limits, more)
  // A pattern that means nothing is told to who wrote it; kept, it would refuse everything later.
  for (const part of [more, limits]) narrowingOf(part)
  const usual = parseDuration(life)
  const lifeMs = askedMs === undefined ? usual : profile ? Math.min(usual, askedMs) : askedMs
  return { limits, forMs: Math.min(lifeMs, mostMs), lifeMs, bound: session === 'bound' }
}
