import { z } from 'zod'
import { argsMatcher, argsSchema, trapLossy } from './args.ts'
import { type Action, EFFECTS, type Identity, type ObligationMerge, type Question, type Vocabulary } from './types.ts'
import { valueMatcher, valueSchema } from './value.ts'

/** A small protocol for the tests: tools with arguments, and two obligations. */
export interface ToolFacts {
  readonly tool: string
  readonly args: Readonly<Record<string, unknown>>
  readonly lossy: ReadonlySet<string>
}

const factsOf = (action: Action) => action.facts as unknown as ToolFacts

const columns: ObligationMerge = {
  least: (a, b) => (a as string[]).filter((column) => (b as string[]).includes(column)),
  most: (a, b) => [...new Set([...(a as string[]), ...(b as string[])])].sort(),
}
const rows: ObligationMerge = {
  least: (a, b) => Math.max(a as number, b as number),
  most: (a, b) => Math.min(a as number, b as number),
}

export const toolVocabulary: Vocabulary = {
  kind: 'tool',
  fields: z.object({
    tools: valueSchema.optional(),
    can: z.array(z.enum(EFFECTS)).optional(),
    args: argsSchema.optional(),
    mask: z.array(z.string()).optional(),
    max_rows: z.number().int().positive().optional(),
  }),
  what: ['tools', 'can'],
  obligations: { mask: columns, max_rows: rows },
  compile(fields, section) {
    const tools = fields.tools === undefined ? undefined : valueMatcher(fields.tools as string | string[])
    const can = fields.can as readonly string[] | undefined
    const args = fields.args === undefined ? undefined : argsMatcher(fields.args as Record<string, unknown>, section)
    return (action, variables) => {
      const facts = factsOf(action)
      if (tools && !tools(facts.tool, variables)) return false
      if (
        can &&
        !(section === 'deny' ? action.effects.some((effect) => can.includes(effect)) : action.effects.every((effect) => can.includes(effect)))
      )
        return false
      return args === undefined || args(facts.args, facts.lossy, variables)
    }
  },
  tool: (action) => factsOf(action).tool,
  variables: (action) => trapLossy(factsOf(action).args, factsOf(action).lossy) as Record<string, unknown>,
}

/** A second kind, so that rules of one are seen to leave the other alone. */
export const doorVocabulary: Vocabulary = {
  kind: 'door',
  fields: z.object({ open: z.literal('any').optional() }),
  what: ['open'],
  obligations: {},
  compile: () => () => true,
}

export const vocabularies: readonly Vocabulary[] = [toolVocabulary, doorVocabulary]

export function identityOf(name: string, more: Partial<Identity> = {}): Identity {
  return { id: `usr_${name}`, kind: 'user', name, traits: {}, roles: [], ...more }
}

export interface Call {
  readonly tool?: string
  readonly on?: string
  readonly kind?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly args?: Readonly<Record<string, unknown>>
  readonly effects?: Action['effects']
  readonly unclear?: string
  readonly lossy?: readonly string[]
  readonly partial?: true
}

export function actionOf(call: Call): Action {
  const { kind = 'tool', tool = 'read_file', on = 'files' } = call
  return {
    kind,
    resource: { kind, id: `res_${on}`, name: on, labels: call.labels ?? {} },
    operation: 'call',
    effects: call.effects ?? ['read'],
    facts: { tool, args: call.args ?? {}, lossy: new Set(call.lossy) },
    summary: `call ${tool}`,
    ...(call.unclear === undefined ? {} : { unclear: call.unclear }),
    ...(call.partial ? { partial: true } : {}),
  }
}

/** Monday, 23 November 2026, 10:00 in Berlin. */
export const MONDAY_10 = Date.UTC(2026, 10, 23, 9)

export function questionOf(links: Question['links'], call: Call, now = MONDAY_10): Question {
  return { links, session: { id: 'ses_1', startedAt: MONDAY_10 - 60_000, how: 'login' }, action: actionOf(call), now }
}
