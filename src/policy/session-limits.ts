import { z } from 'zod'
import { parseDuration } from '../encoding/duration.ts'
import { durationSchema } from './approval.ts'
import type { Policy } from './compile.ts'
import type { Identity } from './types.ts'

/** `sessions:` of a role: what its holders' sessions are bound to. */
export const sessionsSchema = z.strictObject({
  concurrent: z.number().int().min(1).max(10_000).optional().describe('so many sessions at the same time'),
  idle: durationSchema.optional().describe('a session in which nothing happens for this long ends'),
  longest: durationSchema.optional().describe('a session ends after this time, whatever happens in it'),
})

export type SessionsSpec = z.infer<typeof sessionsSchema>

export interface SessionLimits {
  readonly concurrent?: number
  readonly idleMs?: number
  readonly longestMs?: number
}

export const compileSessions = ({ concurrent, idle, longest }: SessionsSpec): SessionLimits => ({
  ...(concurrent === undefined ? {} : { concurrent }),
  ...(idle === undefined ? {} : { idleMs: parseDuration(idle) }),
  ...(longest === undefined ? {} : { longestMs: parseDuration(longest) }),
})

/**
 * What binds the sessions of an identity: of all roles it holds the smallest number and the shortest times. A delegation that
 * leaves a role out does not free it from this, and neither do the role's hours.
 */
export function sessionLimitsOf(policy: Policy, identity: Pick<Identity, 'roles'>): SessionLimits {
  const found: { -readonly [Key in keyof SessionLimits]: SessionLimits[Key] } = {}
  for (const name of identity.roles) {
    for (const [key, value] of Object.entries(policy.roles.get(name)?.sessions ?? {}) as [keyof SessionLimits, number][])
      found[key] = Math.min(found[key] ?? value, value)
  }
  return found
}
