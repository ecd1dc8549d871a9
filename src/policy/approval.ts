import { z } from 'zod'
import { formatDuration, parseDuration } from '../encoding/duration.ts'
import { compileReasonPattern, type ReasonPattern } from './reason-pattern.ts'
import type { ApproverGroup, Approvers, Ask } from './types.ts'

/** Beyond this nobody finds the people; a count that no group can reach would be a question without an answer (rule 11). */
const MOST_PEOPLE = 10
const name = z.string().min(1)

const groupSchema = z
  .strictObject({
    role: z
      .union([name, z.array(name).min(1).max(MOST_PEOPLE)])
      .optional()
      .describe('holders of this role, or of one of these'),
    users: z.array(name).min(1).max(50).optional().describe('these people, by name'),
    count: z.number().int().min(1).max(MOST_PEOPLE).optional().describe('how many of them; default 1'),
  })
  .refine(({ role, users }) => role !== undefined || users !== undefined, { message: 'names nobody: write role or users' })
  .refine(({ role, users, count = 1 }) => role !== undefined || users === undefined || count <= new Set(users).size, {
    message: 'wants more people than it names',
    path: ['count'],
  })

const allSchema = z.strictObject({
  all: z.array(groupSchema).min(1).max(MOST_PEOPLE).describe('each of these groups, by different people'),
})

/** Who may say yes: the person behind the agent, holders of a role, people by name; how many; or several groups. */
export const approversSchema = z.union([z.literal('owner'), groupSchema, allSchema])

/** A time such as `30m`. */
export const durationSchema = z.string().refine(isDuration, {
  error: ({ input }) => `${JSON.stringify(String(input).slice(0, 40))} is not a duration: write a time such as 30s, 3m, 12h, 7d or 1h30m`,
})

function isDuration(text: string): boolean {
  try {
    return parseDuration(text) > 0
  } catch {
    return false
  }
}

/** A confirmation of the person behind the agent never stands for an approval, so nothing escalates to him (rule 12). */
export const escalateSchema = z.strictObject({
  after: durationSchema.describe('nobody answered for this long'),
  approvers: z.union([groupSchema, allSchema]).describe('these may say yes as well'),
})

/** Whether the one who asks must say why. */
export const reasonSchema = z.union([
  z.enum(['required', 'optional']),
  z.strictObject({ pattern: z.string().min(1).describe('what the reason must hold, such as OPS-\\d+') }),
])

export type ReasonSpec = NonNullable<Ask['reason']>

/** What an ask rule, or an entry of `request`, says about the yes. */
export interface Terms {
  readonly approvers: Approvers | undefined
  readonly reason?: ReasonSpec
  readonly escalate?: NonNullable<Ask['escalate']>
}

/** The terms as written, all checked. Throws ChaperoneError('invalid_document') for a pattern that is not one. */
export function termsOf(written: {
  readonly approvers?: z.infer<typeof approversSchema> | undefined
  readonly reason?: z.infer<typeof reasonSchema> | undefined
  readonly escalate?: z.infer<typeof escalateSchema> | undefined
}): Terms {
  const { approvers, reason, escalate } = written
  if (typeof reason === 'object') patternOf(reason.pattern)
  return {
    approvers: approvers as Approvers | undefined,
    ...(reason === undefined ? {} : { reason }),
    ...(escalate === undefined ? {} : { escalate: { afterMs: parseDuration(escalate.after), approvers: escalate.approvers as Approvers } }),
  }
}

/** The longest reason that is read. */
export const LONGEST_REASON = 1000

/** Bounded: only patterns of documents get in, and those few are asked again and again. */
const patterns = new Map<string, ReasonPattern>()
const MOST_PATTERNS = 1000

function patternOf(pattern: string): ReasonPattern {
  const known = patterns.get(pattern)
  if (known) return known
  const made = compileReasonPattern(pattern)
  if (patterns.size >= MOST_PATTERNS) patterns.clear()
  patterns.set(pattern, made)
  return made
}

/** What is wrong with a reason, for whoever gave it; undefined when it will do. */
export function reasonFault(wanted: ReasonSpec | undefined, reason: string | undefined): string | undefined {
  const given = reason?.trim() ?? ''
  if (given.length > LONGEST_REASON) return `The reason is longer than ${LONGEST_REASON} characters.`
  if (wanted === undefined || wanted === 'optional') return undefined
  if (given === '') return typeof wanted === 'object' ? `A reason is needed that holds ${wanted.pattern}.` : 'A reason is needed.'
  if (typeof wanted === 'object' && !patternOf(wanted.pattern).fits(given)) return `The reason has to hold ${wanted.pattern}.`
  return undefined
}

/** `a holder of role dba`, `2 of: holders of role dba or lead, and dana`: who can say yes, within a sentence. */
export function approversText(approvers: Approvers | undefined): string {
  if (approvers === undefined) return 'an approver'
  if (approvers === 'owner') return 'the person behind the agent'
  if ('all' in approvers) return approvers.all.map(groupText).join(', and ')
  return groupText(approvers)
}

function groupText({ role, users, count = 1 }: ApproverGroup): string {
  const roles = role === undefined ? [] : typeof role === 'string' ? [role] : role
  const holders = roles.length === 0 ? [] : [`${count === 1 ? 'a holder' : 'holders'} of role ${roles.join(' or ')}`]
  const who = [...holders, ...(users ?? [])].join(' or ')
  return count === 1 ? who : `${count} of: ${who}`
}

/** `for up to 30m, with a reason`: nothing where nothing is demanded. */
export function reasonText(reason: ReasonSpec | undefined): string {
  if (typeof reason === 'object') return `, with a reason that holds ${reason.pattern}`
  return reason === 'required' ? ', with a reason' : ''
}

export const forUpTo = (ms: number | undefined) => (ms === undefined ? '' : ` for up to ${formatDuration(ms)}`)
