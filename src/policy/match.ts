import type { RuleList } from './compile.ts'
import type { Rule } from './rule.ts'
import type { Link, Question, Variables } from './types.ts'
import { type WhereScope, whereScope } from './where.ts'

/** One link's view of a question, while it is decided. */
export interface Scope {
  readonly question: Question
  readonly variables: Variables
  /** made when the first `where` is met */
  where: WhereScope | undefined
  /** rules that failed, for the log */
  failures: string[] | undefined
}

export function scopeOf(question: Question, link: Link): Scope {
  return { question, variables: { identity: link.identity, session: question.session, now: question.now }, where: undefined, failures: undefined }
}

/** The most that one decision keeps for the log. */
const MOST_FAILURES = 5

/**
 * Whether the rule speaks of this action; `undefined` when it failed. Then it counts as no match in allow, and as a match
 * wherever a match can only tighten (rule 1): callers compare with `=== true` or `!== false`.
 */
export function matches(rule: Rule, scope: Scope): boolean | undefined {
  const { action } = scope.question
  try {
    if (rule.holds !== undefined && !rule.holds(scope.variables.identity, scope.variables)) return false
    if (!rule.selector.selects(action.resource, scope.variables) || !rule.matches(action, scope.variables)) return false
    if (rule.where === undefined) return true
    if (action.partial && rule.where.readsArgs) return rule.ref.section === 'allow'
    return rule.where.test(whereOf(rule, scope))
  } catch (error) {
    scope.failures ??= []
    if (scope.failures.length < MOST_FAILURES) scope.failures.push(`${rule.title}: ${error instanceof Error ? error.message : String(error)}`)
    return undefined
  }
}

/** Whether an ask rule lets its holder come to where he can be asked about. A condition on arguments may still be fulfilled there. */
export function opensWay({ wayIn, ...rule }: Rule, scope: Scope): boolean {
  if (!wayIn || rule.shadow) return false
  return matches({ ...rule, wayIn, matches: wayIn, ref: { ...rule.ref, section: 'allow' } }, scope) === true
}

export function whereOf(rule: Rule, scope: Scope): WhereScope {
  const { question, variables } = scope
  scope.where ??= whereScope(question, variables.identity, rule.vocabulary.variables?.(question.action) ?? {})
  return scope.where
}

/** The rules of a list that can be about this resource, in the order they were written. */
export function candidates(list: RuleList, name: string): readonly Rule[] {
  return list.byName.get(name) ?? list.others
}
