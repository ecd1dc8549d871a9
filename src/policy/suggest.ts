import { canonicalJson } from '../encoding/canonical-json.ts'
import { ChaperoneError } from '../errors.ts'
import { compilePolicy } from './compile.ts'
import { decide } from './decide.ts'
import type { RuleSpec } from './rule.ts'
import type { Action, Identity, Question, Vocabulary } from './types.ts'

/** What somebody did, and whether a human said yes to it. */
export interface Deed {
  readonly action: Action
  readonly asked: boolean
}

export interface Suggestion {
  readonly spec: { readonly allow?: readonly RuleSpec[]; readonly ask?: readonly RuleSpec[] }
  /** how many of the deeds it allows or asks for; what was done with and without a human's yes is asked for */
  readonly covered: number
  /** what no rule of its own could be drafted for, once each */
  readonly left: readonly string[]
}

/** A rule, and what it was drafted for. */
interface Drafted {
  readonly rule: RuleSpec
  readonly actions: Action[]
}

const NAME = 'suggested'

/**
 * The narrowest role under which all of this could be done again. For each deed the narrowest rule that the vocabulary drafts and
 * that, alone, gives it; rules that differ in one list alone become one. The result is judged against every deed: what two rules
 * allow one by one they must allow together as well, or they stay two. Pure.
 */
export function suggestRole(vocabularies: readonly Vocabulary[], deeds: readonly Deed[]): Suggestion {
  const rules = { allow: new Map<string, Drafted>(), ask: new Map<string, Drafted>() }
  const left = new Set<string>()
  for (const { action, asked } of deeds) {
    const vocabulary = vocabularies.find(({ kind }) => kind === action.kind)
    const drafts = vocabulary?.propose?.(action, 'allow') ?? []
    const rule = drafts
      .map((fields): RuleSpec => ({ [action.kind]: action.resource.name, ...fields }))
      .find((draft) => judgeOf(vocabularies, [draft])?.(action) === true)
    if (rule) {
      const section = rules[asked ? 'ask' : 'allow']
      const key = canonicalJson(rule)
      const drafted = section.get(key)
      if (drafted) drafted.actions.push(action)
      else section.set(key, { rule, actions: [action] })
    } else left.add(`${action.summary} on ${action.kind}/${action.resource.name}`)
  }
  /** Joined, unless something that the rules gave one by one would be lost. */
  const narrow = (section: 'allow' | 'ask') => {
    const each = [...rules[section]]
      .sort(([a, one], [b, other]) => (aboutOf(one.rule) + a < aboutOf(other.rule) + b ? -1 : 1))
      .map(([, { rule }]) => rule)
    const wide = joined(each)
    if (wide.length === each.length) return each
    const [before, after] = [judgeOf(vocabularies, each), judgeOf(vocabularies, wide)]
    return deeds.every(({ action }) => before?.(action) !== true || after?.(action) === true) ? wide : each
  }
  const ask = narrow('ask')
  // What was done with and without a human's yes is asked for: a rule that allows it as well would say what does not hold.
  const asks = judgeOf(vocabularies, ask)
  for (const [key, { actions }] of rules.allow) if (actions.every((action) => asks?.(action) === true)) rules.allow.delete(key)
  const allow = narrow('allow')
  const spec = { ...(allow.length > 0 ? { allow } : {}), ...(ask.length > 0 ? { ask } : {}) }
  const policy = compilePolicy({ roles: [{ name: NAME, spec }], guardrails: [] }, vocabularies)
  const covered = deeds.filter(({ action }) => decide(policy, questionOf(action)).verdict !== 'deny').length
  return { spec, covered, left: [...left].sort() }
}

/** The kind and resource of a rule: those of one stand together. */
const aboutOf = (rule: RuleSpec) => `${Object.entries(rule)[0]?.join(' ') ?? ''} `

/** Whether these rules alone allow an action; undefined when they are none. */
function judgeOf(vocabularies: readonly Vocabulary[], allow: readonly RuleSpec[]): ((action: Action) => boolean) | undefined {
  try {
    const policy = compilePolicy({ roles: [{ name: NAME, spec: { allow } }], guardrails: [] }, vocabularies)
    return (action) => decide(policy, questionOf(action)).verdict === 'allow'
  } catch (error) {
    if (error instanceof ChaperoneError && error.code === 'invalid_document') return undefined
    throw error
  }
}

/** Somebody with this role and nothing else; drafts have no conditions on who asks, or when. */
const SOMEBODY: Identity = { id: 'usr_somebody', kind: 'user', name: 'somebody', traits: {}, roles: [NAME] }
const questionOf = (action: Action): Question => ({
  links: [{ identity: SOMEBODY }],
  action,
  now: 0,
  session: { id: 'ses_suggest', startedAt: 0, how: 'login' },
})

/** Joins rules that are the same but for one list, again and again. Only lists: two conditions on arguments are never made one. */
function joined(rules: readonly RuleSpec[]): readonly RuleSpec[] {
  let now = rules
  for (const key of new Set(rules.flatMap((rule) => Object.keys(rule).filter((each) => Array.isArray(rule[each]))))) {
    const groups = Map.groupBy(now, (rule) => (Array.isArray(rule[key]) ? canonicalJson({ ...rule, [key]: null }) : canonicalJson(rule)))
    now = [...groups.values()].map((group) => {
      if (group.length === 1) return group[0]!
      return { ...group[0]!, [key]: [...new Set(group.flatMap((rule) => rule[key] as readonly unknown[]))].sort() }
    })
  }
  return now
}
