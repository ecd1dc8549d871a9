import { z } from 'zod'
import { parseByteSize } from '../../encoding/byte-size.ts'
import { parseDuration } from '../../encoding/duration.ts'
import { ChaperoneError } from '../../errors.ts'
import { limitsWords } from '../../policy/limits.ts'
import {
  type Action,
  EFFECTS,
  type Effect,
  type Matcher,
  type ObligationMerge,
  type Obligations,
  type Section,
  type Variables,
  type Vocabulary,
} from '../../policy/types.ts'
import { type ValueMatcher, valueMatcher, valueSchema } from '../../policy/value.ts'
import type { PostgresFacts } from './describe.ts'
import { hiddenByBoth, hiddenByEither, isMaskKey } from './masks/keys.ts'
import { MASK_FORMS, type Mask } from './masks/types.ts'
import { recalledFacts, recordedFacts } from './record/facts.ts'
import { proposeRules } from './record/propose.ts'
import { candidates, isCatalogRead } from './sql/relations.ts'
import { COMPANION_KINDS, DDL_KINDS, NATURAL_EFFECTS, STATEMENT_KINDS } from './sql/statements.ts'

const limits = limitsWords('database', 'statement')

const duration = z.string().refine((text) => {
  try {
    return parseDuration(text) > 0
  } catch {
    return false
  }
}, 'write a time such as 30s or 5m')

const byteSize = z.string().refine((text) => {
  try {
    return parseByteSize(text) > 0
  } catch {
    return false
  }
}, 'write a size such as 10MiB')

const fields = z.object({
  databases: valueSchema.optional().describe('names of databases'),
  as: valueSchema.optional().describe('database users'),
  can: z
    .union([z.literal('any'), z.enum(EFFECTS), z.array(z.enum(EFFECTS)).min(1)])
    .optional()
    .describe('by effect: in allow a statement may have no effect beyond these; in ask and deny one of these is enough'),
  statements: z
    .union([z.literal('any'), z.array(z.enum([...STATEMENT_KINDS, 'ddl'])).min(1)])
    .optional()
    .describe('by kind; `ddl` is every definition; also of the statements inside a statement that act'),
  tables: valueSchema.optional().describe('schema.table, or globs; in allow every table that a statement touches, in ask and deny one of them'),
  mask: z
    .record(
      z.string().refine(isMaskKey, 'write schema.table.column, as the catalog spells them; * and ? are wildcards'),
      z.enum(MASK_FORMS).nullable(),
    )
    .optional()
    .describe('schema.table.column: how its values are hidden; what would tell of them is refused'),
  max_rows: z.number().int().positive().optional().describe('rows that one statement may return; the rest is cut, and said so'),
  max_bytes: byteSize.optional().describe('bytes of rows that one statement may return, such as 10MiB; the rest is cut, and said so'),
  require_where: z.boolean().optional().describe('UPDATE and DELETE need a condition on the rows'),
  statement_timeout: duration.optional().describe('a statement that runs longer is cancelled'),
  limits: limits.schema.optional().describe('how often what the rule allows may be done'),
})
type Fields = z.infer<typeof fields>

const obligations: Readonly<Record<keyof KnownObligations, ObligationMerge>> = {
  max_rows: { least: (a, b) => Math.max(a as number, b as number), most: (a, b) => Math.min(a as number, b as number) },
  max_bytes: { least: (a, b) => larger(a as string, b as string), most: (a, b) => (larger(a as string, b as string) === a ? b : a) },
  limits: limits.merge,
  require_where: { least: (a, b) => a === true && b === true, most: (a, b) => a === true || b === true },
  statement_timeout: { least: (a, b) => longer(a as string, b as string), most: (a, b) => (longer(a as string, b as string) === a ? b : a) },
  mask: { least: (a, b) => hiddenByBoth(a as Mask, b as Mask), most: (a, b) => hiddenByEither(a as Mask, b as Mask) },
}

const larger = (a: string, b: string) => (parseByteSize(a) >= parseByteSize(b) ? a : b)
const longer = (a: string, b: string) => (parseDuration(a) >= parseDuration(b) ? a : b)

/** The obligations of a decision about a statement, as the gateway keeps them. */
export interface KnownObligations {
  readonly max_rows?: number
  /** such as `10MiB` */
  readonly max_bytes?: string
  /** kept by the guard */
  readonly limits?: unknown
  readonly require_where?: boolean
  readonly statement_timeout?: string
  readonly mask?: Mask
}

