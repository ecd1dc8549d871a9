import type { ProfileSpec } from '../../catalog/profile.ts'
import { parseDuration } from '../../encoding/duration.ts'
import { limitsInside, narrowingOf } from '../../policy/narrowing.ts'
import type { Limits } from '../../policy/types.ts'

/** What a client gets of a person. */
export interface Share {
  readonly limits: Limits
  readonly forMs: number
  /** It ends with the sign-in in which it was agreed to. */
  readonly bound: boolean
}

/** Signing out of a browser ends no client by itself: what says so is a profile, `session: bound`. */
const EVERYTHING: Pick<ProfileSpec, 'limits' | 'for' | 'session'> = { limits: {}, for: '8h', session: 'free' }

/** A profile, and what else narrows: both narrow, neither widens. Throws `invalid_document`. */
export function shareOf(
  profile: Pick<ProfileSpec, 'limits' | 'for' | 'session'> | undefined,
  more: { readonly limits: Limits; readonly forMs: number },
): Share {
  const { limits: written, for: life, session } = profile ?? EVERYTHING
  // The schema's optional parts may be there and undefined.
  const limits = limitsInside(JSON.parse(JSON.stringify(written)) as Limits, more.limits)
  narrowingOf(limits)
  return { limits, forMs: Math.min(parseDuration(life), more.forMs), bound: session === 'bound' }
}
