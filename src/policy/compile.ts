import { ChaperoneError } from '../errors.ts'
import { GUARDRAIL_SECTIONS, type GuardrailSection, parseGuardrail } from './guardrail.ts'
import type { SpecProblem } from './problem.ts'
import { parseRole, type RequestSpec, ROLE_SECTIONS } from './role.ts'
import type { Rule } from './rule.ts'
import type { Section, Vocabulary } from './types.ts'
import type { When } from './when.ts'

export interface PolicyDocuments {
  readonly roles: readonly { readonly name: string; readonly spec: unknown }[]
  readonly guardrails: readonly { readonly name: string; readonly spec: unknown }[]
}

/** Rules of one section and kind, found by the name of the resource; each list keeps the order in which they were written. */
export interface RuleList {
  /** for names that some rule writes out */
  readonly byName: ReadonlyMap<string, readonly Rule[]>
  /** for every other name */
  readonly others: readonly Rule[]
  readonly all: readonly Rule[]
}

export interface Role {
  readonly name: string
  readonly when: When | undefined
  readonly requests: readonly RequestSpec[]
  /** by kind of action */
  readonly kinds: ReadonlyMap<string, Readonly<Record<Section, RuleList>>>
}

/** All roles and guardrails, ready to be asked. Immutable; a change of documents makes a new one. */
export interface Policy {
  readonly vocabularies: ReadonlyMap<string, Vocabulary>
  readonly roles: ReadonlyMap<string, Role>
  /** by kind of action; sorted by the guardrail's name */
  readonly guardrails: ReadonlyMap<string, Readonly<Record<GuardrailSection, RuleList>>>
  /** Some rule reads the time or the session: lists filtered by this policy must not be cached by identity. */
  readonly readsTimeOrSession: boolean
}

/** Throws ChaperoneError('invalid_document') with every problem in `detail`; `checkRole` and `checkGuardrail` give them as data. */
export function compilePolicy(documents: PolicyDocuments, vocabularies: readonly Vocabulary[]): Policy {
  const roles = new Map<string, Role>()
  const everyRule: Rule[] = []
  for (const { name, spec } of documents.roles) {
    const parsed = parseRole(name, spec, vocabularies)
    if ('problems' in parsed) throw unusable('role', name, parsed.problems)
    if (roles.has(name)) throw unusable('role', name, [{ path: [], message: 'There are two of this name.' }])
    roles.set(name, { name, when: parsed.when, requests: parsed.requests, kinds: byKind(ROLE_SECTIONS, parsed.rules) })
    everyRule.push(...Object.values(parsed.rules).flat())
  }
  const guards: Record<GuardrailSection, Rule[]> = { deny: [], ask: [], limit: [] }
  const names = new Set<string>()
  for (const { name, spec } of documents.guardrails.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const parsed = parseGuardrail(name, spec, vocabularies)
    if ('problems' in parsed) throw unusable('guardrail', name, parsed.problems)
    if (names.has(name)) throw unusable('guardrail', name, [{ path: [], message: 'There are two of this name.' }])
    names.add(name)
    for (const section of GUARDRAIL_SECTIONS) guards[section].push(...parsed.rules[section])
  }
  everyRule.push(...Object.values(guards).flat())
  return {
    vocabularies: new Map(vocabularies.map((vocabulary) => [vocabulary.kind, vocabulary])),
    roles,
    guardrails: byKind(GUARDRAIL_SECTIONS, guards),
    readsTimeOrSession: everyRule.some((rule) => rule.readsTimeOrSession) || [...roles.values()].some((role) => role.when !== undefined),
  }
}

function unusable(kind: string, name: string, problems: readonly SpecProblem[]): ChaperoneError {
  const first = problems[0]
  return new ChaperoneError('invalid_document', `The ${kind} ${name} is not valid: ${first?.message ?? ''}`, {
    detail: problems.map((problem) => `${problem.path.join('.')}: ${problem.message}`).join('; '),
    ...(first?.fix === undefined ? {} : { fix: first.fix }),
  })
}

function byKind<S extends string>(sections: readonly S[], rules: Readonly<Record<S, readonly Rule[]>>): ReadonlyMap<string, Record<S, RuleList>> {
  const kinds = new Set(sections.flatMap((section) => rules[section].map((rule) => rule.vocabulary.kind)))
  return new Map(
    [...kinds].map((kind) => {
      const lists = sections.map((section) => [section, ruleList(rules[section].filter((rule) => rule.vocabulary.kind === kind))] as const)
      return [kind, Object.fromEntries(lists) as Record<S, RuleList>]
    }),
  )
}

function ruleList(rules: readonly Rule[]): RuleList {
  const names = new Set(rules.flatMap((rule) => rule.selector.onlyNames ?? []))
  const under = (name?: string) =>
    rules.filter(({ selector }) => selector.onlyNames === undefined || (name !== undefined && selector.onlyNames.includes(name)))
  return { byName: new Map([...names].map((name) => [name, under(name)])), others: under(), all: rules }
}
