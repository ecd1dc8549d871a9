import { join } from 'node:path'
import type { Store } from '../store/store.ts'
import type { Log, LogPlace } from './log.ts'
import { openPostgresLog } from './log-postgres.ts'
import { openSqliteLog } from './log-sqlite.ts'

/** Opens the log of a data directory, of a PostgreSQL database, or of an open store (with a connection of its own). Read only. */
export async function openLogForReading(
  from: { readonly dataDir: string } | { readonly url: string } | Pick<Store, 'dialect' | 'location'>,
): Promise<Log> {
  if ('dataDir' in from) return openLog({ dialect: 'sqlite', location: join(from.dataDir, 'chaperone.db') })
  if ('url' in from) return openLog({ dialect: 'postgres', location: from.url })
  return openLog({ dialect: from.dialect, location: from.location })
}

export async function openLog(place: LogPlace): Promise<Log> {
  return place.dialect === 'sqlite' ? openSqliteLog(place) : openPostgresLog(place)
}
