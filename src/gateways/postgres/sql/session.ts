import type { Tally } from './findings.ts'
import { listOf, type Tree, textOf, unwrap } from './nodes.ts'

/** SET, RESET, SET TRANSACTION: which of them moves a fence. */
export function setStatement(found: Tally, tree: Tree): void {
  found.is('set')
  const name = String(tree.name ?? '')
  const args = listOf(tree.args)
  switch (tree.kind) {
    case 'VAR_SET_VALUE':
      found.sets(name, constantOf(args))
      return
    case 'VAR_SET_DEFAULT':
    case 'VAR_RESET':
      found.sets(name, undefined)
      return
    case 'VAR_SET_MULTI':
      if (name === 'TRANSACTION' || name === 'SESSION CHARACTERISTICS') {
        transactionModes(found, args)
        return
      }
      // SET TRANSACTION SNAPSHOT, and what may come.
      found.settings.add(name.toLowerCase())
      found.does('admin')
      return
    default:
      // RESET ALL: every setting goes back to what the connection began with. What holds the session stands there already, or is
      // set again before anything else is read (B07); pools send it with each connection that comes back.
      found.settings.add('all')
      found.does('read')
      found.loose = true
  }
}

export function transactionStatement(found: Tally, tree: Tree): void {
  found.is('transaction')
  found.does('read')
  // A prepared transaction outlives the connection, and everything that could roll it back.
  if (String(tree.kind).includes('PREPARE')) found.does('write')
  transactionModes(found, listOf(tree.options))
}

function transactionModes(found: Tally, options: readonly unknown[]): void {
  found.does('read')
  for (const option of options) {
    const { defname, arg } = unwrap(option)[1]
    if (defname === 'transaction_read_only') {
      found.settings.add('transaction_read_only')
      if (textOf(arg) !== '1') found.does('write')
    } else if (defname !== 'transaction_isolation' && defname !== 'transaction_deferrable') found.does('admin')
  }
}

/** `SET search_path TO app, public` takes a list; null when it is not all constants. */
function constantOf(args: readonly unknown[]): string | null {
  const values = args.map(textOf)
  return values.length > 0 && values.every((value) => value !== undefined) ? values.join(', ') : null
}

const SCHEMA_KINDS = /^OBJECT_(SCHEMA|ROLE)$/

/**
 * Whether the search path, or what it leads to, may be another one after a definition: schemas come, go, and are shut to
 * somebody, and the first temporary object puts the session's own schema before all others.
 */
export function movesPath(type: string, tree: Tree): boolean {
  const made = (tree.relation ?? tree.view ?? tree.sequence) as Tree | undefined
  if (made?.relpersistence === 't') return true
  if (/^(CreateSchema|DropOwned|ReassignOwned|GrantRole|CreateExtension|AlterRole|DropRole)Stmt$/.test(type)) return true
  return SCHEMA_KINDS.test(String(tree.removeType ?? tree.renameType ?? tree.objtype ?? tree.objectType ?? ''))
}
