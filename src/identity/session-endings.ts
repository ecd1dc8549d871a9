import type { AuditLog, Draft } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import type { SessionLimits } from '../policy/session-limits.ts'
import { pastDeadlocks } from '../store/deadlock.ts'
import type { Store, Write } from '../store/store.ts'
import { type EndedBy, type EndReason, kept, sessionOver } from './end-reasons.ts'
import { type Ending, type EndingDelegation, type EndingSession, whatEndsWith } from './endings.ts'
import type { OpenSession } from './live-session.ts'
import type { ChainLink } from './types.ts'

/** Rows in one statement. */
const CHUNK = 500

interface EndingParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly raised: (epoch: number) => Promise<void>
}

/** Whose end it is that takes the others along. */
export interface EndWhat {
  readonly sessions?: readonly string[]
  readonly delegations?: readonly string[]
}

/** The ends of sessions and delegations: on record, in the store, and in this process. `live`: the sessions that it knows. */
export function sessionEndings(
  { store, audit, clock, raised, limitsOf }: EndingParts & { readonly limitsOf: (chain: readonly ChainLink[]) => SessionLimits },
  live: ReadonlyMap<string, OpenSession>,
) {
  const record = (ending: Ending, what: EndWhat, reason: EndReason, by: EndedBy | undefined) =>
    Promise.all([
      ...ending.sessions.map((one) => audit.append(sessionDraft(one, what, reason, by))),
      ...ending.delegations.map((one) => audit.append(delegationDraft(one, what, reason, by))),
    ])

  /**
   * What its clients run with ends with a session: who signed out, or was thrown out, has no tool that is still signed in, and what
   * he gave for as long as he is signed in is over. What rests on a delegation ends with that.
   */
  async function end(what: EndWhat, reason: EndReason, by?: EndedBy): Promise<void> {
    const found = await whatEndsWith(store.db, what)
    if (isNothing(found)) return
    await record(found, what, reason, by)
    const { result: all, epoch } = await pastDeadlocks(() =>
      store.reduce((trx) => endRows(trx, { what, first: found, end: { at: clock.now(), why: kept(reason, by) } })),
    )
    for (const { id } of all.sessions) live.get(id)?.end(sessionOver(kept(reason, by)))
    await raised(epoch)
    // What began after the look, and before nothing could any more.
    const known = new Set([...found.sessions, ...found.delegations].map(({ id }) => id))
    const late = (one: { readonly id: string }) => !known.has(one.id)
    await record({ sessions: all.sessions.filter(late), delegations: all.delegations.filter(late) }, what, reason, by)
  }

  /** Whether its roles end it; the one that they leave is live. */
  async function overBy(session: OpenSession, { idleMs, longestMs }: SessionLimits): Promise<'idle' | 'longest' | undefined> {
    const now = clock.now()
    if (longestMs !== undefined && now - session.startedAt >= longestMs) return 'longest'
    if (idleMs === undefined || now - session.lastUsed < idleMs) return undefined
    // It may be at work on another node.
    const row = await store.db.selectFrom('sessions').select('last_used_at').where('id', '=', session.id).executeTakeFirst()
    session.lastUsed = Math.max(session.lastUsed, row?.last_used_at ?? 0)
    return now - session.lastUsed >= idleMs ? 'idle' : undefined
  }

  return {
    end,

    /** Ends it when its roles say so, and throws then. */
    async assertInTime(session: OpenSession): Promise<void> {
      const over = await overBy(session, limitsOf(session.principal.chain))
      if (!over) return
      await end({ sessions: [session.id] }, over)
      throw sessionOver(over)
    },

    /** Ends all that its roles end. */
    async sweep(): Promise<void> {
      const over = new Map<'idle' | 'longest', string[]>()
      for (const session of live.values()) {
        const why = await overBy(session, quietly(limitsOf, session.principal.chain))
        if (why) over.set(why, [...(over.get(why) ?? []), session.id])
      }
      for (const [why, sessions] of over) await end({ sessions }, why)
    },
  }
}

/** A link that is gone is the review's business, which cuts it. */
function quietly(limitsOf: (chain: readonly ChainLink[]) => SessionLimits, chain: readonly ChainLink[]): SessionLimits {
  try {
    return limitsOf(chain)
  } catch {
    return {}
  }
}

const isNothing = ({ sessions, delegations }: Ending): boolean => sessions.length === 0 && delegations.length === 0

/**
 * Ends the rows, and then what was made from them meanwhile, until there is nothing. Whatever begins holds the rows that it rests on
 * (`holdStanding`): so it either came before, and is found here, or finds them ended. Call it inside `store.reduce`.
 */
export async function endRows(
  trx: Write,
  { what, first, end }: { readonly what: EndWhat; readonly first: Ending; readonly end: { readonly at: number; readonly why: string } },
): Promise<Ending> {
  const all: { sessions: EndingSession[]; delegations: EndingDelegation[] } = { sessions: [], delegations: [] }
  const set = { ended_at: end.at, end_reason: end.why }
  for (let next = first; !isNothing(next); ) {
    // Always in this order, as those who begin hold them: else the two would wait for each other.
    for (const some of inChunks(next.sessions))
      await trx.updateTable('sessions').set(set).where('id', 'in', some).where('ended_at', 'is', null).execute()
    for (const some of inChunks(next.delegations))
      await trx.updateTable('delegations').set(set).where('id', 'in', some).where('ended_at', 'is', null).execute()
    all.sessions.push(...next.sessions)
    all.delegations.push(...next.delegations)
    const ids = (rows: readonly { readonly id: string }[], more: readonly string[] = []) => [...more, ...rows.map(({ id }) => id)]
    next = await whatEndsWith(trx, { sessions: ids(all.sessions, what.sessions), delegations: ids(all.delegations, what.delegations) })
  }
  return all
}

function* inChunks(rows: readonly { readonly id: string }[]): Iterable<string[]> {
  const ids = rows.map(({ id }) => id).sort()
  for (let from = 0; from < ids.length; from += CHUNK) yield ids.slice(from, from + CHUNK)
}

const sessionDraft = ({ id, parent_id, identity_id, name, kind }: EndingSession, { sessions }: EndWhat, reason: EndReason, by?: EndedBy): Draft => ({
  type: 'session.ended',
  session: id,
  actor: { id: identity_id, name, kind },
  data: { reason, ...(by ? { by: by.name } : {}), ...(parent_id !== null && !sessions?.includes(id) ? { parent: parent_id } : {}) },
})

const delegationDraft = ({ id, from_id, to_id, how }: EndingDelegation, what: EndWhat, reason: EndReason, by?: EndedBy): Draft => ({
  type: 'delegation.ended',
  ...(by ? { actor: by } : {}),
  data: {
    delegation: id,
    from: from_id,
    to: to_id,
    ...(how === null ? {} : { how }),
    reason,
    // It ended with what it rests on.
    ...(what.delegations?.includes(id) ? {} : { with: what.delegations?.[0] ?? what.sessions?.[0] }),
  },
})

/** Of these sessions, the ones that another node ended: read after the epoch has risen. */
export async function endedAmong(store: Store, ids: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const over = new Map<string, string>()
  for (let from = 0; from < ids.length; from += CHUNK) {
    const rows = await store.db
      .selectFrom('sessions')
      .select(['id', 'end_reason'])
      .where('id', 'in', ids.slice(from, from + CHUNK))
      .where('ended_at', 'is not', null)
      .execute()
    for (const row of rows) over.set(row.id, row.end_reason ?? 'ended')
  }
  return over
}
