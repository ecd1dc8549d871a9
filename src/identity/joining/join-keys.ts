import { createHash } from 'node:crypto'
import { ChaperoneError } from '../../errors.ts'
import type { Database, Write } from '../../store/store.ts'
import type { JoinKeyTable } from '../../store/tables-identity.ts'
import { UNSHOWN } from '../generations.ts'

/** `SHA256:<base64url>` of the SPKI, as people compare keys. */
export const fingerprintOf = (spki: Uint8Array): string => `SHA256:${createHash('sha256').update(spki).digest('base64url')}`

/** What a count that a client brings says.
 *
 *   next    as it should be
 *   lost    one less, and what was made the last time was never shown by anybody: that answer got lost on the way
 *   ahead   more than the row knows of: the store was set back to a backup; nobody is accused (peers R65)
 *   copy    anything older: two hold this key
 */
export type Count = 'next' | 'lost' | 'ahead' | 'copy'

/** Pure. `shown`: somebody has come in with what the newest join was given. */
export function countOf(row: Pick<JoinKeyTable, 'joins'>, brought: number, shown: boolean): Count {
  if (brought === row.joins) return 'next'
  if (brought > row.joins) return 'ahead'
  return brought === row.joins - 1 && !shown ? 'lost' : 'copy'
}

/** Which row: one of a document, an agent and a key, on however many nodes they meet for the first time. */
export interface WhichKey {
  readonly document: string
  readonly agentId: string
  readonly spki: Uint8Array
}
const idOf = ({ document, agentId, spki }: WhichKey): string =>
  `jky_${createHash('sha256').update(`${document}\n${agentId}\n`).update(spki).digest('hex')}`

export async function findKey(db: Database | Write, by: WhichKey): Promise<JoinKeyTable | undefined> {
  return await db.selectFrom('join_keys').selectAll().where('id', '=', idOf(by)).executeTakeFirst()
}

/** Throws `conflict` when it is made known at another place at this moment. */
export async function addKey(
  trx: Write,
  ask: WhichKey & { readonly recoveries: number | null; readonly madeBy: string | null; readonly now: number },
): Promise<JoinKeyTable> {
  const row: JoinKeyTable = {
    id: idOf(ask),
    document: ask.document,
    identity_id: ask.agentId,
    public_key: Buffer.from(ask.spki),
    joins: 0,
    recoveries_left: ask.recoveries,
    made_by: ask.madeBy,
    newest_session: null,
    created_at: ask.now,
    last_used_at: null,
    revoked_at: null,
  }
  const { numInsertedOrUpdatedRows } = await trx
    .insertInto('join_keys')
    .values(row)
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirstOrThrow()
  if (!numInsertedOrUpdatedRows) throw busy()
  return row
}

/** The nonce of whoever is told so is not used up: he may show the same proof again. */
export const busy = () => new ChaperoneError('conflict', 'This key joins at another place at this moment.', { fix: 'Try again.' })

/** Whether anybody has come in with what the newest join was given. A session that never began was shown by nobody. */
export async function wasShown(trx: Database | Write, { newest_session }: Pick<JoinKeyTable, 'newest_session'>): Promise<boolean> {
  if (newest_session === null) return false
  const row = await trx
    .selectFrom('sessions')
    .select(['newest_credential', 'previous_credential'])
    .where('id', '=', newest_session)
    .executeTakeFirst()
  return row !== undefined && row.newest_credential !== null && row.previous_credential !== UNSHOWN
}

/** Sessions that are open and were begun with this key, by whichever document. */
export async function openSessionsOfKey(
  trx: Database | Write,
  ask: { readonly agentId: string; readonly subject: string; readonly now: number },
): Promise<readonly string[]> {
  const rows = await trx
    .selectFrom('sessions')
    .select(['id', 'joined'])
    .where('identity_id', '=', ask.agentId)
    .where('how', '=', 'join')
    .where('ended_at', 'is', null)
    .where('expires_at', '>', ask.now)
    .execute()
  return rows.filter(({ joined }) => joined !== null && (JSON.parse(joined) as { subject?: unknown }).subject === ask.subject).map(({ id }) => id)
}

/**
 * In the transaction that begins the session: whoever found a copy meanwhile has revoked the key and ended what he saw, and whoever
 * took the place of an answer that got lost has written his own session. The row is locked, so one of the two sees the other.
 */
export async function stillCounts(trx: Write, key: WhichKey, session: string): Promise<void> {
  const { numUpdatedRows } = await trx
    .updateTable('join_keys')
    .set((row) => ({ joins: row.ref('joins') }))
    .where('id', '=', idOf(key))
    .where('newest_session', '=', session)
    .where('revoked_at', 'is', null)
    .executeTakeFirstOrThrow()
  if (numUpdatedRows === 0n) throw busy()
}

/** Whether two have held this key, by whichever document it was shown. */
export async function isRevoked(db: Database | Write, spki: Uint8Array): Promise<boolean> {
  const row = await db
    .selectFrom('join_keys')
    .select('id')
    .where('public_key', '=', Buffer.from(spki))
    .where('revoked_at', 'is not', null)
    .limit(1)
    .executeTakeFirst()
  return row !== undefined
}

/** For good: the key opens nothing any more, under whichever document. */
export async function revokeKey(trx: Write, spki: Uint8Array, now: number): Promise<void> {
  await trx.updateTable('join_keys').set({ revoked_at: now }).where('public_key', '=', Buffer.from(spki)).where('revoked_at', 'is', null).execute()
}
