import { z } from 'zod'
import { ChaperoneError } from '../errors.ts'
import type { LiveSession } from '../identity/types.ts'
import type { Action, ObligationMerge, Resource, Vocabulary } from '../policy/types.ts'

/** What may be done to Chaperone itself (design 3.8). Chaperone is a resource like any other, in the same roles. */
export const VERBS = [
  'apply',
  'approve',
  'lock',
  'lock.lift',
  'issue',
  'audit.read',
  'recording.read',
  'ca',
  'pins',
  'secrets',
  'identities',
] as const
export type Verb = (typeof VERBS)[number]

/**
 * The verbs that a rule speaks of, in the order of the list; of nothing written, or `any`, all of them. Whoever may lock may lift what
 * is locked; a rule about `lock.lift` alone holds up the lifting (by a second administrator, say) and never the stop itself.
 */
export function verbsNamed(verbs: unknown): readonly Verb[] {
  if (!Array.isArray(verbs)) return VERBS
  return VERBS.filter((verb) => verbs.includes(verb) || (verb === 'lock.lift' && verbs.includes('lock')))
}

/**
 * Who holds these can give and take every verb that he has, let people act again, and lift every lock. Somebody who can act is always left
 * for each of them; the others can wait until a lock is lifted.
 */
export const ADMINISTRATORS_VERBS: ReadonlySet<Verb> = new Set(['apply', 'identities', 'lock', 'lock.lift'])

const effectsOf: Record<Verb, Action['effects']> = {
  apply: ['admin'],
  approve: ['admin'],
  lock: ['admin'],
  'lock.lift': ['admin'],
  issue: ['admin'],
  'audit.read': ['read'],
  'recording.read': ['read'],
  ca: ['admin'],
  pins: ['admin'],
  secrets: ['admin'],
  identities: ['admin'],
}

/** Verbs that a person may use only with a second factor of the last five minutes (design 3.3). */
export const FACTOR_VERBS: ReadonlySet<Verb> = new Set(['apply', 'approve', 'lock', 'lock.lift', 'issue', 'ca', 'pins', 'secrets', 'identities'])
export const FACTOR_FRESH_MS = 5 * 60_000

/** Whether a second factor was given in this session within the last five minutes; one of the future is none (rule 4). */
export function hasFreshFactor({ factorAt }: Pick<LiveSession, 'factorAt'>, now: number): boolean {
  const age = factorAt === undefined ? undefined : now - factorAt
  return age !== undefined && age >= 0 && age <= FACTOR_FRESH_MS
}

export const factorRequired = () =>
  new ChaperoneError('factor_required', 'A second factor of the last five minutes is needed for this.', {
    fix: 'Run the command at a terminal, where it asks for a code of your authenticator app, or give one with --totp or CHAPERONE_TOTP.',
  })

/** Chaperone as a resource. There is one a trust domain. */
export const chaperoneResource = (trustDomain: string): Resource => ({
  kind: 'chaperone',
  id: `chaperone:${trustDomain}`,
  name: trustDomain,
  labels: {},
})

/** `looks`: nothing changes by it (a list, a dry run), so that nobody is asked about it who may do it. */
export function administer(resource: Resource, verb: Verb, summary: string, { looks = false }: { readonly looks?: boolean } = {}): Action {
  return { kind: 'chaperone', resource, operation: verb, effects: effectsOf[verb], facts: { verb, ...(looks ? { looks } : {}) }, summary }
}

const none: Record<string, ObligationMerge> = {}

/** `- chaperone: any` with `verbs: [apply, lock]`. */
export const chaperoneVocabulary: Vocabulary = {
  kind: 'chaperone',
  fields: z.object({ verbs: z.union([z.literal('any'), z.array(z.enum(VERBS)).min(1)]).optional() }),
  what: ['verbs'],
  obligations: none,
  compile(fields) {
    const named = new Set<string>(verbsNamed(fields.verbs))
    return (action) => named.has(action.operation)
  },
  // To read the record can be what is asked about; to see what a change would do cannot.
  unasked: ({ effects, facts }) => facts.looks === true && effects.includes('admin'),
  variables: () => ({}),
  // All that a rule reads of it is the verb, which is the operation.
  recalled: () => ({}),
  propose: ({ operation }) => [{ verbs: [operation] }],
}

/** Roles that exist from the first start; `apply` may change them, never remove the last administrator's. */
export const PRESETS = [
  { name: 'admin', spec: { allow: [{ chaperone: 'any', verbs: 'any' }] } },
  { name: 'auditor', spec: { allow: [{ chaperone: 'any', verbs: ['audit.read'] }] } },
  { name: 'approver', spec: { allow: [{ chaperone: 'any', verbs: ['approve'] }] } },
] as const
