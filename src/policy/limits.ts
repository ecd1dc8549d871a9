import { z } from 'zod'
import { parseDuration } from '../encoding/duration.ts'
import { ruleTitle } from './rule-title.ts'
import type { Identity, ObligationMerge, Obligations, RuleRef } from './types.ts'

/** What is counted together: each identity on each resource, all identities on a resource, each identity and item (tool) of it. */
type Per = 'identity' | 'resource' | 'item'

/** One demand of a `limits:` field. Several hold side by side: each has a count of its own. */
export interface Limit {
  /** `rate`: so many in a while, and so many at once; `budget`: so many in a while, kept in the store; `concurrent`: so many at the same time */
  readonly kind: 'rate' | 'budget' | 'concurrent'
  /** for people: `rate 60/1m per tool` */
  readonly text: string
  readonly most: number
  /** ms; 0 for `concurrent` */
  readonly window: number
  readonly per: Per
  readonly rule: RuleRef
  /**
   * sha256 (hex) of the rule without its limits. Rules about other tools have other counts; a limit that is raised or
   * lowered does not begin anew with nothing used.
   */
  readonly counter: string
  /** whom it binds; absent until it is judged for a link */
  readonly identity?: Pick<Identity, 'id' | 'name'>
}

const MOST_COUNT = 1_000_000
/** A rate is kept in memory: over longer times a restart would give it back. */
const LONGEST_RATE_MS = 3_600_000
/** A budget costs a write for each call. */
const SHORTEST_BUDGET_MS = 60_000

interface Speed {
  readonly most: number
  readonly window: number
}

/** `60/1m`: how many, in which time. */
function speedOf(text: string): Speed | undefined {
  const [, count = '', time = ''] = /^([1-9]\d{0,6})\/([0-9dhms]+)$/.exec(text) ?? []
  try {
    const speed = { most: Number(count), window: parseDuration(time) }
    return speed.most <= MOST_COUNT ? speed : undefined
  } catch {
    return undefined
  }
}

const FORM = `write how many and in which time, such as 60/1m or 1000/1d; at most ${MOST_COUNT}`

const speed = (holds: (window: number) => boolean, otherwise: string) =>
  z
    .string({ error: FORM })
    .refine((text) => speedOf(text) !== undefined, { message: FORM, abort: true })
    .refine((text) => holds(speedOf(text)?.window ?? 0), otherwise)

interface LimitsSpec {
  readonly rate?: string
  readonly concurrent?: number
  readonly budget?: string
  readonly per?: string
}

/**
 * The obligation `limits: { rate: 60/1m, concurrent: 4, budget: 1000/1d, per: tool }`, for every vocabulary that has a word
 * for a resource of its own (`server`) and for what is used of one (`tool`).
 *
 * Among the rules of one identity the least binding holds, for each of the three by itself: the one that allows more in the
 * same time, counted as its own rule says. Guardrails and chain links add theirs, each with a count of its own.
 */
