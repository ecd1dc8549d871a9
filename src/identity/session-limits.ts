import type { Clock } from '../clock.ts'
import { instantText } from '../encoding/moment.ts'
import { ChaperoneError } from '../errors.ts'
import type { Policy } from '../policy/compile.ts'
import { type SessionLimits, sessionLimitsOf } from '../policy/session-limits.ts'
import type { Link } from '../policy/types.ts'
import type { Database, Write } from '../store/store.ts'
import { isCopied } from './copied.ts'
import { activeLocks } from './locks.ts'

/**
 * What binds a session of this chain: how long it may be idle and live is the least that any link says, for each can only
 * narrow; how many there may be is a matter of the identity whose sessions they are. Pure.
 */
export function limitsOfChain(policy: Policy, links: readonly Pick<Link, 'identity'>[]): SessionLimits {
  const all = links.map(({ identity }) => sessionLimitsOf(policy, identity))
  const { idleMs, longestMs } = smallestLimits(all)
  const concurrent = all.at(-1)?.concurrent
  return {
    ...(concurrent === undefined ? {} : { concurrent }),
    ...(idleMs === undefined ? {} : { idleMs }),
    ...(longestMs === undefined ? {} : { longestMs }),
  }
}

function smallestLimits(all: readonly SessionLimits[]): SessionLimits {
  const least = (key: keyof SessionLimits) => {
    const values = all.flatMap((one) => one[key] ?? [])
    return values.length === 0 ? {} : { [key]: Math.min(...values) }
  }
  return { ...least('concurrent'), ...least('idleMs'), ...least('longestMs') }
}

/** Of the row of a session: whether nothing was asked for in it for `idleMs`. */
const isIdle = (row: { readonly started_at: number; readonly last_used_at: number | null }, idleMs: number | undefined, now: number): boolean =>
  idleMs !== undefined && now - (row.last_used_at ?? row.started_at) >= idleMs

export interface Room {
  readonly identity: { readonly id: string; readonly name: string }
  readonly concurrent: number | undefined
  readonly idleMs: number | undefined
  readonly now: number
  /** when a session was last used on this node, if it was; the row knows it half a minute later */
  readonly usedHere: (sessionId: string) => number | undefined
  /** those that the new one takes the place of */
  readonly instead?: readonly string[]
}

/**
 * The sessions that hold a place, oldest first. One that is idle holds none, whoever notices that first; nor does one that is
 * locked because somebody holds a copy: else the thief would keep the honest one from joining again.
 */
export async function placesTaken(db: Database | Write, { identity, idleMs, now, usedHere, instead = [] }: Room) {
  const rows = await db
    .selectFrom('sessions')
    .select(['id', 'client', 'how', 'started_at', 'last_used_at'])
    .where('identity_id', '=', identity.id)
    .where('ended_at', 'is', null)
    .where('expires_at', '>', now)
    .orderBy('started_at')
    .execute()
  const locks = rows.length === 0 ? [] : await activeLocks(db, now)
  return rows.filter(
    (row) =>
      !instead.includes(row.id) &&
      !locks.some(isCopied(row.id)) &&
      !isIdle({ ...row, last_used_at: Math.max(row.last_used_at ?? row.started_at, usedHere(row.id) ?? 0) }, idleMs, now),
  )
}

/** Throws `too_many`, with the session that one would end. */
export async function assertRoomFor(db: Database | Write, room: Room): Promise<void> {
  const { identity, concurrent } = room
  if (concurrent === undefined) return
  const taken = await placesTaken(db, room)
  if (taken.length < concurrent) return
  const [oldest] = taken
  const count = concurrent === 1 ? 'one session' : `${concurrent} sessions`
  throw new ChaperoneError('too_many', `${identity.name} may have ${count} at a time, and has ${taken.length}.`, {
    ...(oldest
      ? {
          fix: `End the oldest, ${oldest.id} (${oldest.client ?? oldest.how}, since ${instantText(oldest.started_at)}): chaperone sessions kill ${oldest.id}`,
        }
      : {}),
  })
}

/** Open sessions of one identity, whatever its roles say. */
const MOST_SESSIONS = 1000

/** What starts over and over must not fill the store (rule 11). Throws `too_many`. */
export async function assertSessionsLeft(
  { store, clock }: { readonly store: { readonly db: Database }; readonly clock: Clock },
  { id, name }: { readonly id: string; readonly name: string },
  fix = 'End some: chaperone sessions ls, chaperone sessions kill.',
): Promise<void> {
  const { count } = await store.db
    .selectFrom('sessions')
    .select((is) => is.fn.countAll<number>().as('count'))
    .where('identity_id', '=', id)
    .where('ended_at', 'is', null)
    .where('expires_at', '>', clock.now())
    .executeTakeFirstOrThrow()
  if (Number(count) >= MOST_SESSIONS) throw new ChaperoneError('too_many', `${name} has ${MOST_SESSIONS} open sessions.`, { fix })
}
