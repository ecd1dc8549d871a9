import { z } from 'zod'
import { parseDuration } from '../encoding/duration.ts'
import { ChaperoneError } from '../errors.ts'
import { durationSchema } from '../policy/approval.ts'
import { limitsSchema, narrowingOf } from '../policy/narrowing.ts'
import type { Limits } from '../policy/types.ts'

const LONGEST = '30d'

/** `kind: profile`: how much of what a person may do a program of his gets, and for how long. */
export const profileSpec = z.strictObject({
  limits: limitsSchema.default({}).describe('what is left over; an empty one limits nothing'),
  for: durationSchema.default('8h').describe(`the program acts no longer than this, and at most ${LONGEST}`),
  session: z
    .enum(['bound', 'free'])
    .default('bound')
    .describe('bound: it also ends with the session of the person; free: it goes on after he has signed out, for the time above'),
})

export type ProfileSpec = z.infer<typeof profileSpec>

/** What the schema cannot say: patterns that mean nothing, a `where` that is no CEL, a time too long. */
export function profileFaults(spec: ProfileSpec): { readonly path: string[]; readonly message: string; readonly fix?: string }[] {
  const faults: { path: string[]; message: string; fix?: string }[] = []
  for (const [part, value] of Object.entries(spec.limits)) {
    try {
      narrowingOf({ [part]: value } as Limits)
    } catch (error) {
      if (!(error instanceof ChaperoneError)) throw error
      faults.push({ path: ['limits', part], message: error.message, ...(error.fix === undefined ? {} : { fix: error.fix }) })
    }
  }
  if (parseDuration(spec.for) > parseDuration(LONGEST)) faults.push({ path: ['for'], message: `A program acts for at most ${LONGEST}.` })
  return faults
}
