import type { Action, Resource } from '../../policy/types.ts'
import { describeSql, ORDINARY, type SqlContext, statementAction } from './describe.ts'
import { loadParser } from './sql/parse.ts'

/**
 * The actions that a text of SQL would ask for, one a statement, for `chaperone explain`. `known`: what the gateway knows of
 * the database, while somebody is connected to it; without it names without a schema are taken as if in `public`.
 */
export async function describeStatement(
  ask: { resource: Resource; database: string; user: string; sql: string },
  known: Pick<SqlContext, 'mirror' | 'pinnedReadOnly' | 'reviewed'> = {},
): Promise<Action[]> {
  await loadParser()
  const context = { ...ORDINARY, ...known }
  return describeSql(ask.sql, context).map((described) => statementAction(ask, described, context))
}