/**
 * Why the obligations cannot be kept for this statement, or undefined. What is demanded and not kept is never ignored:
 * an unknown one counts as one that cannot be kept.
 */
export function cannotKeep(demanded: Obligations, action: Action): ChaperoneError | undefined {
  const refuse = (message: string, fix?: string) => new ChaperoneError('obligation_unsupported', message, fix === undefined ? {} : { fix })
  const facts = factsOf(action)
  for (const [name, value] of Object.entries(demanded)) {
    switch (name as keyof KnownObligations) {
      case 'statement_timeout':
      case 'limits':
        break
      case 'max_rows':
      case 'max_bytes':
        // What the server writes into a file of its own, or gives to a program, does not come by here.
        if (facts.statements.includes('copy') && action.effects.includes('egress'))
          return refuse('The rule caps what a statement may return, and COPY to a file or program cannot be counted.', 'Use COPY ... TO STDOUT.')
        break
      case 'require_where':
        if (value === true && facts.every_row)
          return refuse('The rule demands a condition: this statement would change every row.', 'Add a WHERE on a column.')
        break
      case 'mask':
        // Kept by masks/keeper.ts, which reads the text itself, and refuses what it cannot hide.
        break
      default:
        return refuse(`The rule demands \`${name}\`, which this version cannot keep.`)
    }
  }
  return undefined
}

/**
 * The words for `- postgres: { labels: { env: prod } }`.
 *
 * What every driver needs between statements (transactions, harmless settings, SHOW) comes along with any allow rule, and is
 * met by ask and deny only when they name its kind, or in deny the whole database.
 */
export const postgresVocabulary: Vocabulary = {
  kind: 'postgres',
  fields,
  what: ['can', 'statements'],
  obligations,
  compile: (rule, section) => compile(rule as Fields, section),
  opens: (action) => factsOf(action).statements[0] === 'connect' || isCompanion(action.effects, factsOf(action)),
  recorded: recordedFacts,
  recalled: recalledFacts,
  wasPartial: ({ operation }) => operation === 'connect',
  propose: proposeRules,
  // Handshakes do not count, and what counts by itself is the kind: a client could make up new texts for ever.
  item: (action) => factsOf(action).statements.join('+'),
  variables: (action) => {
    const { database, user, statements, tables, covered, functions, settings, every_row } = factsOf(action)
    const all = covered ? { read: [...tables.read, ...covered.read], written: [...tables.written, ...covered.written] } : tables
    return { database, user, statements, tables: all, functions, settings, every_row }
  },
}

const factsOf = (action: Action) => action.facts as unknown as PostgresFacts

function compile(rule: Fields, section: Section): Matcher {
  if (section !== 'deny') {
    for (const key of ['databases', 'as'] as const) {
      if (rule[key] === undefined) {
        throw new ChaperoneError(
          'invalid_document',
          `This ${section} rule does not say ${key === 'as' ? 'as which database user' : 'which databases'}.`,
          {
            fix: `Write \`${key}\`; any means all of them.`,
          },
        )
      }
    }
  }
  const databases = valueMatcher(rule.databases ?? 'any')
  const users = valueMatcher(rule.as ?? 'any')
  const whole = rule.can === undefined && rule.statements === undefined && rule.tables === undefined
  const kinds = rule.statements === undefined || rule.statements === 'any' ? rule.statements : kindsOf(rule.statements)
  const effects = effectsOf(rule.can)
  const tables = rule.tables === undefined ? undefined : valueMatcher(rule.tables)
  const matches = section === 'allow' ? allow(effects, kinds, tables) : exception(effects, kinds, tables, section, whole)
  return (action, variables) => {
    const facts = factsOf(action)
    return databases(facts.database, variables) && users(facts.user, variables) && matches(action.effects, facts, variables)
  }
}

type Kinds = ReadonlySet<string> | 'any' | undefined
type Judge = (effects: readonly Effect[], facts: PostgresFacts, variables: Variables) => boolean

function kindsOf(words: readonly string[]): ReadonlySet<string> {
  return new Set(words.flatMap((word) => (word === 'ddl' ? [...DDL_KINDS] : [word])))
}

function effectsOf(can: Fields['can']): ReadonlySet<Effect> | undefined {
  if (can === undefined) return undefined
  return new Set(can === 'any' ? EFFECTS : typeof can === 'string' ? [can] : can)
}

