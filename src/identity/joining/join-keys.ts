import { createHash } from 'node:crypto'
import { newId } from '../../ids.ts'
import type { Database, Write } from '../../store/store.ts'
import type { JoinKeyTable } from '../../store/tables-identity.ts'

/** What stands where a session's credential before the newest would: nobody has shown the first one yet. */
export const UNSHOWN = 'unshown'

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

export async function findKey(db: Database | Write, by: { readonly document: string; readonly agentId: string; readonly spki: Uint8Array }) {
  return await db
    .selectFrom('join_keys')
    .selectAll()
    .where('document', '=', by.document)
    .where('identity_id', '=', by.agentId)
    .where('public_key', '=', Buffer.from(by.spki))
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .executeTakeFirst()
}

export async function addKey(
  trx: Write,
  ask: {
    readonly document: string
    readonly agentId: string
    readonly spki: Uint8Array
    readonly recoveries: number | null
    readonly madeBy: string | null
    readonly now: number
  },
): Promise<JoinKeyTable> {
  const row: JoinKeyTable = {
    id: newId('jky', ask.now),
    document: ask.document,
    identity_id: ask.agentId,
    public_key: Buffer.from(ask.spki),
    joins: 0,
    recoveries_left: ask.recoveries,
    made_by: ask.madeBy,
    created_at: ask.now,
    last_used_at: null,
    revoked_at: null,
  }
  await trx.insertInto('join_keys').values(row).execute()
  return row
}

/** Sessions that are open and were begun with this key, the newest first. */
export async function sessionsOfKey(trx: Database | Write, ask: { readonly agentId: string; readonly subject: string; readonly now: number }) {
  const rows = await trx
    .selectFrom('sessions')
    .select(['id', 'joined', 'newest_credential', 'previous_credential', 'expires_at', 'ended_at'])
    .where('identity_id', '=', ask.agentId)
    .where('how', '=', 'join')
    .orderBy('started_at', 'desc')
    .orderBy('id', 'desc')
    .limit(MOST_SESSIONS)
    .execute()
  return rows
    .filter(({ joined }) => joined !== null && (JSON.parse(joined) as { subject?: unknown }).subject === ask.subject)
    .map(({ id, newest_credential, previous_credential, expires_at, ended_at }) => ({
      id,
      open: ended_at === null && expires_at > ask.now,
      shown: newest_credential !== null && previous_credential !== UNSHOWN,
    }))
}
const MOST_SESSIONS = 1000

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
