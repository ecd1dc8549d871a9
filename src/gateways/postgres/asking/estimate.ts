import type { Wording } from '../conversation/question.ts'
import { describeSql, type SqlContext } from '../describe.ts'
import { READ_FUNCTIONS, RUN_BY_PLANNER } from '../sql/functions.ts'
import { bindMessage, bindValuesMessage, closeMessage, describeMessage, executeMessage, parseMessage } from '../wire/write.ts'
import type { Given } from './bound.ts'

/** ms that planning may take, locks that it waits for included. */
const MOST_MS = 2_000
const COUNTED: ReadonlySet<string> = new Set(['update', 'delete', 'merge'])
const EXPLAIN = 'EXPLAIN (FORMAT JSON) '

/**
 * Why the statement is not planned for an estimate, or undefined. Planning runs functions that call themselves immutable or
 * stable, and whatever is behind operators, casts and domains of the user's: so only what touches none of these is planned. The
 * question is judged by the same walk as the client's own EXPLAIN, and must come out as a plain read.
 */
export function whyNoEstimate(text: string, context: SqlContext): string | undefined {
  const [one, second] = describeSql(EXPLAIN + text, context)
  if (!one || second || one.kind !== 'explain' || one.unclear !== undefined) return 'it cannot be planned by itself'
  const own = one.functions.some((name) => {
    const builtin = name.replace(/^pg_catalog\./, '')
    return !READ_FUNCTIONS.has(builtin) || RUN_BY_PLANNER.has(builtin)
  })
  if (own || one.opaque || one.loose || one.unknown) return "planning it could run functions of the database's own"
  return one.effects.every((effect) => effect === 'read') ? undefined : 'planning it could do more than read'
}

/** Whether the number of rows says something about the statement. */
export const isCounted = (kinds: readonly string[]) => kinds.some((kind) => COUNTED.has(kind))

const FENCE = `SELECT pg_catalog.set_config('transaction_read_only', 'on', true), pg_catalog.set_config('statement_timeout', '${MOST_MS}', true), pg_catalog.set_config('lock_timeout', '${MOST_MS}', true)`

/** Which types the server gives to the parameters: parsed, and not run. */
export const parameterTypes = (text: string, { declared }: Given): Wording => ({
  messages: (name) => [parseMessage(name, text, declared), describeMessage('S', name), closeMessage('S', name)],
})

/**
 * The plan, in a transaction of its own that cannot write and has its time. PREPARE takes one statement, so nothing can stand
 * behind the EXPLAIN.
 */
export const planning = (text: string, { declared, values, formats }: Given): Wording => ({
  messages: (name) => [
    ...whole(`${name} fence`, parseMessage(`${name} fence`, FENCE), bindMessage(`${name} fence`, `${name} fence`)),
    ...whole(name, parseMessage(name, EXPLAIN + text, declared), bindValuesMessage(name, name, values, formats)),
  ],
})

/** Closes what a question that failed left behind: the server skips to the Sync, and its own Close with it. */
export const closing = (name: string): Wording => ({ messages: () => [closeMessage('S', name), closeMessage('S', `${name} fence`)] })

const whole = (name: string, parse: Buffer, bind: Buffer): Buffer[] => [
  parse,
  bind,
  executeMessage(name),
  closeMessage('P', name),
  closeMessage('S', name),
]

/** Rows that the outermost change would touch, as the planner thinks; undefined when the plan does not say. */
export function rowsIn(plan: string | null | undefined): number | undefined {
  try {
    const [{ Plan: top }] = JSON.parse(plan ?? '') as [{ Plan: PlanNode }]
    const change = top['Node Type'] === 'ModifyTable' ? top : changeIn(top)
    // ModifyTable itself gives no rows without RETURNING; the one below it gives those that are changed.
    const rows = (change?.Plans ?? []).filter((one) => one['Parent Relationship'] !== 'InitPlan' && one['Parent Relationship'] !== 'SubPlan')
    const sum = rows.reduce((all, one) => all + (one['Plan Rows'] ?? Number.NaN), 0)
    return rows.length > 0 && Number.isFinite(sum) ? sum : undefined
  } catch {
    return undefined
  }
}

interface PlanNode {
  readonly 'Node Type': string
  readonly 'Plan Rows'?: number
  readonly 'Parent Relationship'?: string
  readonly Plans?: readonly PlanNode[]
}

function changeIn(node: PlanNode): PlanNode | undefined {
  for (const one of node.Plans ?? []) {
    const found = one['Node Type'] === 'ModifyTable' ? one : changeIn(one)
    if (found) return found
  }
  return undefined
}
