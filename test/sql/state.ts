import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type pg from 'pg'

/** Everything outside a session that a statement can leave behind, short enough to be taken after every statement. */
export type State = Readonly<Record<string, string>>

/**
 * Whatever changes a row, the catalog, a large object, a message in the WAL moves the WAL's end; a transaction that wrote,
 * also into unlogged tables or for nothing, takes an xid. What does neither (numbers of a sequence that were fetched
 * ahead, locks, files, statistics, other sessions) is asked for by itself.
 */
const quick = (major: number) => `
  select pg_current_wal_insert_lsn()::text as wal,
    pg_snapshot_xmax(pg_current_snapshot())::text as xid,
    (select string_agg(s::text, ' ') from (select * from app.counter union all select * from app.quiet_counter union all select * from app.items_id_seq union all select * from app.sales_id_seq) s) as sequences,
    (select string_agg(locktype || ' ' || mode || ' ' || coalesce(objid, 0), ', ' order by locktype, mode) from pg_locks
      where pid <> pg_backend_pid() and (locktype = 'advisory' or mode in ('ShareLock', 'ShareRowExclusiveLock', 'AccessExclusiveLock') and locktype = 'relation')) as locks,
    (select count(*) from pg_prepared_xacts)::text as prepared,
    (select string_agg(slot_name, ',') from pg_replication_slots)::text as slots,
    (select string_agg(stats_reset::text, ',') from (select stats_reset from pg_stat_database union all select stats_reset from pg_stat_bgwriter union all select stats_reset from pg_stat_wal
      ${major < 16 ? '' : 'union all select stats_reset from pg_stat_io'} ${major < 17 ? '' : 'union all select stats_reset from pg_stat_checkpointer'}
      union all select stats_reset from pg_stat_slru union all select stats_reset from pg_stat_archiver
      union all select stats_reset from extensions.pg_stat_statements_info) r) as statistics,
    pg_conf_load_time()::text as loaded,
    (select string_agg(pid || ' ' || state, ', ' order by pid) from pg_stat_activity where application_name = 'bystander') as sessions`

/** Hints of visibility, and the list of running transactions now and then, are the server's own doing. */
const written = (major: number) => `
  select string_agg(distinct resource_manager || '/' || record_type, ' ')${
    // 15 does not say in which relations.
    major < 16
      ? ''
      : ` || coalesce(' in ' || (
      select string_agg(distinct pg_filenode_relation(reltablespace, relfilenode)::regclass::text, ', ') from extensions.pg_get_wal_block_info($1::pg_lsn, $2::pg_lsn)), '')`
  } as what
  from extensions.pg_get_wal_records_info($1::pg_lsn, $2::pg_lsn)
  where not (record_type in ('RUNNING_XACTS', 'FPI_FOR_HINT', '${major < 17 ? 'PRUNE' : 'PRUNE_ON_ACCESS'}') or resource_manager = 'XLOG' and record_type = 'FPI')`

const majors = new WeakMap<pg.Client, number>()

async function majorOf(client: pg.Client): Promise<number> {
  const known = majors.get(client)
  if (known !== undefined) return known
  const { rows } = await client.query("select current_setting('server_version_num')::int / 10000 as major")
  majors.set(client, rows[0].major)
  return rows[0].major
}

const CLUSTER = /^(postgresql.*\.conf|pg_hba\.conf|pg_ident\.conf|backup_label|standby\.signal|recovery\.signal|promote)$/

export async function takeState(client: pg.Client, scratch: string, data: string): Promise<State> {
  const { rows } = await client.query(quick(await majorOf(client)))
  return { ...rows[0], files: filesOf(scratch), cluster: filesOf(data, CLUSTER), snapshots: filesOf(join(data, 'pg_snapshots')) }
}

function filesOf(folder: string, only = /./): string {
  return readdirSync(folder)
    .filter((name) => only.test(name))
    .sort()
    .map((name) => {
      const { size, mtimeMs } = statSync(join(folder, name))
      return `${name} ${size} ${mtimeMs}`
    })
    .join(', ')
}

/** What differs, in words; empty when nothing does that the server would not do by itself. */
export async function changesBetween(client: pg.Client, before: State, after: State): Promise<string[]> {
  const changed = Object.keys(before).filter((key) => before[key] !== after[key])
  const words: string[] = []
  for (const key of changed) {
    const written = key === 'wal' ? await writtenBetween(client, before.wal!, after.wal!) : `${before[key]} -> ${after[key]}`
    if (written !== '') words.push(`${key}: ${written}`)
  }
  return words
}

/** Kinds of WAL records; empty when the server wrote them by itself. Moves the end of the WAL: the state is to be taken again. */
async function writtenBetween(client: pg.Client, from: string, to: string): Promise<string> {
  // Only what is flushed can be read, and what a transaction wrote that was rolled back may wait for long.
  await client.query("select pg_logical_emit_message(true, 'oracle', 'flush')")
  return (await client.query(written(await majorOf(client)), [from, to])).rows[0].what ?? ''
}
