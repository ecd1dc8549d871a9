import { createHash } from 'node:crypto'
import { z } from 'zod'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { parseDuration } from '../encoding/duration.ts'
import { approversSchema, durationSchema, escalateSchema, reasonSchema, type Terms, termsOf } from './approval.ts'
import { didYouMean, problemOfError, problemsOf, type SpecProblem } from './problem.ts'
import { ruleTitle } from './rule-title.ts'
import { compileSelector, type Selector, type SelectorSpec, selectorSchema } from './selector.ts'
import { readsSession } from './template.ts'
import type { Identity, Matcher, Obligations, RuleRef, Variables, Vocabulary } from './types.ts'
import { compileWhere, type Where } from './where.ts'

/** A rule as written. */
export type RuleSpec = Readonly<Record<string, unknown>>

/** A rule, ready to be asked. */
export interface Rule {
  readonly ref: RuleRef
  /** `role analyst, deny rule 1`: counts from 1, for people. */
  readonly title: string
  readonly spec: RuleSpec
  readonly vocabulary: Vocabulary
  readonly selector: Selector
  readonly matches: Matcher
  /** Of a role's ask rule: what it would match if it were an allow rule. */
  readonly wayIn: Matcher | undefined
  readonly where: Where | undefined
  /** Absent when the rule binds to nothing. */
  readonly obligations: Obligations | undefined
  /** deny: why, for the person */
  readonly reason: string | undefined
  /** ask: who may say yes, and how it is asked */
  readonly asking: (Terms & { readonly expiresMs?: number }) | undefined
  /** It decides nothing: what it would have done is recorded. */
  readonly shadow: boolean
  readonly readsTimeOrSession: boolean
  /** Guardrails only: whom it holds; absent: everybody. */
  readonly holds?: Holds | undefined
}

/** Whether a guardrail holds this identity. */
export type Holds = (identity: Identity, variables: Variables) => boolean

export type Place = Pick<RuleRef, 'kind' | 'document' | 'section' | 'index'>

const whereSchema = z.string().min(1).describe('CEL over identity, resource, args, session and time')

/** Making a schema takes far longer than using one, and a policy has hundreds of rules of few kinds. */
const schemas = new WeakMap<Vocabulary, Partial<Record<RuleRef['section'], z.ZodObject>>>()

/** The shape of one rule about the vocabulary's kind. */
export function ruleSchema(vocabulary: Vocabulary, section: RuleRef['section']): z.ZodObject {
  const known = schemas.get(vocabulary) ?? {}
  schemas.set(vocabulary, known)
  known[section] ??= makeSchema(vocabulary, section)
  return known[section]
}

function makeSchema(vocabulary: Vocabulary, section: RuleRef['section']): z.ZodObject {
  const own: Record<string, z.ZodType> = { [vocabulary.kind]: selectorSchema, where: whereSchema.optional() }
  if (section === 'ask') {
    own.approvers = approversSchema.optional().describe('who may say yes; default: whoever may approve here')
    own.reason = reasonSchema.optional().describe('whether the one who asks must say why: required, optional, or { pattern: OPS-\\d+ }')
    own.escalate = escalateSchema.optional().describe('who may say yes as well when nobody answers')
    own.expires = durationSchema.optional().describe('how long the question stays open, and then the yes; default: 60m, and 15m')
  }
  if (section === 'ask' || section === 'deny')
    own.shadow = z.literal(true).optional().describe('it decides nothing: what it would have refused or asked is recorded')
  if (section === 'deny') own.reason = z.string().min(1).max(500).optional().describe('why; shown to whoever is refused')
  return vocabulary.fields.safeExtend(own).strict() as z.ZodObject
}

/**
 * A rule checked against the vocabulary that it names and compiled, or everything that is wrong with it. Rules of a
 * guardrail are compiled as deny rules are: what they leave out means everything, and an error in them matches.
 */
