import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Keeper } from '../credential.ts'
import { type DatabaseDoor, openDatabaseDoor, socketIn } from '../database.ts'

/** A database that a run has a door to. `user` absent: the program says it. */
export interface RunDatabase {
  readonly resource: string
  readonly database: string
  readonly user?: string
}

export interface RunDatabases {
  /** How PostgreSQL's own libraries find them. */
  readonly env: Readonly<Record<string, string>>
  readonly services: readonly { readonly service: string; readonly database: RunDatabase }[]
  close(): Promise<void>
}

/** Each is a socket and costs nothing until somebody connects; more than this nobody looks through. */
const MOST_DATABASES = 40

/** Opens a socket for each, below `folder`, and writes the service file (libpq, section 34.17) that has a name for each. */
export async function openRunDatabases(keeper: Keeper, databases: readonly RunDatabase[], folder: string): Promise<RunDatabases> {
  const doors: DatabaseDoor[] = []
  const services: { service: string; database: RunDatabase }[] = []
  let text = ''
  const close = async () => {
    await Promise.all(doors.map((door) => door.close()))
  }
  try {
    for (const [i, database] of databases.slice(0, MOST_DATABASES).entries()) {
      // Short, because the path of a socket may have about 100 bytes.
      const own = join(folder, `db${i}`)
      await mkdir(own, { recursive: true, mode: 0o700 })
      const { resource, database: name, user } = database
      const door = await openDatabaseDoor({
        resource,
        database: name,
        keeper,
        at: { socket: socketIn(own) },
        ...(user === undefined ? {} : { user }),
      })
      doors.push(door)
      const service = serviceName(database, databases)
      services.push({ service, database })
      text += `[${service}]\nhost=${door.host}\nport=${door.port}\ndbname=${name}\nsslmode=disable\n${user === undefined ? '' : `user=${user}\n`}\n`
    }
    const file = join(folder, 'pg_service.conf')
    if (services.length > 0) await writeFile(file, text, { mode: 0o600 })
    const [only] = databases.length === 1 ? doors : []
    return {
      services,
      close,
      env: {
        ...(services.length > 0 ? { PGSERVICEFILE: file } : {}),
        ...(only === undefined
          ? {}
          : {
              PGHOST: only.host,
              PGPORT: String(only.port),
              PGDATABASE: databases[0]!.database,
              // The socket is local and leads into TLS.
              PGSSLMODE: 'disable',
              ...(databases[0]!.user === undefined ? {} : { PGUSER: databases[0]!.user }),
            }),
      },
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** `orders`, and `orders-archive` where a server has several; a service file takes no brackets and no line ends. */
function serviceName({ resource, database }: RunDatabase, all: readonly RunDatabase[]): string {
  const alone = all.filter((one) => one.resource === resource).length === 1
  return (alone ? resource : `${resource}-${database}`).replace(/[^A-Za-z0-9._-]/g, '_')
}
