import { stringify } from 'yaml'
import { ChaperoneError } from '../errors.ts'
import { compilePolicy, type Policy, type PolicyDocuments } from './compile.ts'
import { decide, judgeChain } from './decide.ts'
import type { Judgement } from './judge.ts'
import type { RuleSpec } from './rule.ts'
import { ruleTitle } from './rule-title.ts'
import type { Action, Decision, Identity, Link, Question, Vocabulary } from './types.ts'

export interface Proposal {
  /** by the rules of today */
  readonly now: Decision
  readonly draft?: Draft
  /** with the draft */
  readonly withDraft?: Decision
  /** One sentence: what the draft does, or why none would help. */
  readonly message: string
}

/** One rule, and where it would stand. */
export interface Draft {
  readonly kind: 'role' | 'guardrail'
  readonly document: string
  /** It does not exist yet; a new role has to be given to these identities. */
  readonly isNew: boolean
  readonly givenTo: readonly string[]
  readonly section: 'allow' | 'deny'
  readonly rule: RuleSpec
  /** The rule as it could stand in its section. */
  readonly yaml: string
}

export interface Wish {
  readonly want: 'allow' | 'deny'
  /** Into this role; it may be a new one. Default: the one that lies nearest. */
  readonly role?: string
  /** A refusal for everybody, in a guardrail of this name. */
  readonly guardrail?: string
}

/**
 * The rule that would have allowed, or refused, an action. Nothing is taken on trust: each draft is compiled, put into a
 * copy of the policy, and the action is judged again; only a draft that does what is wanted is given. Pure.
 */
export function proposeRule(documents: PolicyDocuments, vocabularies: readonly Vocabulary[], question: Question, wish: Wish): Proposal {
  const policy = compilePolicy(documents, vocabularies)
  const now = decide(policy, question)
  const vocabulary = policy.vocabularies.get(question.action.kind)
  const judgements = now.reason === 'policy_error' ? undefined : judgeChain(policy, question)
  const why = whyNone(question.action, wish, now, vocabulary)
  if (why !== undefined || !vocabulary || !judgements) return { now, message: why ?? now.message }
  const drafts = vocabulary.propose?.(question.action, wish.want) ?? []
  const places = placesOf(policy, documents, judgements, question, wish, now)
  let last: Decision | undefined
  for (const place of places) {
    for (const fields of drafts) {
      const rule = { [question.action.kind]: question.action.resource.name, ...fields }
      const then = judgedWith(documents, vocabularies, question, place, wish.want, rule)
      last = then ?? last
      if (then?.verdict !== wish.want) continue
      return { now, withDraft: then, draft: { ...place, section: wish.want, rule, yaml: stringify([rule]).trim() }, message: told(wish, place, then) }
    }
  }
  const still = last === undefined ? '' : ` Still: ${last.message}`
  return { now, message: `No rule was found that would ${wish.want === 'allow' ? 'allow' : 'refuse'} it.${still}` }
}

/** What stands above every role, so that no draft can help. */
function whyNone(action: Action, { want }: Wish, now: Decision, vocabulary: Vocabulary | undefined): string | undefined {
  if (!vocabulary) return `Nothing here speaks ${action.kind}, so nothing of it can be allowed.`
  if (action.unclear !== undefined) return `No rule can allow it, because what it does cannot be known for sure: ${action.unclear}.`
  const by = now.rule && ruleTitle(now.rule)
  if (want === 'deny') {
    if (now.verdict !== 'deny') return undefined
    return by === undefined
      ? 'By the rules of today it is refused already: no rule allows it.'
      : `By the rules of today it is refused already, by ${by}.`
  }
  if (now.verdict === 'allow') return `By the rules of today it is allowed already, by ${by}.`
  if (now.reason === 'denied_by_guardrail') return `No role can allow it: ${by} refuses it to everybody whom it holds.`
  if (now.reason === 'denied_by_rule') return `A further rule cannot allow it: ${by} refuses it, and a refusal stands above what roles allow.`
  if (now.reason === 'approval_required' && now.rule?.kind === 'guardrail') return `No role can lift it: ${by} wants a human to say yes.`
  return undefined
}

type PlaceOfDraft = Pick<Draft, 'kind' | 'document' | 'isNew' | 'givenTo'>

