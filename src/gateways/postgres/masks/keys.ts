import { assertPattern, compileGlob, type GlobPart, isGlob, matchGlob, parseGlob } from '../../../encoding/glob.ts'
import type { Column, Mirror, Relation } from '../mirror/types.ts'
import type { Mask, MaskForm } from './types.ts'

/** `schema.table.column`, in the case in which the catalog holds them; each part a name or a glob. */
export function isMaskKey(text: string): boolean {
  const parts = text.split('.')
  try {
    for (const part of parts) assertPattern(part)
  } catch {
    return false
  }
  return parts.length === 3
}

interface Key {
  readonly text: string
  readonly form: MaskForm
  /** written without wildcards */
  readonly table: string | undefined
  readonly isWildColumn: boolean
  matches(relation: Relation): boolean
  hides(column: string): boolean
}

/** What a mask says of tables, by name alone; `hiding.ts` knows what follows for views and partitions. */
export class MaskKeys {
  readonly #keys: readonly Key[]

  constructor(mask: Mask) {
    this.#keys = Object.entries(formsOf(mask)).map(([text, form]) => readKey(text, form))
  }

  /** Of several that speak of one column the one that shows least. */
  formOf(relation: Relation, column: string): MaskForm | undefined {
    return this.#keys
      .filter((key) => key.matches(relation) && key.hides(column))
      .map((key) => key.form)
      .reduce<MaskForm | undefined>((before, form) => (before === undefined ? form : leastShown(before, form)), undefined)
  }

  /** The key that names a column which this relation does not have: renamed perhaps, and then no longer hidden. */
  lost(relation: Relation): string | undefined {
    const has = (key: Key) => relation.columns.some((column: Column) => key.hides(column.name))
    return this.#keys.find((key) => key.table !== undefined && !key.isWildColumn && key.matches(relation) && !has(key))?.text
  }

  /** Whether some key speaks of the relation by its name. */
  speaksOf(relation: Relation): boolean {
    return this.#keys.some((key) => key.matches(relation))
  }

  /** Keys that speak of no relation at all. */
  idle(mirror: Mirror): readonly string[] {
    const relations = [...mirror.all()]
    return this.#keys.filter((key) => !relations.some((relation) => key.matches(relation))).map((key) => key.text)
  }
}

function readKey(text: string, form: MaskForm): Key {
  const [schema = '', table = '', column = ''] = text.split('.')
  const [isSchema, isTable, isColumn] = [schema, table, column].map((part) => compileGlob(part)) as [Test, Test, Test]
  return {
    text,
    form,
    table: isGlob(schema) || isGlob(table) ? undefined : `${schema}.${table}`,
    isWildColumn: isGlob(column),
    matches: (relation) => isSchema(relation.schema) && isTable(relation.name),
    hides: isColumn,
  }
}

type Test = (text: string) => boolean

/** Two different forms of one column: each shows something that the other hides, so nothing is shown. */
export const leastShown = (a: MaskForm, b: MaskForm): MaskForm => (a === b ? a : 'null')

const formsOf = (mask: Mask): Readonly<Record<string, MaskForm>> =>
  Object.fromEntries(Object.entries(mask).map(([key, form]) => [key, form ?? 'null']))

/** Last in this list shows most. */
const BY_SHOWING: readonly MaskForm[] = ['null', 'fixed', 'hash', 'last4']

/** What both masks hide: a key of one counts when a key of the other is the same, or a glob over it. */
export function hiddenByBoth(one: Mask, another: Mask): Mask {
  const [a, b] = [formsOf(one), formsOf(another)]
  const kept: Record<string, MaskForm> = {}
  for (const [mine, theirs] of [
    [a, b],
    [b, a],
  ] as const) {
    for (const [key, form] of Object.entries(mine)) {
      // Of two patterns neither of which is within the other both stay whole: what both hide cannot be written as one pattern.
      const covering = Object.keys(theirs).filter((other) => other === key || covers(other, key) || (!covers(key, other) && mayMeet(other, key)))
      if (covering.length === 0) continue
      kept[key] = [form, ...covering.map((other) => theirs[other]!)].reduce((x, y) => (BY_SHOWING.indexOf(x) > BY_SHOWING.indexOf(y) ? x : y))
    }
  }
  return kept
}

function covers(pattern: string, key: string): boolean {
  const [patterns, parts] = [pattern.split('.'), key.split('.')]
  return patterns.length === 3 && parts.length === 3 && patterns.every((part, i) => compileGlob(part)(parts[i]!))
}

/** Whether there can be a column that both patterns speak of. */
function mayMeet(one: string, another: string): boolean {
  const [a, b] = [one.split('.'), another.split('.')]
  return a.every((part, i) => partsMeet(parseGlob(part), parseGlob(b[i] ?? '')))
}

/** Only the literal beginnings and ends are compared: too often is better than too seldom. */
function partsMeet(a: readonly GlobPart[], b: readonly GlobPart[]): boolean {
  if (a.length === 1 && typeof a[0] === 'object') return matchGlob(b, a[0].literal)
  if (b.length === 1 && typeof b[0] === 'object') return matchGlob(a, b[0].literal)
  const [begin, end] = [(parts: readonly GlobPart[]) => literal(parts.at(0)), (parts: readonly GlobPart[]) => literal(parts.at(-1))]
  const beginsMeet = begin(a).startsWith(begin(b)) || begin(b).startsWith(begin(a))
  return beginsMeet && (end(a).endsWith(end(b)) || end(b).endsWith(end(a)))
}

const literal = (part: GlobPart | undefined) => (typeof part === 'object' ? part.literal : '')

/** What one of the masks hides, each column in the form that shows least. */
export function hiddenByEither(one: Mask, another: Mask): Mask {
  const a = formsOf(one)
  const both: Record<string, MaskForm> = { ...a }
  for (const [key, form] of Object.entries(formsOf(another))) both[key] = Object.hasOwn(a, key) ? leastShown(a[key]!, form) : form
  return both
}
