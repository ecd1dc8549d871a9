import type { PolicyDocuments } from './compile.ts'
import { GUARDRAIL_SECTIONS, parseGuardrail } from './guardrail.ts'
import { parseRole } from './role.ts'
import type { Rule } from './rule.ts'
import { hasTemplate } from './template.ts'
import type { Misfit, Offer, Variables, Vocabulary } from './types.ts'

/** A condition of a rule that does not fit what resources offer. `path` leads to it from the spec. */
export interface RuleMisfit extends Misfit {
  readonly kind: 'role' | 'guardrail'
  readonly name: string
  /** ids of the resources that its rule selects */
  readonly selects: readonly string[]
}

/** Nobody: selectors without templates read nothing of him. */
const NOBODY: Variables = {
  identity: { id: '', kind: 'user', name: '', traits: {}, roles: [] },
  session: { id: '', startedAt: 0, how: '' },
  now: 0,
}

/**
 * Conditions that can never hold for what is known of the resources (peers R27: a rule on something that is not there
 * compiles, and silently refuses or lets through everything). Says nothing about rules whose resources depend on who
 * asks, and nothing about documents that are not valid.
 */
export function misfits(documents: PolicyDocuments, vocabularies: readonly Vocabulary[], offers: readonly Offer[]): RuleMisfit[] {
  const found: RuleMisfit[] = []
  const check = (kind: RuleMisfit['kind'], name: string, rule: Rule) => {
    const { vocabulary, spec, selector, where, ref } = rule
    if (!vocabulary.misfits || hasTemplate(JSON.stringify(spec[vocabulary.kind]))) return
    const selected = offers.filter(({ resource }) => resource.kind === vocabulary.kind && selector.selects(resource, NOBODY))
    for (const misfit of vocabulary.misfits({ section: ref.section, fields: spec, reads: where?.reads ?? [] }, selected))
      found.push({ ...misfit, kind, name, path: [ref.section, ref.index, ...misfit.path], selects: selected.map(({ resource }) => resource.id) })
  }
  for (const { name, spec } of documents.roles) {
    const parsed = parseRole(name, spec, vocabularies)
    if ('problems' in parsed) continue
    for (const section of ['allow', 'ask', 'deny'] as const) for (const rule of parsed.rules[section]) check('role', name, rule)
  }
  for (const { name, spec } of documents.guardrails) {
    const parsed = parseGuardrail(name, spec, vocabularies)
    if ('problems' in parsed) continue
    for (const section of GUARDRAIL_SECTIONS) for (const rule of parsed.rules[section]) check('guardrail', name, rule)
  }
  return found
}
