import { z } from 'zod'
import { parseDuration } from '../encoding/duration.ts'
import { ChaperoneError } from '../errors.ts'
import { approversSchema, durationSchema, escalateSchema, reasonSchema, type Terms, termsOf } from './approval.ts'
import { problemOfError, problemsOf, type SpecProblem } from './problem.ts'
import { compileWhen, type When, type WhenSpec, whenSchema } from './when.ts'
import { compileWhere, type Where } from './where.ts'

const conditions = {
  when: whenSchema.optional().describe('asked within these hours'),
  where: z.string().min(1).optional().describe('CEL over identity, session, time and args: { role, seconds, reason, resource }'),
}

const automaticSchema = z.union([
  z.strictObject({
    approve: z
      .strictObject({ up_to: durationSchema.optional().describe('asked for no longer than this'), ...conditions })
      .describe('a yes without a human, where all of it holds'),
  }),
  z.strictObject({
    refuse: z
      .strictObject({ over: durationSchema.optional().describe('asked for longer than this'), ...conditions })
      .describe('a no without a human, where all of it holds; it stands above every approve'),
  }),
])

/** A way to ask for more: a role for a while. */
export const requestSchema = z.strictObject({
  role: z.string().min(1).describe('the role that may be asked for'),
  max: durationSchema.optional().describe('for how long at the most; default 8h'),
  resources: z
    .enum(['any', 'named'])
    .optional()
    .describe('named: only for one resource, which is named; default any: the whole role, or one resource'),
  reason: reasonSchema.optional().describe('whether the one who asks must say why: required, optional (default), or { pattern: OPS-\\d+ }'),
  approvers: approversSchema.optional().describe('who may say yes; default: whoever may approve here'),
  escalate: escalateSchema.optional().describe('who may say yes as well when nobody answers'),
  automatic: z.array(automaticSchema).max(20).optional().describe('answers that need no human'),
  break_glass: z.literal(true).optional().describe('it may be taken at once: everybody is told, and somebody has to review it afterwards'),
  start_in: durationSchema.optional().describe('it may be asked for a later time, at most this far ahead; default: from the yes on'),
})

export type RequestSpec = z.infer<typeof requestSchema>

/** A role without a `max` is still given for a while only (rule 11). */
const DEFAULT_MAX_MS = 8 * 3_600_000

/** An entry of a role's `request`, ready to be asked about. */
export interface RequestEntry extends Terms {
  /** the role that has this entry, and its place there, from 0 */
  readonly document: string
  readonly index: number
  /** the role that may be asked for */
  readonly role: string
  /** ms */
  readonly maxMs: number
  /** one resource must be named */
  readonly named: boolean
  readonly breakGlass: boolean
  /** ms ahead that it may begin; undefined: only at once */
  readonly startInMs?: number
  readonly automatic: readonly AutomaticRule[]
}

export interface AutomaticRule {
  readonly answer: 'approve' | 'refuse'
  /** ms: approve up to this, refuse over it */
  readonly edgeMs?: number
  readonly when?: When
  readonly where?: Where
}

/** The entries of the role `document`, compiled; what is wrong with them goes to `problems`. */
export function compileEntries(document: string, specs: readonly unknown[], problems: SpecProblem[]): readonly RequestEntry[] {
  return specs.flatMap((written, index): RequestEntry[] => {
    const parsed = requestSchema.safeParse(written)
    if (!parsed.success) {
      problems.push(...problemsOf(parsed.error, requestSchema, ['request', index]))
      return []
    }
    const spec = parsed.data
    const attempt = <T>(path: readonly (string | number)[], compile: () => T): T | undefined => {
      try {
        return compile()
      } catch (error) {
        problems.push(problemOfError(error, ['request', index, ...path]))
        return undefined
      }
    }
    const terms = attempt(['reason'], () => termsOf(spec)) ?? { approvers: undefined }
    if (spec.approvers === 'owner' && spec.break_glass)
      problems.push({
        path: ['request', index, 'approvers'],
        message: 'Break-glass is reviewed by somebody else: `owner` cannot be.',
        fix: 'Name a role or people.',
      })
    const entry = {
      document,
      index,
      role: spec.role,
      maxMs: spec.max === undefined ? DEFAULT_MAX_MS : parseDuration(spec.max),
      named: spec.resources === 'named',
      breakGlass: spec.break_glass === true,
      ...(spec.start_in === undefined ? {} : { startInMs: parseDuration(spec.start_in) }),
      automatic: (spec.automatic ?? []).map((rule, i) => compileAutomatic(rule, (path, compile) => attempt(['automatic', i, ...path], compile))),
      ...terms,
    }
    return [entry]
  })
}

type Attempt = <T>(path: readonly (string | number)[], compile: () => T) => T | undefined

function compileAutomatic(rule: NonNullable<RequestSpec['automatic']>[number], attempt: Attempt): AutomaticRule {
  const answer = 'approve' in rule ? 'approve' : 'refuse'
  const written: { up_to?: string | undefined; over?: string | undefined; when?: WhenSpec | undefined; where?: string | undefined } =
    'approve' in rule ? rule.approve : rule.refuse
  const edge = written.up_to ?? written.over
  attempt([answer], () => {
    // What may be had without a human is never implied (design 4, Selectors).
    if (edge === undefined && written.when === undefined && written.where === undefined)
      throw new ChaperoneError('invalid_document', `This automatic ${answer} has no condition.`, {
        fix: `Write ${answer === 'approve' ? 'up_to' : 'over'}, when or where.`,
      })
  })
  const when = written.when && attempt([answer, 'when'], () => compileWhen(written.when!))
  const where = written.where === undefined ? undefined : attempt([answer, 'where'], () => compileAsked(written.where!))
  return { answer, ...(edge === undefined ? {} : { edgeMs: parseDuration(edge) }), ...(when ? { when } : {}), ...(where ? { where } : {}) }
}

/** Here no action is judged: the resource is what was asked for, if one was, and stands below `args`. */
function compileAsked(source: string): Where {
  const where = compileWhere(source)
  if (where.readsResource)
    throw new ChaperoneError('invalid_document', '`where` of a request has no `resource`.', {
      fix: 'Write has(args.resource) and args.resource.name.',
    })
  return where
}
