import { canonicalJson } from '../encoding/canonical-json.ts'
import { compileGlob, isGlob } from '../encoding/glob.ts'
import type { PolicyDocuments } from './compile.ts'
import { type GuardrailSection, parseGuardrail } from './guardrail.ts'
import { parseRole } from './role.ts'
import type { Rule, RuleSpec } from './rule.ts'
import { hasTemplate } from './template.ts'
import type { Section, Vocabulary } from './types.ts'

/** A rule that can never fire. `path` leads to it from the spec. */
export interface DeadRule {
  readonly kind: 'role' | 'guardrail'
  readonly name: string
  readonly path: readonly (string | number)[]
  readonly message: string
}

/**
 * Rules that can never fire: an empty list, hours that never come, or a deny without conditions over them. Says nothing about
 * what it is not sure of, and nothing about documents that are not valid.
 */
export function deadRules(documents: PolicyDocuments, vocabularies: readonly Vocabulary[]): DeadRule[] {
  const dead: DeadRule[] = []
  const guards = documents.guardrails.flatMap(({ name, spec }) => {
    const parsed = parseGuardrail(name, spec, vocabularies)
    return 'problems' in parsed ? [] : [{ name, rules: parsed.rules }]
  })
  for (const { name, rules } of guards) {
    for (const section of ['deny', 'ask', 'limit'] as const satisfies readonly GuardrailSection[]) {
      for (const rule of rules[section]) {
        const why = emptiness(rule)
        if (why) dead.push({ kind: 'guardrail', name, path: [section, rule.ref.index], message: why })
      }
    }
  }
  const overAll = guards.flatMap(({ rules }) => rules.deny).filter((rule) => rule.holds === undefined)
  for (const { name, spec } of documents.roles) {
    const parsed = parseRole(name, spec, vocabularies)
    if ('problems' in parsed) continue
    if (parsed.when?.never) {
      dead.push({ kind: 'role', name, path: ['when'], message: 'The role never counts: `when` names no day.' })
      continue
    }
    const { allow, ask, deny } = parsed.rules
    const check = (section: Section, rule: Rule, stronger: readonly Rule[]) => {
      const shadow = stronger.find((deny) => covers(deny, rule))
      const why = emptiness(rule) ?? (shadow && `It never fires: ${shadow.title} covers all of it.`)
      if (why) dead.push({ kind: 'role', name, path: [section, rule.ref.index], message: why })
    }
    for (const rule of deny) check('deny', rule, [])
    for (const rule of ask) check('ask', rule, [...deny, ...overAll])
    for (const rule of allow) check('allow', rule, [...deny, ...overAll])
  }
  return dead
}

/** Empty means none, everywhere. Of the fields that say what may be done a vocabulary takes any one, so all of them must be empty. */
function emptiness({ spec, vocabulary }: Rule): string | undefined {
  const written = Object.keys(spec).filter((key) => !Object.hasOwn(vocabulary.obligations, key))
  const what = written.filter((key) => vocabulary.what.includes(key))
  const empty = written.find((key) => !what.includes(key) && isEmpty(spec[key])) ?? (what.every((key) => isEmpty(spec[key])) ? what[0] : undefined)
  return empty === undefined ? undefined : `It gives and takes nothing: \`${empty}\` has an empty list, which means none.`
}

function isEmpty(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0
  return typeof value === 'object' && value !== null && Object.values(value).some(isEmpty)
}

/** Whether `deny` has no condition but its selector, and that takes in all that `rule` can be about. */
function covers(deny: Rule, rule: Rule): boolean {
  const { kind } = rule.vocabulary
  if (deny.vocabulary.kind !== kind || Object.keys(deny.spec).some((key) => key !== kind && key !== 'reason')) return false
  return selectsAll(deny.spec, rule.spec, kind)
}

function selectsAll(wide: RuleSpec, narrow: RuleSpec, kind: string): boolean {
  const a = wide[kind]
  const b = narrow[kind]
  if (a === 'any') return true
  if (canonicalJson(a) === canonicalJson(b)) return true
  const names = (value: unknown) => (typeof value === 'string' ? [value] : Array.isArray(value) ? (value as string[]) : undefined)
  const wideNames = names(a)
  const narrowNames = names(b)
  if (!wideNames || !narrowNames || narrowNames.includes('any')) return false
  return narrowNames.every((name) => !hasTemplate(name) && wideNames.some((pattern) => patternCovers(pattern, name)))
}

function patternCovers(pattern: string, name: string): boolean {
  if (hasTemplate(pattern)) return false
  if (pattern === name) return true
  // A glob as text matches a wider glob exactly when the stars of that cover it, for patterns without `?`.
  return isGlob(pattern) && !pattern.includes('?') && compileGlob(pattern)(name)
}
