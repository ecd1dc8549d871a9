import type { Action, Resource } from '../../policy/types.ts'
import { describeSql, ORDINARY, statementAction } from './describe.ts'
import { loadParser } from './sql/parse.ts'

/** The actions that a text of SQL would ask for, one a statement, for `chaperone explain`. Names without a schema are taken as if in `public`. */
export async function describeStatement(ask: { resource: Resource; database: string; user: string; sql: string }): Promise<Action[]> {
  await loadParser()
  return describeSql(ask.sql).map((described) => statementAction(ask, described, ORDINARY))
}
