import { type Tree, unwrap } from './nodes.ts'

/**
 * Which names of the session a statement makes, uses or takes away. The server keeps prepared statements of SQL and of the
 * protocol in one place, and cursors and portals in another. `null`: all of them.
 */
export interface Handles {
  readonly prepares?: string
  readonly executes?: string
  readonly forgets?: string | null
  readonly closes?: string | null
  /** SAVEPOINT, RELEASE of one */
  readonly marks?: string
  readonly releases?: string
  /** ROLLBACK TO. `null`: the whole transaction is over, one way or the other. */
  readonly undoes?: string | null
}

const NONE: Handles = {}

export function handlesOf(statement: Tree): Handles {
  const [type, tree] = unwrap(statement)
  switch (type) {
    case 'PrepareStmt':
      return { prepares: String(tree.name) }
    case 'ExecuteStmt':
      return { executes: String(tree.name) }
    case 'DeallocateStmt':
      return { forgets: tree.isall === true ? null : String(tree.name) }
    case 'DiscardStmt':
      return tree.target === 'DISCARD_ALL' ? { forgets: null, closes: null } : NONE
    case 'ClosePortalStmt':
      return { closes: tree.portalname === undefined ? null : String(tree.portalname) }
    case 'TransactionStmt':
      return inTransaction(String(tree.kind), String(tree.savepoint_name ?? ''))
    case 'CreateTableAsStmt':
    case 'ExplainStmt':
      // CREATE TABLE x AS EXECUTE p; EXPLAIN ANALYZE CREATE TABLE x AS EXECUTE p
      return tree.query === undefined ? NONE : onlyUses(handlesOf(tree.query as Tree))
    default:
      return NONE
  }
}

function inTransaction(kind: string, savepoint: string): Handles {
  switch (kind) {
    case 'TRANS_STMT_SAVEPOINT':
      return { marks: savepoint }
    case 'TRANS_STMT_RELEASE':
      return { releases: savepoint }
    case 'TRANS_STMT_ROLLBACK_TO':
      return { undoes: savepoint }
    case 'TRANS_STMT_COMMIT':
    case 'TRANS_STMT_ROLLBACK':
    case 'TRANS_STMT_PREPARE':
      return { undoes: null }
    default:
      return NONE
  }
}

const onlyUses = ({ executes }: Handles): Handles => (executes === undefined ? NONE : { executes })