function placesOf(
  policy: Policy,
  documents: PolicyDocuments,
  judgements: readonly Judgement[],
  question: Question,
  wish: Wish,
  now: Decision,
): readonly PlaceOfDraft[] {
  if (wish.guardrail !== undefined) {
    if (wish.want === 'allow') throw new ChaperoneError('usage', 'A guardrail can only refuse.')
    return [{ kind: 'guardrail', document: wish.guardrail, isNew: !documents.guardrails.some(({ name }) => name === wish.guardrail), givenTo: [] }]
  }
  const lacking = wish.want === 'deny' ? judgements.slice(-1) : judgements.filter(({ verdict }) => verdict !== 'allow')
  const links = lacking.map(({ link }) => link)
  const held = (name: string) => links.every((link) => link.identity.roles.includes(name))
  const role = (document: string): PlaceOfDraft => ({
    kind: 'role',
    document,
    isNew: !policy.roles.has(document),
    givenTo: links.filter((link) => !link.identity.roles.includes(document)).map(({ identity }) => identity.name),
  })
  if (wish.role !== undefined) return [role(wish.role)]
  const fresh = role(freshName(policy, links, question.action))
  if (wish.want === 'deny') return now.rule?.kind === 'role' && held(now.rule.document) ? [role(now.rule.document), fresh] : [fresh]
  // Into the role that already speaks of this resource; its `ask` beside the draft would still win, so a new one comes after.
  const speaking = links[0]!.identity.roles.filter((name) => held(name) && speaks(policy, name, question, links[0]!))
  return [...speaking.map(role), fresh]
}

function speaks(policy: Policy, name: string, { action, session, now }: Question, { identity }: Link): boolean {
  const table = policy.roles.get(name)?.kinds.get(action.kind)
  const rules = table ? [...table.allow.all, ...table.ask.all] : []
  return rules.some(({ selector }) => selector.selects(action.resource, { identity, session, now }))
}

/** A name that no role has. */
function freshName(policy: Policy, links: readonly Link[], { resource }: Action): string {
  const whose = links.at(-1)!.identity.name
  const base = `${whose}-${resource.name}`.replace(/[^A-Za-z0-9-]+/g, '-').slice(0, 50)
  for (let n = 1; ; n++) {
    const name = n === 1 ? base : `${base}-${n}`
    if (!policy.roles.has(name)) return name
  }
}

/** The decision with the rule in its place; undefined when the rule is none. */
function judgedWith(
  documents: PolicyDocuments,
  vocabularies: readonly Vocabulary[],
  question: Question,
  { kind, document, givenTo }: PlaceOfDraft,
  section: 'allow' | 'deny',
  rule: RuleSpec,
): Decision | undefined {
  const list = kind === 'guardrail' ? documents.guardrails : documents.roles
  const before = list.find(({ name }) => name === document)?.spec as Readonly<Record<string, readonly unknown[]>> | undefined
  const spec = { ...before, [section]: [...(before?.[section] ?? []), rule] }
  const changed = [...list.filter(({ name }) => name !== document), { name: document, spec }]
  const given = (identity: Identity): Identity => (givenTo.includes(identity.name) ? { ...identity, roles: [...identity.roles, document] } : identity)
  const links = question.links.map((link) => ({ ...link, identity: given(link.identity) }))
  try {
    const policy = compilePolicy({ ...documents, ...(kind === 'guardrail' ? { guardrails: changed } : { roles: changed }) }, vocabularies)
    return decide(policy, { ...question, links })
  } catch (error) {
    if (error instanceof ChaperoneError && error.code === 'invalid_document') return undefined
    throw error
  }
}

function told({ want }: Wish, { kind, document, isNew, givenTo }: PlaceOfDraft, then: Decision): string {
  const what = want === 'allow' ? 'allowed' : 'refused'
  const where = `${isNew ? 'a new ' : ''}${kind} ${document}`
  const given = givenTo.length > 0 ? `, given to ${givenTo.join(' and ')}` : ''
  const bound = Object.keys(then.obligations).length > 0 ? `, bound to ${Object.keys(then.obligations).join(', ')}` : ''
  return `With this rule in ${where}${given}, it would have been ${what}${bound}.`
}
