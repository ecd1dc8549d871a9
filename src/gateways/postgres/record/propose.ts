import type { Action, Effect } from '../../../policy/types.ts'
import type { PostgresFacts } from '../describe.ts'
import { candidates, isCatalogRead } from '../sql/relations.ts'
import { COMPANION_KINDS, NATURAL_EFFECTS } from '../sql/statements.ts'

/** A draft lets a SELECT bring back so many rows; who wants more writes it. */
const DRAFT_ROWS = 1000
const CHANGES_ROWS = new Set(['update', 'delete'])

/** Rules about this statement, the narrowest first: its kinds, on its tables, as its database user. */
export function proposeRules({ effects, facts: raw }: Action, section: 'allow' | 'deny'): readonly Readonly<Record<string, unknown>>[] {
  const facts = raw as unknown as PostgresFacts
  const { database, user, statements } = facts
  const place = { databases: [database], as: [user] }
  const tables = tablesOf(facts, section)
  const withTables = tables.length > 0 ? [{ tables }] : []
  if (section === 'deny') {
    const acting = statements.filter((kind) => !COMPANION_KINDS.has(kind))
    const kinds = { statements: acting.length > 0 ? acting : statements }
    return [...withTables.map((more) => ({ ...place, ...kinds, ...more })), { ...place, ...kinds }]
  }
  const kinds = { statements, ...canOf(statements, effects), ...bounds(facts) }
  // What an opaque statement touches does not stand in its text, so a rule with tables never allows one.
  return facts.opaque ? [{ ...place, ...kinds }] : [...withTables.map((more) => ({ ...place, ...kinds, ...more })), { ...place, ...kinds }]
}

/** As rules write them; the system's own come with any rule. In deny what is written says most. */
function tablesOf({ tables, covered, path }: PostgresFacts, section: 'allow' | 'deny'): readonly string[] {
  // An allow rule must speak of all that the names may come to lead to; a deny rule of what they lead to is enough.
  const also = section === 'allow' ? covered : undefined
  const [read, written] = [
    [...tables.read, ...(also?.read ?? [])],
    [...tables.written, ...(also?.written ?? [])],
  ]
  const named = section === 'deny' && written.length > 0 ? written : [...read.filter((table) => isCatalogRead(table) === undefined), ...written]
  return [...new Set(named.flatMap((table) => candidates(table, path) ?? []))].sort()
}

/** `statements: [select]` allows what a SELECT is by itself; what this one does beyond that must be said. */
function canOf(statements: readonly string[], effects: readonly Effect[]): { can?: readonly Effect[] } {
  const natural = new Set(statements.flatMap((kind) => NATURAL_EFFECTS[kind] ?? []))
  return effects.every((effect) => natural.has(effect)) ? {} : { can: effects }
}

function bounds({ statements, every_row }: PostgresFacts): Readonly<Record<string, unknown>> {
  return {
    ...(statements.some((kind) => CHANGES_ROWS.has(kind)) && !every_row ? { require_where: true } : {}),
    ...(statements.every((kind) => kind === 'select') ? { max_rows: DRAFT_ROWS } : {}),
  }
}
