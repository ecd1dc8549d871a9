import type { Guard } from '../../../access/types.ts'
import type { LiveSession } from '../../../identity/types.ts'
import { describeSql, type Place, type PostgresFacts } from '../describe.ts'
import { READ_FUNCTIONS } from '../sql/functions.ts'
import { relationName } from '../sql/relations.ts'

/** Statements that give rows and leave nothing on their connection. */
const PLAIN: ReadonlySet<string> = new Set(['select', 'values', 'explain', 'table'])

const LONG = 16 * 1024

/**
 * Whether another call may use the connection after this statement: rows were asked for, with no functions but those that are
 * known to set nothing. A connection on which anything else ran is closed, and what it set, locked or made for itself goes with
 * it. The next call is of the same session and database user all the same.
 */
export function leavesNothing(sql: string): boolean {
  // It was read once, perhaps in another thread; a connection costs less than reading so much again here.
  if (sql.length > LONG) return false
  const [one, second] = describeSql(sql)
  if (!one || second) return false
  const { kinds, loose, settings, functions } = one
  return (
    !loose &&
    settings.length === 0 &&
    kinds.every((kind) => PLAIN.has(kind)) &&
    functions.every((name) => READ_FUNCTIONS.has(name.replace(/^pg_catalog\./, '')))
  )
}

/** Whether a list may name the table: what an approval could allow is shown, as in every list. Nothing is recorded, because nothing is done. */
export function mayReadTable(guard: Pick<Guard, 'judge'>, session: LiveSession, place: Place, schema: string, table: string): boolean {
  const name = relationName({ schemaname: schema, relname: table })
  const { resource, database, user } = place
  const facts: PostgresFacts = {
    database,
    user,
    statements: ['select'],
    tables: { read: [name], written: [] },
    functions: [],
    settings: [],
    opaque: false,
    every_row: false,
    path: [],
  }
  const action = {
    kind: 'postgres',
    resource,
    operation: 'select',
    effects: ['read'] as const,
    facts: { ...facts },
    summary: `SELECT ${name}`,
    via: 'mcp',
  }
  return guard.judge(session, action).verdict !== 'deny'
}