export function limitsWords(resource: string, item: string): { readonly schema: z.ZodType; readonly merge: ObligationMerge } {
  const schema = z
    .strictObject({
      rate: speed((window) => window <= LONGEST_RATE_MS, 'a rate is over at most an hour; write a budget')
        .optional()
        .describe('so many in a while, for example 60/1m: that many at once, then one whenever its share of the time has passed'),
      concurrent: z.number().int().min(1).max(10_000).optional().describe('so many at the same time'),
      budget: speed((window) => window >= SHORTEST_BUDGET_MS, 'a budget is over at least a minute; write a rate')
        .optional()
        .describe('so many in a while, for example 1000/1d, counted in the store; the time begins with the first call and ends all at once'),
      per: z
        .enum(['identity', resource, item])
        .optional()
        .describe(`what is counted together: identity (default: each identity on each ${resource}), ${resource} (all identities), ${item}`),
    })
    .refine(({ rate, concurrent, budget }) => [rate, concurrent, budget].some((each) => each !== undefined), 'write rate, concurrent or budget')

  const demanded = (spec: LimitsSpec, rule: RuleRef, counter: string): Limit[] => {
    const word = spec.per ?? 'identity'
    const per: Per = word === resource ? 'resource' : word === item ? 'item' : 'identity'
    const made = (kind: Limit['kind'], written: string | number, { most, window }: Speed): Limit => {
      return { kind, text: `${kind} ${written} per ${word}`, most, window, per, rule, counter }
    }
    return [
      ...(spec.rate === undefined ? [] : [made('rate', spec.rate, speedOf(spec.rate)!)]),
      ...(spec.concurrent === undefined ? [] : [made('concurrent', spec.concurrent, { most: spec.concurrent, window: 0 })]),
      ...(spec.budget === undefined ? [] : [made('budget', spec.budget, speedOf(spec.budget)!)]),
    ]
  }

  return {
    schema,
    merge: {
      ofRule: (spec, rule, counter) => demanded(spec as LimitsSpec, rule, counter),
      ofLink: (limits, { id, name }) => (limits as Limit[]).map((limit) => ({ ...limit, identity: { id, name } })),
      least: (a, b) => KINDS.flatMap((kind) => looser(ofKind(a, kind), ofKind(b, kind))),
      most: (a, b) => together(a as Limit[], b as Limit[]),
    },
  }
}

const KINDS = ['rate', 'concurrent', 'budget'] as const

const ofKind = (limits: unknown, kind: Limit['kind']) => (limits as Limit[]).filter((limit) => limit.kind === kind)

/** The side whose tightest limit is the looser one; nothing when a side has none: it demands nothing. */
function looser(a: readonly Limit[], b: readonly Limit[]): readonly Limit[] {
  if (a.length === 0 || b.length === 0) return []
  return compare(a.toSorted(compare)[0]!, b.toSorted(compare)[0]!) >= 0 ? a : b
}

/** What counts in the same place is one limit, the smaller number of the two. */
function together(a: readonly Limit[], b: readonly Limit[]): readonly Limit[] {
  const found = new Map<string, Limit>()
  for (const limit of [...a, ...b].sort(compare)) if (!found.has(countOf(limit))) found.set(countOf(limit), limit)
  return [...found.values()]
}

const LOOSENESS: Readonly<Record<Per, number>> = { resource: 0, identity: 1, item: 2 }

/**
 * Tighter first: what allows less in the same time, then what allows less at once, then what counts more together. Last by
 * place, so that the order of roles and links shows nowhere.
 */
function compare(a: Limit, b: Limit): number {
  return (
    a.most * (b.window || 1) - b.most * (a.window || 1) || a.most - b.most || LOOSENESS[a.per] - LOOSENESS[b.per] || order(placeOf(a), placeOf(b))
  )
}

// Of two equal limits the looser side is kept, and that shall be the one of the earlier place.
const order = (a: string, b: string) => (a < b ? 1 : a > b ? -1 : 0)
const placeOf = ({ kind, rule, counter, identity }: Limit) =>
  JSON.stringify([kind, rule.document, rule.section, rule.index, counter, identity?.name ?? ''])

/** Limits with the same text here are counted in one place, on one resource and item. */
export function countOf({ kind, window, per, counter, identity }: Limit): string {
  return [kind, window, per, counter, ...(per === 'resource' ? [] : [identity?.id ?? ''])].join(' ')
}

/** The limits among the obligations of a decision. */
export const limitsOf = (obligations: Obligations): readonly Limit[] => (obligations.limits as readonly Limit[] | undefined) ?? NONE

const NONE: readonly Limit[] = []

/** `rate 60/1m per tool (role dev, allow rule 1)`, and for whom where it matters. */
export function limitText({ text, rule, per, identity }: Limit): string {
  const whose = per === 'resource' || identity === undefined ? '' : `${identity.name}, `
  return `${text} (${whose}${ruleTitle(rule)})`
}

/** The obligations as they are shown and recorded: limits in words. */
export function shownObligations(obligations: Obligations): Obligations {
  return obligations.limits === undefined ? obligations : { ...obligations, limits: limitsOf(obligations).map(limitText) }
}
