import type { Database, Write } from '../store/store.ts'

/** Rows in one statement. */
const CHUNK = 500
/** Sessions above one session: each look that follows them up, or down, ends there, so none may begin that lies deeper. */
export const MOST_ABOVE = 6
/** One step for each level below, and one that finds nothing. */
const DEEPEST = MOST_ABOVE + 2

export interface EndingSession {
  readonly id: string
  readonly parent_id: string | null
  readonly identity_id: string
  readonly name: string
  readonly kind: 'user' | 'agent' | 'node'
}

export interface EndingDelegation {
  readonly id: string
  readonly from_id: string
  readonly to_id: string
  readonly how: string | null
}

/** What is still open and ends together. */
export interface Ending {
  readonly sessions: readonly EndingSession[]
  readonly delegations: readonly EndingDelegation[]
}

/**
 * All that ends with these sessions and delegations: sessions made from a session that ends, delegations bound to it, delegations
 * handed on under one that ends, and the sessions that rest on any of those.
 */
export async function whatEndsWith(
  db: Database,
  { sessions = [], delegations = [] }: { readonly sessions?: readonly string[]; readonly delegations?: readonly string[] },
): Promise<Ending> {
  const found = { sessions: new Map<string, EndingSession>(), delegations: new Map<string, EndingDelegation>() }
  // One that is over already still has what was made from it.
  let given: readonly EndingDelegation[] = await byIds(db, delegations)
  let from: readonly string[] = sessions
  for (const one of await standing(db, 'id', delegations)) found.delegations.set(one.id, one)
  for (const one of await openSessions(db, 'sessions.id', sessions)) found.sessions.set(one.id, one)
  for (let depth = 0; depth < DEEPEST && (given.length > 0 || from.length > 0); depth++) {
    const givenIds = given.map(({ id }) => id)
    const [made, rest, bound, handedOn] = await Promise.all([
      openSessions(db, 'parent_id', from),
      restingOn(db, given),
      standing(db, 'session_id', from),
      standing(db, 'parent_id', givenIds),
    ])
    const open = [...made, ...rest].filter(({ id }) => !found.sessions.has(id))
    given = [...bound, ...handedOn].filter(({ id }) => !found.delegations.has(id))
    from = open.map(({ id }) => id)
    for (const one of given) found.delegations.set(one.id, one)
    for (const one of open) found.sessions.set(one.id, one)
  }
  return { sessions: [...found.sessions.values()], delegations: [...found.delegations.values()] }
}

async function chunked<T>(ids: readonly string[], look: (some: readonly string[]) => Promise<readonly T[]>): Promise<readonly T[]> {
  const all: T[] = []
  for (let from = 0; from < ids.length; from += CHUNK) all.push(...(await look(ids.slice(from, from + CHUNK))))
  return all
}

const COLUMNS = ['sessions.id', 'parent_id', 'identity_id', 'identities.name', 'identities.kind'] as const

const openRows = (db: Database) =>
  db.selectFrom('sessions').innerJoin('identities', 'identities.id', 'sessions.identity_id').select(COLUMNS).where('ended_at', 'is', null)

const openSessions = (db: Database, by: 'sessions.id' | 'parent_id', ids: readonly string[]): Promise<readonly EndingSession[]> =>
  chunked(ids, (some) => openRows(db).where(by, 'in', some).execute())

/** Sessions of those to whom it was given, in whose chain the delegation stands. */
async function restingOn(db: Database, delegations: readonly EndingDelegation[]): Promise<readonly EndingSession[]> {
  const all: EndingSession[] = []
  for (const { id, to_id } of delegations)
    all.push(...(await openRows(db).where('identity_id', '=', to_id).where('chain', 'like', `%"${id}"%`).execute()))
  return all
}

const byIds = (db: Database, ids: readonly string[]): Promise<readonly EndingDelegation[]> =>
  chunked(ids, (some) => db.selectFrom('delegations').select(['id', 'from_id', 'to_id', 'how']).where('id', 'in', some).execute())

const standing = (db: Database, by: 'id' | 'session_id' | 'parent_id', ids: readonly string[]): Promise<readonly EndingDelegation[]> =>
  chunked(ids, (some) =>
    db.selectFrom('delegations').select(['id', 'from_id', 'to_id', 'how']).where('ended_at', 'is', null).where(by, 'in', some).execute(),
  )

/**
 * The rows that something is about to rest on, held until this transaction is over: nobody ends them meanwhile, and whoever does so
 * afterwards finds what began. False when one of them is over. Sessions first, as those who end them do.
 */
export async function holdStanding(
  trx: Write,
  { sessions = [], delegations = [] }: { readonly sessions?: readonly string[]; readonly delegations?: readonly string[] },
): Promise<boolean> {
  for (const [table, ids] of [
    ['sessions', sessions],
    ['delegations', delegations],
  ] as const) {
    for (const id of [...new Set(ids)].sort()) {
      // A change that changes nothing: both stores hold a row for one that they are changing.
      const { numUpdatedRows } = await trx
        .updateTable(table)
        .set({ ended_at: null })
        .where('id', '=', id)
        .where('ended_at', 'is', null)
        .executeTakeFirstOrThrow()
      if (numUpdatedRows === 0n) return false
    }
  }
  return true
}
