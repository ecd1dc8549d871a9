import type { Policy } from './compile.ts'
import { type Judgement, judgeLink, rolesOf } from './judge.ts'
import { candidates, matches, scopeOf } from './match.ts'
import type { Rule } from './rule.ts'
import type { Decision, Question, Verdict } from './types.ts'

const ORDER: Readonly<Record<Verdict, number>> = { allow: 0, ask: 1, deny: 2 }

/**
 * What rules in shadow mode would have made of the verdict, had they counted: the same question to the policy in which they do.
 * Only what would have been tighter: a rule in the shadow gives nothing, so it cannot loosen either.
 */
export function shadowOf(enforced: Policy, question: Question, verdict: Verdict): Decision['shadow'] {
  const vocabulary = enforced.vocabularies.get(question.action.kind)
  if (verdict === 'deny' || !vocabulary) return undefined
  let found: { readonly verdict: 'deny' | 'ask'; readonly rule: Rule } | undefined
  for (const link of question.links) {
    const judged = judgeLink(enforced, vocabulary, question, link)
    if (judged.verdict === 'allow' || ORDER[judged.verdict] <= ORDER[found?.verdict ?? verdict]) continue
    const rule = casting(enforced, question, judged)
    if (rule) found = { verdict: judged.verdict, rule }
  }
  return found && { verdict: found.verdict, rule: found.rule.ref }
}

/** The rule in the shadow by which it became so: a rule that counts may be named before it, and changed nothing. */
function casting(enforced: Policy, question: Question, { link, verdict, rule }: Judgement): Rule | undefined {
  if (rule?.shadow) return rule
  const section = verdict === 'deny' ? 'deny' : 'ask'
  const { action, now } = question
  const roles = rolesOf(enforced, link, now, action.resource.id).filter((role) => role.when?.at(now).active !== false)
  const tables = [...roles.map((role) => role.kinds.get(action.kind)), enforced.guardrails.get(action.kind)]
  return tables
    .flatMap((table) => (table ? candidates(table[section], action.resource.name) : []))
    .find((each) => each.shadow && matches(each, scopeOf(question, link)) !== false)
}
