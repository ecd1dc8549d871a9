import { sql } from 'kysely'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { ChainLink } from '../../identity/types.ts'
import type { Database, Store, Write } from '../../store/store.ts'
import { storeTime } from '../../store/store-time.ts'
import type { RequestTable, RequestVoteTable } from '../../store/tables-requests.ts'
import { erased, forgotten } from './erasing.ts'
import { assertMayAsk } from './limits.ts'
import type { AccessRequest, Need, RequestFilter, RequestKind, RequestState, Vote } from './types.ts'

/** What a new request says; the rest of its row is empty. */
export interface NewRequest {
  readonly id: string
  readonly kind: RequestKind
  readonly identityId: string
  readonly chain: readonly ChainLink[]
  readonly body: unknown
  readonly reason: string
  readonly purpose?: string | undefined
  readonly sessionId?: string | undefined
  readonly needs: readonly Need[]
  readonly expiresAt?: number
  readonly startsAt?: number
  readonly role?: string
  readonly resourceId?: string
  readonly digest?: string
  /** when what was shown is erased, at the latest */
  readonly eraseAt?: number
}

/** Of one listing; newest first. */
const MOST_LISTED = 500
/** In one transaction; the rest has its turn in some seconds. */
const MOST_ERASED = 200

/** The rows of requests and votes. Every change goes by compare-and-swap on the row as it was read: of two who change it, one does. */
export function openBook(store: Store, clock: Clock) {
  /** The store's own time, which never goes back; and always later than the row's last change. */
  const later = () => {
    const now = storeTime(store.dialect, clock)
    return store.dialect === 'sqlite' ? sql<number>`max(${now}, updated_at + 1)` : sql<number>`greatest(${now}, updated_at + 1)`
  }

  const withVotes = async (db: Database | Write, rows: readonly RequestTable[]): Promise<AccessRequest[]> => {
    if (rows.length === 0) return []
    const votes = await db
      .selectFrom('request_votes')
      .selectAll()
      .where(
        'request_id',
        'in',
        rows.map((row) => row.id),
      )
      .orderBy('at')
      .orderBy('identity_id')
      .execute()
    return rows.map((row) =>
      fromRow(
        row,
        votes.filter((vote) => vote.request_id === row.id),
      ),
    )
  }

  return {
    async find(id: string, db: Database | Write = store.db): Promise<AccessRequest | undefined> {
      const rows = await db.selectFrom('requests').selectAll().where('id', '=', id).execute()
      return (await withVotes(db, rows))[0]
    },

    /** The newest about exactly this call; of two of one millisecond the one that is not over. */
    async ofCall(identityId: string, digest: string): Promise<AccessRequest | undefined> {
      const rows = await store.db
        .selectFrom('requests')
        .selectAll()
        .where('identity_id', '=', identityId)
        .where('digest', '=', digest)
        .orderBy('created_at', 'desc')
        .limit(8)
        .execute()
      const newest = rows.filter((row) => row.created_at === rows[0]!.created_at)
      const row =
        newest.find(({ state }) => state === 'pending' || state === 'approved') ?? newest.find(({ state }) => state === 'denied') ?? newest[0]
      return row && (await withVotes(store.db, [row]))[0]
    },

    /** The call whose approval this permit has used up (`Asking.continues`). */
    async ofPermit(identityId: string, permit: string): Promise<AccessRequest | undefined> {
      const row = await store.db.selectFrom('requests').selectAll().where('identity_id', '=', identityId).where('permit', '=', permit).execute()
      return (await withVotes(store.db, row))[0]
    },

    /** Newest first. `of`: asked by this identity, or on its behalf. `within`: asked in a chain that begins with this one. */
    async list(
      filter: Pick<RequestFilter, 'state' | 'kind' | 'limit'> & { readonly of?: string; readonly within?: readonly ChainLink[] },
    ): Promise<AccessRequest[]> {
      let query = store.db.selectFrom('requests').selectAll()
      if (filter.state !== undefined) query = query.where('state', '=', filter.state)
      if (filter.kind !== undefined) query = query.where('kind', '=', filter.kind)
      const { of, within } = filter
      if (within !== undefined) query = query.where('chain', 'like', `[${within.map((link) => `{"identity":"${link.identity}"%`).join('')}`)
      // Ids hold neither quotes nor wildcards.
      if (of !== undefined)
        query = query.where((is) =>
          is.or([
            is('identity_id', '=', of),
            is('chain', 'like', `%"identity":"${of}"%`),
            is('identity_id', 'in', is.selectFrom('identities').select('id').where('owner_id', '=', of)),
          ]),
        )
      const rows = await query
        .orderBy('id', 'desc')
        .limit(Math.min(filter.limit ?? MOST_LISTED, MOST_LISTED))
        .execute()
      return withVotes(store.db, rows)
    },

    /** What has changed after this time of the store, oldest first. */
    async changedSince(since: number): Promise<AccessRequest[]> {
      const rows = await store.db
        .selectFrom('requests')
        .selectAll()
        .where('updated_at', '>', since)
        .orderBy('updated_at')
        .limit(MOST_LISTED)
        .execute()
      return withVotes(store.db, rows)
    },

    /** Rows of these states for which `due` holds, the oldest first: for the sweep. */
    async where(due: (query: ReturnType<typeof allOf>) => ReturnType<typeof allOf>): Promise<AccessRequest[]> {
      return withVotes(store.db, await due(allOf(store.db)).orderBy('id').limit(MOST_LISTED).execute())
    },

    /** Its record must already be written. Throws `conflict` when the same call waits already, asked on another node in the same moment. */
    async add(trx: Write, asked: NewRequest, more: Partial<RequestTable> = {}): Promise<AccessRequest> {
      const now = clock.now()
      await assertMayAsk(trx, asked, now)
      const row = await trx
        .insertInto('requests')
        .values({
          id: asked.id,
          kind: asked.kind,
          identity_id: asked.identityId,
          chain: JSON.stringify(asked.chain),
          body: JSON.stringify(asked.body),
          reason: asked.reason,
          state: 'pending',
          decided_by: null,
          decided_at: null,
          created_at: now,
          updated_at: storeTime(store.dialect, clock),
          session_id: asked.sessionId ?? null,
          purpose: asked.purpose ?? null,
          needs: JSON.stringify(asked.needs),
          expires_at: asked.expiresAt ?? null,
          starts_at: asked.startsAt ?? null,
          ends_at: null,
          role: asked.role ?? null,
          resource_id: asked.resourceId ?? null,
          below: 0,
          digest: asked.digest ?? null,
          permit: null,
          node_id: null,
          outcome: null,
          escalated_at: null,
          review_due: null,
          reviewed_by: null,
          reviewed_at: null,
          erase_at: asked.eraseAt ?? null,
          ...more,
        })
        .onConflict((already) => already.doNothing())
        .returningAll()
        .executeTakeFirst()
      if (!row) throw new ChaperoneError('conflict', 'This is asked already.')
      return fromRow(row, [])
    },

    /** Throws `conflict` when the row is not as it was read. */
    async change(trx: Write, before: AccessRequest, set: Partial<RequestTable>): Promise<AccessRequest> {
      const row = await trx
        .updateTable('requests')
        .set({ ...set, ...forgotten(before, set.state), updated_at: later() })
        .where('id', '=', before.id)
        .where('state', '=', before.state)
        .where('updated_at', '=', before.updatedAt)
        .returningAll()
        .executeTakeFirst()
      if (!row) throw changedMeanwhile()
      return (await withVotes(trx, [row]))[0]!
    },

    async vote(trx: Write, before: AccessRequest, vote: Vote & { readonly sessionId: string }): Promise<void> {
      // Who said yes to what the role said before may say it again to what it says now.
      await trx
        .deleteFrom('request_votes')
        .where('request_id', '=', before.id)
        .where('identity_id', '=', vote.identityId)
        .where('seen', '!=', vote.seen ?? '')
        .execute()
      const added = await trx
        .insertInto('request_votes')
        .values({
          request_id: before.id,
          identity_id: vote.identityId,
          verdict: vote.verdict,
          reason: vote.reason ?? null,
          how: vote.how,
          factor: vote.factor ?? null,
          seen: vote.seen ?? null,
          session_id: vote.sessionId,
          at: vote.at,
        })
        .onConflict((already) => already.doNothing())
        .executeTakeFirst()
      if (added.numInsertedOrUpdatedRows !== 1n) throw new ChaperoneError('conflict', 'You have said yes to it already.')
    },

    /** What came of a call that was used; undefined when this permit is not the one that used it, or it is said already. */
    async settle(trx: Write, id: string, permit: string, outcome: string, state: RequestState): Promise<AccessRequest | undefined> {
      const row = await trx
        .updateTable('requests')
        .set({ outcome, state, updated_at: later() })
        .where('id', '=', id)
        .where('permit', '=', permit)
        .where('state', '=', 'used')
        .where('outcome', 'is', null)
        .returningAll()
        .executeTakeFirst()
      const less = row && forgotten({ kind: row.kind, body: JSON.parse(row.body) }, state)
      if (less) await trx.updateTable('requests').set(less).where('id', '=', id).execute()
      return row && (await withVotes(trx, [{ ...row, ...less }]))[0]
    },

    /** Takes what was shown out of calls that are over for long enough. Theirs is no change that anybody must hear of. */
    async erase(now: number): Promise<void> {
      const due = await store.db
        .selectFrom('requests')
        .select(['id', 'body', 'state'])
        .where('erase_at', '<=', now)
        .where('state', 'not in', ['pending', 'approved'])
        .limit(MOST_ERASED)
        .execute()
      if (due.length === 0) return
      await store.write(async (trx) => {
        for (const { id, body, state } of due)
          await trx
            .updateTable('requests')
            .set({ body: JSON.stringify(erased(JSON.parse(body))), erase_at: null })
            .where('id', '=', id)
            .where('state', '=', state)
            .execute()
      })
    },
  }
}

export type Book = ReturnType<typeof openBook>

const allOf = (db: Database) => db.selectFrom('requests').selectAll()

const changedMeanwhile = () => new ChaperoneError('conflict', 'Somebody else has decided about it in the meantime.', { fix: 'Look at it again.' })

const optional = <K extends string, V>(key: K, value: V | null | undefined): { readonly [key in K]?: V } =>
  (value === null || value === undefined ? {} : { [key]: value }) as { readonly [key in K]?: V }

const fromRow = (row: RequestTable, votes: readonly RequestVoteTable[]): AccessRequest => ({
  id: row.id,
  kind: row.kind,
  identityId: row.identity_id,
  chain: JSON.parse(row.chain),
  body: JSON.parse(row.body),
  reason: row.reason,
  ...optional('purpose', row.purpose),
  ...optional('sessionId', row.session_id),
  state: row.state,
  needs: row.needs === null ? [] : JSON.parse(row.needs),
  votes: votes.map((vote) => ({
    identityId: vote.identity_id,
    verdict: vote.verdict,
    ...optional('reason', vote.reason),
    how: vote.how,
    ...optional('factor', vote.factor),
    ...optional('seen', vote.seen),
    at: vote.at,
  })),
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  ...optional('expiresAt', row.expires_at),
  ...optional('startsAt', row.starts_at),
  ...optional('endsAt', row.ends_at),
  below: row.below === 1,
  ...optional('digest', row.digest),
  ...optional('permit', row.permit),
  ...optional('nodeId', row.node_id),
  ...optional('outcome', row.outcome),
  ...optional('decidedBy', row.decided_by),
  ...optional('decidedAt', row.decided_at),
  ...optional('escalatedAt', row.escalated_at),
  ...optional('reviewDue', row.review_due),
  ...optional('reviewedBy', row.reviewed_by),
})
