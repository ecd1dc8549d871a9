import type { Tally } from './findings.ts'
import { listOf, type Tree, textOf, unwrap } from './nodes.ts'

/** SET, RESET, SET TRANSACTION: which of them moves a fence. */
export function setStatement(found: Tally, tree: Tree): void {
  found.is('set')
  const name = String(tree.name ?? '')
  const args = listOf(tree.args)
  switch (tree.kind) {
    case 'VAR_SET_VALUE':
      found.sets(name, args.length === 1 ? (textOf(args[0]) ?? null) : null)
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
      // RESET ALL: every setting goes back to what the database gives (B07).
      found.settings.add('all')
      found.does('admin')
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
