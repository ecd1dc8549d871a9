import { sql } from 'kysely'
import type { Clock } from '../clock.ts'

/**
 * The store's time, as an SQL expression: never before the time that a lease was last renewed at (`meta.time`), whatever
 * happened to the clock since, also across a restart. SQLite goes by this machine's clock, PostgreSQL by its own.
 */
export function storeTime(dialect: 'sqlite' | 'postgres', clock: Clock) {
  const latest = sql`coalesce((select cast(value as bigint) from meta where key = 'time'), 0)`
  return dialect === 'sqlite'
    ? sql<number>`max(${clock.now()}, ${latest})`
    : sql<number>`greatest(floor(extract(epoch from clock_timestamp()) * 1000)::bigint, ${latest})`
}