export function compileRule(
  spec: unknown,
  place: Place,
  vocabularies: readonly Vocabulary[],
  path: readonly (string | number)[],
): { readonly rule: Rule } | { readonly problems: readonly SpecProblem[] } {
  if (typeof spec !== 'object' || spec === null || Array.isArray(spec)) return { problems: [{ path, message: 'A rule is a mapping.' }] }
  const kinds = vocabularies.map((vocabulary) => vocabulary.kind)
  const [vocabulary, second] = vocabularies.filter(({ kind }) => Object.hasOwn(spec, kind))
  if (!vocabulary) {
    const first = Object.keys(spec)[0]
    const fix = first === undefined ? {} : didYouMean(first, kinds)
    return { problems: [{ path, message: `A rule names what it is about: one of ${kinds.join(', ')}.`, ...fix }] }
  }
  if (second)
    return {
      problems: [{ path: [...path, second.kind], message: `A rule is about one kind, and this is about ${vocabulary.kind} and ${second.kind}.` }],
    }

  const schema = ruleSchema(vocabulary, place.section)
  const parsed = schema.safeParse(spec)
  if (!parsed.success) return { problems: problemsOf(parsed.error, schema, path) }
  const { [vocabulary.kind]: selected, where: expression, approvers, reason, escalate, expires, shadow, ...fields } = parsed.data
  const problems = [...missingWhat(spec, place, vocabulary, path), ...oddObligations(spec, place, vocabulary, path)]

  const attempt = <T>(at: readonly (string | number)[], compile: () => T): T | undefined => {
    try {
      return compile()
    } catch (error) {
      problems.push(problemOfError(error, at))
      return undefined
    }
  }
  const strict = place.kind === 'guardrail' || place.section === 'limit' ? 'deny' : place.section
  const selector = attempt([...path, vocabulary.kind], () => compileSelector(selected as SelectorSpec))
  const matches = attempt(path, () => vocabulary.compile(fields, strict))
  const opens = vocabulary.opens !== undefined && place.kind === 'role' && place.section === 'ask'
  const wayIn = opens ? attempt(path, () => vocabulary.compile(fields, 'allow')) : undefined
  const where = expression === undefined ? undefined : attempt([...path, 'where'], () => compileWhere(expression as string))
  const asking = place.section === 'ask' ? attempt([...path, 'reason'], () => askingOf({ approvers, reason, escalate, expires })) : undefined
  if (problems.length > 0 || !selector || !matches) return { problems }

  const ref = { ...place, digest: digestOf(spec) }
  const obligations: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(fields)) {
    if (!Object.hasOwn(vocabulary.obligations, key) || value === undefined) continue
    const { ofRule } = vocabulary.obligations[key]!
    obligations[key] = ofRule ? ofRule(value, ref, digestOf([place.kind, place.document, place.section, { ...spec, [key]: null }])) : value
  }
  return {
    rule: {
      ref,
      title: ruleTitle(place),
      spec: spec as RuleSpec,
      vocabulary,
      selector,
      matches,
      wayIn,
      where,
      obligations: Object.keys(obligations).length > 0 ? obligations : undefined,
      reason: place.section === 'deny' ? (reason as string | undefined) : undefined,
      asking,
      shadow: shadow === true,
      readsTimeOrSession: selector.readsSession || where?.readsTimeOrSession === true || readsSession(JSON.stringify(fields)),
    },
  }
}

/** Their schemas have seen them. */
function askingOf({ approvers, reason, escalate, expires }: Readonly<Record<string, unknown>>): Rule['asking'] {
  const terms = termsOf({ approvers, reason, escalate } as Parameters<typeof termsOf>[0])
  return expires === undefined ? terms : { ...terms, expiresMs: parseDuration(expires as string) }
}

const digestOf = (value: unknown) => createHash('sha256').update(canonicalJson(value)).digest('hex')

/** What may be done is never implied (design 4, Selectors). */
function missingWhat(spec: object, place: Place, { what, kind }: Vocabulary, path: readonly (string | number)[]): SpecProblem[] {
  if (place.kind === 'guardrail' || place.section === 'deny' || what.length === 0 || what.some((key) => Object.hasOwn(spec, key))) return []
  return [
    {
      path,
      message: `This ${place.section} rule does not say what may be done with ${kind}.`,
      fix: `Write ${what.join(' or ')}; any means everything.`,
    },
  ]
}

/** An obligation on what is refused would never be kept, and a limit without one would do nothing (peers R23). */
function oddObligations(spec: object, place: Place, vocabulary: Vocabulary, path: readonly (string | number)[]): SpecProblem[] {
  const all = Object.keys(vocabulary.obligations)
  const written = all.filter((key) => Object.hasOwn(spec, key))
  if (place.section === 'deny') return written.map((key) => ({ path: [...path, key], message: `\`${key}\` has no meaning in a deny rule.` }))
  if (place.section === 'limit' && written.length === 0) {
    return [
      {
        path,
        message: 'This limit rule limits nothing.',
        fix: all.length > 0 ? `Write ${all.join(' or ')}.` : `Nothing of ${vocabulary.kind} can be limited.`,
      },
    ]
  }
  return []
}
