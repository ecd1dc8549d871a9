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

/** Forgets the proofs that nobody would believe any more. */
export async function sweepProofs(store: Pick<Store, 'write'>, now: number): Promise<void> {
  await store.write((trx) => trx.deleteFrom('used_proofs').where('expires_at', '<', now).execute())
}
