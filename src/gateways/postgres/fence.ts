import type { Guard } from '../../access/types.ts'
import type { PostgresDatabaseSpec } from '../../catalog/postgres-database.ts'
import { parseDuration } from '../../encoding/duration.ts'
import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import { anyMaskAction, mayWriteAction, type Place } from './describe.ts'
import type { MaskContext, MaskKeeper } from './masks/keeper.ts'
import type { Order } from './masks/order.ts'
import type { Mask } from './masks/types.ts'
import { type Ceiling, type Ceilings, effectOfSetting, steersPlanner } from './sql/settings.ts'

/** The second fence, below the judging of statements: what the session itself is held to in the database. */

/**
 * Whether any rule could let this connection change something. Where none could, the session is read-only: a view or
 * operator that calls a writing function fails in the database too (B18). What only an approval would allow counts as a write.
 */
export function mayWrite(guard: Pick<Guard, 'judge'>, session: LiveSession, place: Place): boolean {
  return guard.judge(session, mayWriteAction(place)).verdict !== 'deny'
}

/** How far sessions of this place must be kept from indexes, for all masks that could hold there now. */
export function orderFor(guard: Pick<Guard, 'demands'>, masks: MaskKeeper, session: LiveSession, place: Place, context: MaskContext): Order {
  return masks.order(guard.demands(session, anyMaskAction(place), 'mask') as readonly Mask[], context)
}

const STRICTNESS: readonly Order[] = ['free', 'no index-only', 'no index']

/** Whether a session that is held to `held` may go on where `wanted` is needed. */
export const isHeldTo = (held: Order, wanted: Order): boolean => STRICTNESS.indexOf(held) >= STRICTNESS.indexOf(wanted)

/**
 * Settings of the startup packet by which the planner reads rows in no hidden order; RESET ALL leads back to them. What is `on` here
 * may be `off` for the user or the database, and then all ways would cost the same again.
 */
export function planning(order: Order): Readonly<Record<string, string>> {
  if (order === 'free') return {}
  const held = { enable_indexonlyscan: 'off' }
  return order === 'no index-only' ? held : { ...held, enable_indexscan: 'off', enable_seqscan: 'on', enable_bitmapscan: 'on', enable_sort: 'on' }
}

/** Throws ChaperoneError when the client began with settings that steer the planner. */
export function assertUnsteered(order: Order, settings: Readonly<Record<string, string>>): void {
  const name = Object.keys(settings).find(steersPlanner)
  if (order === 'free' || name === undefined) return
  throw new ChaperoneError(
    'unsupported',
    `The startup parameter ${JSON.stringify(name)} is not accepted: it steers by which index rows are read, and their order could tell of columns that a rule hides.`,
    { fix: 'Leave it out.' },
  )
}

const CEILING_OF: Readonly<Record<'statement' | 'lock_wait' | 'idle_in_transaction' | 'idle', Ceiling>> = {
  statement: 'statement_timeout',
  lock_wait: 'lock_timeout',
  idle_in_transaction: 'idle_in_transaction_session_timeout',
  idle: 'idle_session_timeout',
}

/**
 * The times of the document, where they are tighter than what the database gives this user (`given`), and those that the client
 * wants to begin with (`wanted`), which may only be tighter still. They cannot go with the startup packet, where they would lift
 * what the database's own `ALTER ROLE ... SET` says; `settings` are made after the login. `known`: what this server has
 * (idle_session_timeout came with PostgreSQL 14, transaction_timeout with 17). Throws ChaperoneError.
 */
export function timesOf(
  limits: PostgresDatabaseSpec['limits'],
  wanted: readonly (readonly [Ceiling, string])[],
  given: Ceilings,
  known: (setting: Ceiling) => boolean,
): { readonly ceilings: Ceilings; readonly settings: Readonly<Record<string, string>> } {
  const ceilings: Partial<Record<Ceiling, number>> = { ...given }
  const settings: Record<string, string> = {}
  for (const [name, setting] of Object.entries(CEILING_OF) as [keyof typeof CEILING_OF, Ceiling][]) {
    const text = limits[name]
    const limit = text === undefined ? 0 : parseDuration(text)
    const before = given[setting] ?? 0
    if (limit === 0 || (before > 0 && before <= limit) || !known(setting)) continue
    ceilings[setting] = limit
    settings[setting] = String(limit)
  }
  const pinned = Object.keys(settings) as Ceiling[]
  const all: Ceilings = pinned.length > 0 ? { ...ceilings, pinned } : ceilings
  for (const [name, value] of wanted) {
    const { effects, unclear } = effectOfSetting(name, value, all)
    if (unclear !== undefined || effects.some((effect) => effect !== 'read'))
      throw new ChaperoneError(
        'unsupported',
        `The startup parameter ${JSON.stringify(name)} is not accepted: it may only be shorter than ${all[name] ?? 0} ms.`,
        {
          fix: 'Leave it out, or make it shorter.',
        },
      )
    if (known(name)) settings[name] = value
  }
  return { ceilings: all, settings }
}

/** The first version that knows a setting. */
const SINCE: Readonly<Partial<Record<Ceiling, number>>> = { idle_session_timeout: 14, transaction_timeout: 17 }

/** `serverVersion`: as the server says it in its ParameterStatus, such as `15.18 (Debian ...)`. */
export const knowsSetting = (serverVersion: string | undefined) => (setting: Ceiling) =>
  (Number.parseInt(serverVersion ?? '', 10) || 0) >= (SINCE[setting] ?? 0)
