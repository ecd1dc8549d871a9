import { createHash } from 'node:crypto'
import type { Database, Store, Write } from '../../store/store.ts'

/** Only the hash is kept: what a proof said is nobody's business later. */
const keyOf = (scope: string, proof: string): string => createHash('sha256').update(`${scope}\n${proof}`).digest('hex')

/** Marks a proof as used. False when it was used before, on whichever node. Within a `scope` keys name whoever made them: two issuers may number alike. */
export async function useProof(trx: Write, scope: string, proof: { readonly key: string; readonly until: number }): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await trx
    .insertInto('used_proofs')
    .values({ key: keyOf(scope, proof.key), expires_at: proof.until })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirstOrThrow()
  return (numInsertedOrUpdatedRows ?? 0n) > 0n
}

/** Whether it is marked. For a clear answer beforehand: only `useProof` counts it once. */
export async function wasUsed(db: Database, scope: string, key: string): Promise<boolean> {
  return (await db.selectFrom('used_proofs').select('key').where('key', '=', keyOf(scope, key)).executeTakeFirst()) !== undefined
}

/** Marks it again, until later; for what may come more than once. */
export async function markProof(trx: Write, scope: string, proof: { readonly key: string; readonly until: number }): Promise<void> {
  const values = { key: keyOf(scope, proof.key), expires_at: proof.until }
  await trx
    .insertInto('used_proofs')
    .values(values)
    .onConflict((conflict) => conflict.column('key').doUpdateSet({ expires_at: proof.until }))
    .execute()
}

/** Until when the latest of these is marked (ms since 1970); undefined when none is. */
export async function markedUntil(db: Database, scope: string, keys: readonly string[]): Promise<number | undefined> {
  const hashes = keys.map((key) => keyOf(scope, key))
  const rows = await db.selectFrom('used_proofs').select('expires_at').where('key', 'in', hashes).execute()
  return rows.length === 0 ? undefined : Math.max(...rows.map((row) => row.expires_at))
}

/** Forgets the proofs that nobody would believe any more. */
export async function sweepProofs(store: Pick<Store, 'write'>, now: number): Promise<void> {
  await store.write((trx) => trx.deleteFrom('used_proofs').where('expires_at', '<', now).execute())
}
