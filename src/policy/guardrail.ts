import { z } from 'zod'
import { problemOfError, problemsOf, type SpecProblem } from './problem.ts'
import { compileRule, type Holds, type Rule, type RuleSpec, ruleSchema } from './rule.ts'
import type { Vocabulary } from './types.ts'
import { valueMatcher } from './value.ts'

const kinds = z.enum(['user', 'agent', 'node'])
const names = z.union([z.string().min(1), z.array(z.string().min(1))])

/** Whom a guardrail holds: all that is written must fit; without it, everybody. */
const forSchema = z.strictObject({
  kind: z
    .union([kinds, z.array(kinds)])
    .optional()
    .describe('user, agent or node'),
  roles: names.optional().describe('who holds one of these roles, whether or not a delegation leaves it out'),
  names: names.optional().describe('names of identities, or globs'),
})

type ForSpec = z.infer<typeof forSchema>

/** The spec of a `kind: guardrail` document, as written. */
export interface GuardrailSpec {
  readonly for?: ForSpec
  readonly deny?: readonly RuleSpec[]
  readonly ask?: readonly RuleSpec[]
  readonly limit?: readonly RuleSpec[]
}

export const GUARDRAIL_SECTIONS = ['deny', 'ask', 'limit'] as const
export type GuardrailSection = (typeof GUARDRAIL_SECTIONS)[number]

/** The shape of the spec with these vocabularies: for reference pages and editors. */
export function guardrailSchema(vocabularies: readonly Vocabulary[]): z.ZodObject {
  const rules = (section: GuardrailSection) => z.array(z.union(vocabularies.map((vocabulary) => ruleSchema(vocabulary, section)))).optional()
  return z.strictObject({
    for: forSchema.optional().describe('whom it holds; default: everybody'),
    deny: rules('deny'),
    ask: rules('ask').describe('what roles allow becomes ask; nothing is allowed by it'),
    limit: rules('limit').describe('adds obligations to what roles allow'),
  })
}

const frame = z.strictObject({
  for: forSchema.optional(),
  deny: z.array(z.unknown()).optional(),
  ask: z.array(z.unknown()).optional(),
  limit: z.array(z.unknown()).optional(),
})

export interface ParsedGuardrail {
  readonly rules: Readonly<Record<GuardrailSection, readonly Rule[]>>
}

export function parseGuardrail(
  name: string,
  spec: unknown,
  vocabularies: readonly Vocabulary[],
): ParsedGuardrail | { readonly problems: readonly SpecProblem[] } {
  const parsed = frame.safeParse(spec)
  if (!parsed.success) return { problems: problemsOf(parsed.error, frame, []) }
  const problems: SpecProblem[] = []
  let holds: Holds | undefined
  try {
    holds = parsed.data.for && compileFor(parsed.data.for)
    if (parsed.data.for && Object.keys(parsed.data.for).length === 0)
      problems.push({ path: ['for'], message: '`for` names nobody.', fix: 'Leave it out when everybody is meant.' })
  } catch (error) {
    problems.push(problemOfError(error, ['for']))
  }
  const rules: Record<GuardrailSection, Rule[]> = { deny: [], ask: [], limit: [] }
  for (const section of GUARDRAIL_SECTIONS) {
    parsed.data[section]?.forEach((rule, index) => {
      const compiled = compileRule(rule, { kind: 'guardrail', document: name, section, index }, vocabularies, [section, index])
      if ('rule' in compiled) rules[section].push({ ...compiled.rule, holds })
      else problems.push(...compiled.problems)
    })
  }
  return problems.length > 0 ? { problems } : { rules }
}

function compileFor(spec: ForSpec): Holds {
  const kindNames = spec.kind === undefined ? undefined : new Set<string>(Array.isArray(spec.kind) ? spec.kind : [spec.kind])
  const role = spec.roles === undefined ? undefined : valueMatcher(spec.roles)
  const name = spec.names === undefined ? undefined : valueMatcher(spec.names)
  return (identity, variables) =>
    (kindNames === undefined || kindNames.has(identity.kind)) &&
    (role === undefined || identity.roles.some((held) => role(held, variables))) &&
    (name === undefined || name(identity.name, variables))
}

/** Whether `spec` is a guardrail, and if not, everything that is wrong with it. */
export function checkGuardrail(
  spec: unknown,
  vocabularies: readonly Vocabulary[],
): { readonly ok: true; readonly guardrail: GuardrailSpec } | { readonly ok: false; readonly problems: readonly SpecProblem[] } {
  const parsed = parseGuardrail('', spec, vocabularies)
  return 'problems' in parsed ? { ok: false, problems: parsed.problems } : { ok: true, guardrail: spec as GuardrailSpec }
}
