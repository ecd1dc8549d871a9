import { ChaperoneError } from '../errors.ts'
import type { ChainLink } from '../identity/types.ts'
import { newId } from '../ids.ts'
import type { Database, Write } from '../store/store.ts'
import type { RequestTable } from '../store/tables.ts'

/** Something that an identity asked for and may not give itself. */
export interface AccessRequest {
  readonly id: string
  readonly kind: RequestTable['kind']
  readonly identityId: string
  readonly chain: readonly ChainLink[]
  readonly body: unknown
  readonly reason: string
  readonly state: RequestTable['state']
  readonly decidedBy?: string
  readonly decidedAt?: number
  readonly createdAt: number
}

/** Of one identity (rule 11): what waits, and what was asked in a day, decided or not. */
export const REQUEST_LIMITS = { waiting: 10, aDay: 50, bodyBytes: 64 * 1024 } as const
const DAY_MS = 24 * 3_600_000
/** Of one listing; newest first. */
const MOST_LISTED = 500

export interface NewRequest {
  readonly kind: RequestTable['kind']
  readonly identityId: string
  readonly chain: readonly ChainLink[]
  readonly body: unknown
  readonly reason: string
}

/** Who looks: everybody's, or his own and what those ask who act for him. */
export type Whose = 'all' | { readonly identityId: string }

/** What would be refused is refused before a record says that it was asked for. Throws `too_many`, `too_large`. */
export async function assertMayAsk(db: Database | Write, { identityId, body }: Pick<NewRequest, 'identityId' | 'body'>, now: number): Promise<void> {
  if (Buffer.byteLength(JSON.stringify(body)) > REQUEST_LIMITS.bodyBytes) throw new ChaperoneError('too_large', 'The request is over its limit.')
  const count = async (column: 'state' | 'created_at') => {
    const of = db
      .selectFrom('requests')
      .select((is) => is.fn.countAll().as('count'))
      .where('identity_id', '=', identityId)
    const { count } = await (column === 'state'
      ? of.where('state', '=', 'pending')
      : of.where('created_at', '>', now - DAY_MS)
    ).executeTakeFirstOrThrow()
    return Number(count)
  }
  if ((await count('state')) >= REQUEST_LIMITS.waiting) {
    throw new ChaperoneError('too_many', `${REQUEST_LIMITS.waiting} requests of yours wait for a decision already.`, {
      fix: 'Withdraw one that you no longer need: chaperone mcp requests withdraw ID',
    })
  }
  if ((await count('created_at')) >= REQUEST_LIMITS.aDay)
    throw new ChaperoneError('too_many', `You have made ${REQUEST_LIMITS.aDay} requests in a day.`, { fix: 'Try again tomorrow.' })
}

/** Returns the id. The record of it must already be written. */
export async function makeRequest(trx: Write, asked: NewRequest & { readonly id: string }, now: number): Promise<void> {
  await assertMayAsk(trx, asked, now)
  await trx
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
      updated_at: now,
      below: 0,
      ...NOTHING_MORE,
    })
    .execute()
}

const NOTHING_MORE = {
  session_id: null,
  purpose: null,
  needs: null,
  expires_at: null,
  starts_at: null,
  ends_at: null,
  role: null,
  resource_id: null,
  digest: null,
  permit: null,
  node_id: null,
  outcome: null,
  escalated_at: null,
  review_due: null,
  reviewed_by: null,
  reviewed_at: null,
} as const

export const newRequestId = (now: number): string => newId('req', now)

export async function listRequests(db: Database, whose: Whose, kind: RequestTable['kind']): Promise<readonly AccessRequest[]> {
  const rows = await db
    .selectFrom('requests')
    .selectAll()
    .where('kind', '=', kind)
    .$if(whose !== 'all', (query) =>
      query.where((is) =>
        is.or([
          is('identity_id', '=', (whose as { identityId: string }).identityId),
          // Ids hold neither quotes nor wildcards.
          is('chain', 'like', `%"identity":"${(whose as { identityId: string }).identityId}"%`),
        ]),
      ),
    )
    .orderBy('id', 'desc')
    .limit(MOST_LISTED)
    .execute()
  return rows.map(fromRow)
}

/** Throws `not_found`, also for what somebody else asked (rule 8). */
export async function findRequest(db: Database | Write, id: string, whose: Whose): Promise<AccessRequest> {
  const row = await db.selectFrom('requests').selectAll().where('id', '=', id).executeTakeFirst()
  const found = row && fromRow(row)
  if (found && (whose === 'all' || isOwn(found, whose.identityId))) return found
  throw new ChaperoneError('not_found', 'There is no such request.', { fix: 'See: chaperone mcp requests ls' })
}

/** Once: a request that was decided stays so. The record of it must already be written. Throws `conflict`. */
export async function decideRequest(
  trx: Write,
  id: string,
  { state, by, now }: { readonly state: 'approved' | 'denied' | 'withdrawn'; readonly by: string; readonly now: number },
): Promise<void> {
  const { numUpdatedRows } = await trx
    .updateTable('requests')
    .set({ state, decided_by: by, decided_at: now })
    .where('id', '=', id)
    .where('state', '=', 'pending')
    .executeTakeFirst()
  if (numUpdatedRows !== 1n) throw decidedAlready
}

export function assertPending({ state }: AccessRequest): void {
  if (state !== 'pending') throw decidedAlready
}

const decidedAlready = new ChaperoneError('conflict', 'The request was decided already.', { fix: 'See: chaperone mcp requests ls' })

/** Asked by this identity, or by one that acted for it. */
export const isOwn = ({ identityId, chain }: Pick<AccessRequest, 'identityId' | 'chain'>, of: string): boolean =>
  identityId === of || chain.some((link) => link.identity === of)

/**
 * Nobody approves his own request (rule 12): not who asked, not an agent of the same person. The person himself may say yes
 * to what his agent asked for: the agent cannot give the factor that this needs.
 */
export function mayDecide(request: Pick<AccessRequest, 'identityId' | 'chain'>, chain: readonly ChainLink[]): boolean {
  if (chain.some((link) => link.identity === request.identityId)) return false
  const shared = request.chain.some((link) => chain.some((mine) => mine.identity === link.identity))
  return !shared || chain.length === 1
}

const fromRow = (row: RequestTable): AccessRequest => ({
  id: row.id,
  kind: row.kind,
  identityId: row.identity_id,
  chain: JSON.parse(row.chain),
  body: JSON.parse(row.body),
  reason: row.reason,
  state: row.state,
  ...(row.decided_by === null ? {} : { decidedBy: row.decided_by }),
  ...(row.decided_at === null ? {} : { decidedAt: Number(row.decided_at) }),
  createdAt: Number(row.created_at),
})
