import type { Policy, RuleList } from './compile.ts'
import { rolesOf } from './judge.ts'
import { candidates, matches, type Scope, scopeOf } from './match.ts'
import type { Rule } from './rule.ts'
import type { Question } from './types.ts'

/**
 * What rules and guardrails could demand under `name` of something like this, whatever the verdict: for fences that must stand
 * before it is known what will be asked. Rather too much than too little: roles outside their hours, and rules whose `where`
 * reads what is not known yet, count too.
 */
export function demandsOf(policy: Policy, question: Question, name: string): readonly unknown[] {
  const found: unknown[] = []
  const { kind, resource } = question.action
  for (const link of question.links) {
    const scope = scopeOf(question, link)
    const add = (list: RuleList | undefined) => {
      if (!list) return
      for (const rule of candidates(list, resource.name)) {
        const demand = rule.obligations?.[name]
        if (demand !== undefined && couldMatch(rule, scope)) found.push(demand)
      }
    }
    for (const role of rolesOf(policy, link, question.now, resource.id)) {
      add(role.kinds.get(kind)?.allow)
      add(role.kinds.get(kind)?.ask)
    }
    const guards = policy.guardrails.get(kind)
    add(guards?.ask)
    add(guards?.limit)
  }
  return found
}

const couldMatch = (rule: Rule, scope: Scope): boolean => matches(rule.where?.readsArgs ? { ...rule, where: undefined } : rule, scope) !== false
