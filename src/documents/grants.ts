import { type Verb, verbsNamed } from '../access/administration.ts'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { isRecord } from './read.ts'
import type { Path } from './types.ts'

/** A rule of a role or guardrail that speaks of Chaperone itself, and the verbs it names. */
export interface VerbRule {
  readonly path: Path
  readonly verbs: readonly Verb[]
  /** the rule with everything that narrows it (`when` of the role, `for` of the guardrail); equal text means equal effect */
  readonly text: string
  readonly conditional: boolean
}

/** The rules of one section that name the kind `chaperone`. In deny, what is omitted means everything. */
export function verbRules(spec: Readonly<Record<string, unknown>>, section: 'allow' | 'ask' | 'deny'): readonly VerbRule[] {
  const rules = spec[section]
  if (!Array.isArray(rules)) return []
  return rules.flatMap((rule, index): VerbRule[] => {
    if (!isRecord(rule) || !('chaperone' in rule)) return []
    return [
      {
        path: ['spec', section, index],
        verbs: verbsNamed(rule.verbs),
        text: canonicalJson({ rule, when: spec.when ?? null, for: spec.for ?? null }),
        conditional: rule.where !== undefined,
      },
    ]
  })
}

/** The verbs that a role can give at all, whatever its conditions: an upper bound, which is what a granter must hold. */
export function verbsOfRole(spec: Readonly<Record<string, unknown>>): ReadonlySet<Verb> {
  return new Set([...verbRules(spec, 'allow'), ...verbRules(spec, 'ask')].flatMap((rule) => rule.verbs))
}

/** The verbs that an identity with these roles can have at all. `specOf` gives a role's spec; an unknown role gives nothing. */
export function verbsOfRoles(roles: readonly string[], specOf: (role: string) => Readonly<Record<string, unknown>> | undefined): ReadonlySet<Verb> {
  return new Set(roles.flatMap((role) => [...verbsOfRole(specOf(role) ?? {})]))
}