/** A cursor, or a name given by PREPARE, is another way to run the statement that it stands for, and that one is judged. */
const ALONG: ReadonlySet<string> = new Set(['connect', 'cursor', 'fetch', 'prepare', 'execute'])
const ALL: ReadonlySet<Effect> = new Set(EFFECTS)

/** Everything that the statement does must be what the rule says. */
function allow(can: ReadonlySet<Effect> | undefined, kinds: Kinds, tables: ValueMatcher | undefined): Judge {
  // `statements: [select]` alone allows what a SELECT is: one that calls a writing function is more.
  const may = can ?? (kinds === undefined || kinds === 'any' ? ALL : new Set([...kinds].flatMap((kind) => NATURAL_EFFECTS[kind] ?? [])))
  const mayWrite = couldWrite(may, kinds)
  return (effects, facts, variables) => {
    if (facts.probe === 'masks') return true
    if (facts.probe) return mayWrite
    if (isCompanion(effects, facts)) return true
    if (!effects.every((effect) => may.has(effect))) return false
    if (kinds !== undefined && kinds !== 'any' && !facts.statements.every((kind) => kinds.has(kind) || ALONG.has(kind))) return false
    if (tables === undefined || facts.statements[0] === 'connect') return true
    if (facts.opaque) return false
    const isMet = ({ read, written }: PostgresFacts['tables']) =>
      read.every((table) => isCatalogRead(table) === true || everyCandidate(table, facts, variables, tables)) &&
      written.every((table) => everyCandidate(table, facts, variables, tables))
    return isMet(facts.tables) && (facts.covered === undefined || isMet(facts.covered))
  }
}

/** Whether something that changes anything is among what a rule speaks of. */
const couldWrite = (may: ReadonlySet<Effect>, kinds: Kinds): boolean =>
  [...may].some((effect) => effect !== 'read') &&
  (kinds === undefined || kinds === 'any' || [...kinds].some((kind) => NATURAL_EFFECTS[kind]?.some((effect) => effect !== 'read')))

/** One thing that the rule speaks of is enough: an exception cannot be evaded by wrapping it into something larger. */
function exception(can: ReadonlySet<Effect> | undefined, kinds: Kinds, tables: ValueMatcher | undefined, section: Section, all: boolean): Judge {
  const whole = all && section === 'deny'
  // What a human may say yes to must be able to write then.
  const mayWrite = section === 'ask' && couldWrite(can ?? ALL, kinds)
  return (effects, facts, variables) => {
    if (whole || facts.probe === 'masks') return true
    if (facts.probe) return mayWrite
    const named = kinds !== undefined && kinds !== 'any' && facts.statements.some((kind) => kinds.has(kind))
    if (facts.statements[0] === 'connect' || isCompanion(effects, facts)) return named
    if (kinds !== undefined && kinds !== 'any' && !named && facts.statements.length > 0) return false
    if (can !== undefined && !effects.some((effect) => can.has(effect))) return false
    if (tables === undefined) return true
    const { read = [], written = [], behind = [] } = facts.covered ?? {}
    return (
      facts.opaque ||
      [...facts.tables.read, ...facts.tables.written, ...(facts.behind ?? []), ...read, ...written, ...behind].some((table) =>
        someCandidate(table, facts, variables, tables),
      )
    )
  }
}

function everyCandidate(table: string, facts: PostgresFacts, variables: Variables, tables: ValueMatcher): boolean {
  const names = candidates(table, facts.path)
  return names !== undefined && names.length > 0 && names.every((name) => tables(name, variables))
}

function someCandidate(table: string, facts: PostgresFacts, variables: Variables, tables: ValueMatcher): boolean {
  const names = candidates(table, facts.path)
  return names === undefined || names.some((name) => tables(name, variables))
}

/** BEGIN, SET DateStyle, SHOW, CLOSE: nothing that touches data, nothing that undoes a fence. */
function isCompanion(effects: readonly Effect[], facts: PostgresFacts): boolean {
  return (
    effects.length === 1 &&
    effects[0] === 'read' &&
    facts.statements.length === 1 &&
    COMPANION_KINDS.has(facts.statements[0]!) &&
    facts.tables.read.length === 0 &&
    facts.tables.written.length === 0 &&
    !facts.opaque
  )
}
