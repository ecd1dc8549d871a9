import { sql } from 'kysely'
import type { Clock } from '../clock.ts'
import type { Store } from './store.ts'
import { storeTime } from './store-time.ts'

/** What one renewal brought back. `kept` is false when the row had run out, or somebody had taken it away. */
export interface Renewal {
  /** ms since 1970 by the store's clock */
  readonly now: number
  readonly epoch: number
  readonly kept: boolean
}

export interface LeaseRow {
  readonly nodeId: string
  readonly address: string
  readonly lifeMs: number
  /** the newest epoch whose changes this node has taken in */
  readonly epochSeen: number
}

/**
 * Extends the row and reads the epoch in one round trip. A row that has run out is not extended: in that moment others
 * may already have stopped waiting for this node, so it must join again and look at the epoch after that.
 */
export async function renewRow(store: Store, clock: Clock, row: LeaseRow): Promise<Renewal> {
  const time = storeTime(store.dialect, clock)
  if (store.dialect === 'postgres') {
    const { rows } = await sql<Renewal>`
      with time as materialized (select ${time} as now),
      kept as (
        update leases set expires_at = time.now + ${row.lifeMs}::bigint, epoch_seen = ${row.epochSeen}::bigint, address = ${row.address}
        from time where node_id = ${row.nodeId} and expires_at > time.now returning 1),
      noted as (
        insert into meta (key, value) select 'time', time.now::text from time
        on conflict (key) do update set value = greatest(meta.value::bigint, excluded.value::bigint)::text)
      select time.now, epoch.value as epoch, exists (select from kept) as kept from time, epoch`.execute(store.db)
    return rows[0]!
  }
  return store.write(async (trx) => {
    const { now, epoch } = await trx
      .selectFrom('epoch')
      .select([time.as('now'), 'value as epoch'])
      .executeTakeFirstOrThrow()
    const result = await trx
      .updateTable('leases')
      .set({ expires_at: now + row.lifeMs, epoch_seen: row.epochSeen, address: row.address })
      .where('node_id', '=', row.nodeId)
      .where('expires_at', '>', now)
      .executeTakeFirst()
    const value = String(now)
    await trx
      .insertInto('meta')
      .values({ key: 'time', value })
      .onConflict((is) => is.column('key').doUpdateSet({ value }))
      .execute()
    return { now, epoch, kept: result.numUpdatedRows === 1n }
  })
}

/** Makes the row anew. Only an epoch read after this can be relied on: from now on others wait for this node. */
export async function joinRow(store: Store, clock: Clock, row: LeaseRow): Promise<void> {
  await store.write(async (trx) => {
    const { now } = await trx.selectNoFrom(storeTime(store.dialect, clock).as('now')).executeTakeFirstOrThrow()
    const values = { expires_at: now + row.lifeMs, epoch_seen: row.epochSeen, address: row.address }
    await trx
      .insertInto('leases')
      .values({ node_id: row.nodeId, ...values })
      .onConflict((is) => is.column('node_id').doUpdateSet(values))
      .execute()
  })
}

export async function leaveRow(store: Store, nodeId: string): Promise<void> {
  await store.db.deleteFrom('leases').where('node_id', '=', nodeId).execute()
}

/**
 * Whether every node has taken the epoch in or has no lease any more. Rows that have run out are taken away, not just
 * passed over: a renewal that is under way holds its row, so the delete waits for it and then finds it alive; and a
 * renewal that comes later finds no row. Passed over, it could come back to life without knowing the epoch.
 */
export async function everyRowHasSeen(store: Store, clock: Clock, epoch: number): Promise<boolean> {
  return store.write(async (trx) => {
    await trx.deleteFrom('leases').where('expires_at', '<=', storeTime(store.dialect, clock)).execute()
    const behind = await trx.selectFrom('leases').select('node_id').where('epoch_seen', '<', epoch).limit(1).executeTakeFirst()
    return behind === undefined
  })
}
