import { type Relation, UNREAD } from '../mirror/types.ts'
import { namesOf, type Tree } from '../sql/nodes.ts'
import { parseSql } from '../sql/parse.ts'
import { made } from './expressions.ts'
import type { Meant } from './from.ts'
import type { Look } from './look.ts'

export type Write = { readonly kind: 'insert' | 'delete' } | { readonly kind: 'update'; readonly columns: readonly string[] }

/**
 * Refuses a write whose success or failure would depend on what hidden columns hold: a unique index says "there is one
 * already", a foreign key "there is none", a check or trigger anything at all. `given`: the columns of an INSERT; none
 * written means all of them.
 */
export function mustTellNothing(write: Write, meant: Meant, look: Look, given: readonly string[] = []): void {
  for (const target of meant) mustTellNothingOf(write, target, look, given)
}

function mustTellNothingOf(write: Write, target: Relation, look: Look, given: readonly string[]): void {
  const here = hiddenNames(target, look)
  const say = (why: string) => look.misuse(`writing to ${target.schema}.${target.name} may tell what is hidden: ${why}`)
  for (const relation of [target, ...descendants(target, look)]) {
    if (relation.hasTriggers || relation.hasRules) say('triggers or rules run with it')
    foreignKeys(write, relation, look, say)
    if (here.size > 0 && write.kind !== 'delete') uniques(write, relation, here, say)
  }
  const named = write.kind === 'update' ? write.columns : given
  if (write.kind !== 'delete')
    for (const { name, domain } of target.columns)
      if (domain !== undefined && (named.length === 0 || named.includes(name))) made(look.mirror.typeByOid(domain), look)
  if (here.size === 0) return
  const columns =
    write.kind === 'update' ? write.columns : write.kind === 'insert' && given.length > 0 ? given : write.kind === 'insert' ? [...here.keys()] : []
  // Whoever may put his own values through the hash can try what the hidden ones are.
  const hashed = columns.find((name) => here.get(name) === 'hash')
  if (hashed !== undefined) say(`the hash of ${JSON.stringify(hashed)} would show whether a guess is right`)
  if (write.kind !== 'delete') computed(write.kind === 'update' ? write.columns : undefined, target, here, say)
}

function hiddenNames(relation: Relation, look: Look): ReadonlyMap<string, string> {
  return new Map(look.hidingOf(relation).columns.flatMap(({ name, hides }) => (name !== undefined && hides ? [[name, hides] as const] : [])))
}

function descendants(relation: Relation, look: Look): readonly Relation[] {
  return relation.children.flatMap((oid) => {
    const child = look.mirror.relationByOid(oid)
    if (!child) look.misuse('a partition of it is not known here')
    return child ? [child, ...descendants(child, look)] : []
  })
}

const nameOf = (relation: Relation, attnum: number): string | undefined => relation.columns.find((column) => column.attnum === attnum)?.name

/** Of columns that are hidden together with others that are written. attnum 0 is an expression. */
function uniques(write: Write, relation: Relation, hidden: ReadonlyMap<string, string>, say: (why: string) => void): void {
  const isWritten = (name: string | undefined) =>
    write.kind === 'insert' || name === undefined || (write.kind === 'update' && write.columns.includes(name))
  for (const index of relation.uniques) {
    const names = index.map((attnum) => nameOf(relation, attnum))
    const hides = names.find((name) => name === undefined || hidden.has(name))
    if (names.some((name) => name === undefined || hidden.has(name)) && names.some(isWritten))
      say(`a unique index covers ${hides === undefined ? 'an expression' : JSON.stringify(hides)}`)
  }
  if (relation.checks === undefined) say('its constraints are not known here')
  for (const check of relation.checks ?? []) {
    const names = relation.columns.flatMap(({ name }) => (mentions(check, name) ? [name] : []))
    // CHECK looks at one row: it tells of what was there before only when that is checked together with something new.
    const told = names.find((name) => hidden.has(name) && !(check.startsWith('CHECK') && isWritten(name)))
    if (told !== undefined && names.some(isWritten)) say(`a constraint speaks of ${JSON.stringify(told)}`)
  }
}

function foreignKeys(write: Write, relation: Relation, look: Look, say: (why: string) => void): void {
  const touches = (owner: Relation, attnums: readonly number[]) =>
    write.kind !== 'update' || attnums.some((attnum) => write.columns.includes(nameOf(owner, attnum) ?? ''))
  const hides = (owner: Relation | undefined, attnums: readonly number[]) => {
    if (!owner) return true
    const hidden = hiddenNames(owner, look)
    return hidden.size > 0 && attnums.some((attnum) => hidden.has(nameOf(owner, attnum) ?? ''))
  }
  if (write.kind !== 'delete') {
    for (const key of relation.references) {
      const other = look.mirror.relationByOid(key.relation)
      if (touches(relation, key.columns) && (hides(other, key.theirs) || hides(relation, key.columns)))
        say('a foreign key compares it with other rows')
    }
  }
  if (write.kind === 'insert') return
  for (const other of look.mirror.all()) {
    for (const key of other.references) {
      if (key.relation === relation.oid && touches(relation, key.theirs) && (hides(other, key.columns) || hides(relation, key.theirs)))
        say(`a foreign key of ${other.schema}.${other.name} compares it with other rows`)
    }
  }
}

/** A generated column is computed anew, from what is written and from what is hidden: where that fails, it tells. `written` undefined: a whole row. */
function computed(written: readonly string[] | undefined, relation: Relation, hidden: ReadonlyMap<string, string>, say: (why: string) => void): void {
  for (const { generated, name } of relation.columns) {
    if (generated === undefined) continue
    const names = namesIn(generated)
    const isWritten = !written || !names || names.some((one) => written.includes(one))
    if (isWritten && hidden.get(name) === 'hash') say(`the hash of ${JSON.stringify(name)} would show whether a guess is right`)
    if (written && (!names || (names.some((one) => hidden.has(one)) && isWritten)))
      say(`the generated column ${JSON.stringify(name)} is computed from it`)
  }
}

/** Names of columns in an expression; undefined when it cannot be read. */
export function namesIn(expression: string): readonly string[] | undefined {
  const parsed = parseSql(`SELECT ${expression}`)
  if ('failure' in parsed || parsed.statements.length !== 1) return undefined
  const names: string[] = []
  const visit = (node: unknown): void => {
    if (typeof node !== 'object' || node === null) return
    for (const [key, value] of Object.entries(node)) {
      if (key === 'ColumnRef') names.push(...namesOf((value as Tree).fields))
      else visit(value)
    }
  }
  visit(parsed.statements[0]!.tree)
  return names
}

/** By name alone, in a definition that the server wrote: too often is better than too seldom. */
export function mentions(definition: string, name: string): boolean {
  const quoted = `"${name.replaceAll('"', '""')}"`
  if (definition === UNREAD || definition.includes(quoted)) return true
  const plain = name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  return new RegExp(`(?<![\\w$])${plain}(?![\\w$])`).test(definition)
}
