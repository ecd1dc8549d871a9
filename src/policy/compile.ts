import { ChaperoneError } from '../errors.ts'
import type { RequestEntry } from './entry.ts'
import { GUARDRAIL_SECTIONS, type GuardrailSection, parseGuardrail } from './guardrail.ts'
import type { SpecProblem } from './problem.ts'
import { type ParsedRole, parseRole, ROLE_SECTIONS } from './role.ts'
import type { Rule } from './rule.ts'
import type { SessionLimits } from './session-limits.ts'
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
  readonly requests: readonly RequestEntry[]
  readonly sessions?: SessionLimits
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
  /** The same policy with its rules in shadow mode taken at their word; absent when there is none. It decides nothing. */
  readonly enforced?: Policy
}

/** Throws ChaperoneError('invalid_document') with every problem in `detail`; `checkRole` and `checkGuardrail` give them as data. */
export function compilePolicy(documents: PolicyDocuments, vocabularies: readonly Vocabulary[]): Policy {
  const roles = new Map<string, ParsedRole>()
  for (const { name, spec } of documents.roles) {
    const parsed = parseRole(name, spec, vocabularies)
    if ('problems' in parsed) throw unusable('role', name, parsed.problems)
    if (roles.has(name)) throw unusable('role', name, [{ path: [], message: 'There are two of this name.' }])
    roles.set(name, parsed)
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
  const every = [...[...roles.values()].flatMap(({ rules }) => Object.values(rules).flat()), ...Object.values(guards).flat()]
  const known = new Map(vocabularies.map((vocabulary) => [vocabulary.kind, vocabulary]))
  // A shadow is cast only by what decides: where there is none, nothing is judged twice.
  if (!every.some((rule) => rule.shadow)) return assemble(known, roles, guards, () => true)
  const enforced = assemble(known, roles, guards, () => true)
  return { ...assemble(known, roles, guards, (rule) => !rule.shadow), readsTimeOrSession: enforced.readsTimeOrSession, enforced }
}

/** A policy of those rules that count. */
function assemble(
  vocabularies: ReadonlyMap<string, Vocabulary>,
  parsed: ReadonlyMap<string, ParsedRole>,
  guards: Readonly<Record<GuardrailSection, readonly Rule[]>>,
  counts: (rule: Rule) => boolean,
): Policy {
  const everyRule: Rule[] = []
  const counting = <S extends string>(sections: readonly S[], rules: Readonly<Record<S, readonly Rule[]>>) => {
    const kept = Object.fromEntries(sections.map((section) => [section, rules[section].filter(counts)])) as unknown as Record<S, readonly Rule[]>
    everyRule.push(...sections.flatMap((section) => kept[section]))
    return byKind(sections, kept)
  }
  const roles = new Map<string, Role>()
  for (const [name, { when, requests, sessions, rules }] of parsed)
    roles.set(name, { name, when, requests, ...(sessions ? { sessions } : {}), kinds: counting(ROLE_SECTIONS, rules) })
  const guardrails = counting(GUARDRAIL_SECTIONS, guards)
  return {
    vocabularies,
    roles,
    guardrails,
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
