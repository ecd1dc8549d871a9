import { z } from 'zod'
import { compileEntries, type RequestEntry, type RequestSpec, requestSchema } from './entry.ts'
import { problemOfError, problemsOf, type SpecProblem } from './problem.ts'
import { compileRule, type Rule, type RuleSpec, ruleSchema } from './rule.ts'
import { compileSessions, type SessionLimits, type SessionsSpec, sessionsSchema } from './session-limits.ts'
import type { Section, Vocabulary } from './types.ts'
import { compileWhen, type When, type WhenSpec, whenSchema } from './when.ts'

/** The spec of a `kind: role` document, as written. */
export interface RoleSpec {
  readonly when?: WhenSpec
  readonly allow?: readonly RuleSpec[]
  readonly ask?: readonly RuleSpec[]
  readonly deny?: readonly RuleSpec[]
  readonly request?: readonly RequestSpec[]
  readonly sessions?: SessionsSpec
}

export const ROLE_SECTIONS = ['allow', 'ask', 'deny'] as const satisfies readonly Section[]

/** The shape of the spec with these vocabularies: for reference pages and editors; {@link checkRole} says more about a fault. */
export function roleSchema(vocabularies: readonly Vocabulary[]): z.ZodObject {
  const rules = (section: Section) => z.array(z.union(vocabularies.map((vocabulary) => ruleSchema(vocabulary, section)))).optional()
  return z.strictObject({
    when: whenSchema.optional().describe('the hours in which the role counts; a live session is cut at their edge'),
    allow: rules('allow'),
    ask: rules('ask').describe('as allow, once a human has said yes; beside a broader allow it is an exception to it'),
    deny: rules('deny'),
    request: z.array(requestSchema).optional().describe('what holders of this role may ask for'),
    sessions: sessionsSchema.optional().describe('limits on the sessions of holders; of several roles the shortest and smallest hold'),
  })
}

/** The spec around its rules and entries: these are checked one by one, the rules against the vocabulary each names. */
const frame = z.strictObject({
  when: whenSchema.optional(),
  allow: z.array(z.unknown()).optional(),
  ask: z.array(z.unknown()).optional(),
  deny: z.array(z.unknown()).optional(),
  request: z.array(z.unknown()).optional(),
  sessions: z.unknown().optional(),
})

export interface ParsedRole {
  readonly when: When | undefined
  readonly rules: Readonly<Record<Section, readonly Rule[]>>
  readonly requests: readonly RequestEntry[]
  readonly sessions?: SessionLimits
}

/** The role compiled, or all its problems. */
export function parseRole(
  name: string,
  spec: unknown,
  vocabularies: readonly Vocabulary[],
): ParsedRole | { readonly problems: readonly SpecProblem[] } {
  const parsed = frame.safeParse(spec)
  if (!parsed.success) return { problems: problemsOf(parsed.error, frame, []) }
  const problems: SpecProblem[] = []
  const attempt = <T>(path: readonly (string | number)[], compile: () => T): T | undefined => {
    try {
      return compile()
    } catch (error) {
      problems.push(problemOfError(error, path))
      return undefined
    }
  }
  const written = parsed.data.when
  const when = written && attempt(['when'], () => compileWhen(written))
  const requests = compileEntries(name, parsed.data.request ?? [], problems)
  const sessions = parsed.data.sessions === undefined ? undefined : sessionsSchema.safeParse(parsed.data.sessions)
  if (sessions?.error) problems.push(...problemsOf(sessions.error, sessionsSchema, ['sessions']))
  const rules: Record<Section, Rule[]> = { allow: [], ask: [], deny: [] }
  for (const section of ROLE_SECTIONS) {
    parsed.data[section]?.forEach((rule, index) => {
      const compiled = compileRule(rule, { kind: 'role', document: name, section, index }, vocabularies, [section, index])
      if ('rule' in compiled) rules[section].push(compiled.rule)
      else problems.push(...compiled.problems)
    })
  }
  return problems.length > 0 ? { problems } : { when, rules, requests, ...(sessions?.data ? { sessions: compileSessions(sessions.data) } : {}) }
}

/** Whether `spec` is a role, and if not, everything that is wrong with it. */
export function checkRole(
  spec: unknown,
  vocabularies: readonly Vocabulary[],
): { readonly ok: true; readonly role: RoleSpec } | { readonly ok: false; readonly problems: readonly SpecProblem[] } {
  const parsed = parseRole('', spec, vocabularies)
  return 'problems' in parsed ? { ok: false, problems: parsed.problems } : { ok: true, role: spec as RoleSpec }
}
