import { spawn } from 'node:child_process'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { DatabaseDoor } from '../client/database.ts'
import { shellWord } from '../encoding/shell-word.ts'
import { ChaperoneError } from '../errors.ts'
import type { Register } from './commands.ts'
import { holdOpen, keepFor, type ServerFlags, wholeNumber, withJson, withServer } from './connection.ts'
import { add } from './db-add.ts'
import { setup, signServer } from './db-setup.ts'
import { line, say } from './output.ts'
import { listResources } from './resources.ts'
import { stopSignal } from './terminal.ts'

interface Flags extends ServerFlags {
  readonly json?: boolean
  readonly database: string
  readonly user?: string
  readonly client?: string
  readonly purpose?: string
  readonly port?: number
  readonly socketDir?: string
}

export const register: Register = (command) => {
  withJson(withServer(command.command('ls').description('the databases that you may see'))).action((flags: Flags) =>
    listResources(flags, 'postgres', 'There is no database that you may see.'),
  )

  const target = (child: Command) =>
    withServer(child)
      .argument('<name>', 'name of the resource')
      .requiredOption('--database <name>', 'database on that server')
      .option('--client <name>', 'act as YOU/<name>')
      .option('--purpose <text>', 'what this run is for; stands in every record')

  target(command.command('connect').description('start psql on a database; arguments after -- go to psql'))
    .argument('[arguments...]', 'for psql')
    .requiredOption('--user <name>', 'database user')
    .addHelpText('after', "\nExample:\n  chaperone db connect orders --database orders --user analyst_ro -- -c 'SELECT 1'")
    .action(async (name: string, words: string[], flags: Flags) => {
      process.exitCode = await psql(name, words, flags)
    })

  target(command.command('proxy').description('a local door to a database, for any PostgreSQL client'))
    .option('--user <name>', 'database user; default: what the client says')
    .option('--port <number>', 'a loopback port with a password for this run, instead of a unix socket', wholeNumber('--port', 0, 65_535))
    .option('--socket-dir <folder>', 'folder of the unix socket')
    .addHelpText('after', '\nExample:\n  chaperone db proxy orders --database orders --user analyst_ro')
    .action(async (name: string, flags: Flags) => {
      const stop = stopSignal()
      const keeper = await keepFor(flags, flags.client ?? 'db-proxy', say)
      const { openDatabaseDoor, socketIn } = await import('../client/database.ts')
      const at = flags.port === undefined ? { socket: socketIn(flags.socketDir ?? (await socketFolder(name, flags.database))) } : { port: flags.port }
      const door = await openDatabaseDoor({
        resource: name,
        database: flags.database,
        keeper,
        at,
        ...(flags.user === undefined ? {} : { user: flags.user }),
      })
      for (const [key, value] of Object.entries(environment(door, flags))) line(`export ${key}=${shellWord(value)}`)
      say('whoever can open it acts as you on this database, until this process ends')
      await holdOpen(door, keeper, stop)
    })

  command
    .command('env')
    .description('variables for PostgreSQL clients, for a running `db proxy`')
    .argument('<name>', 'name of the resource')
    .requiredOption('--database <name>', 'database on that server')
    .option('--user <name>', 'database user')
    .option('--socket-dir <folder>', 'folder of the unix socket')
    .addHelpText('after', '\nExample:\n  eval "$(chaperone db env prod --database topsecret --user analyst_ro)"')
    .action(async (name: string, flags: Flags) => {
      const { SOCKET_PORT, socketIn } = await import('../client/database.ts')
      const folder = flags.socketDir ?? (await socketFolder(name, flags.database))
      const running = await stat(socketIn(folder)).then(
        (about) => about.isSocket(),
        () => false,
      )
      if (!running)
        throw new ChaperoneError('not_found', `No \`chaperone db proxy ${name} --database ${flags.database}\` runs.`, {
          fix: 'Start it in another terminal.',
        })
      for (const [key, value] of Object.entries(environment({ host: folder, port: SOCKET_PORT }, flags))) line(`export ${key}=${shellWord(value)}`)
    })

  add(command)
  setup(command)
  signServer(command)
}

/** The same for every run, so that `db env` finds it; short, because a socket's path may have about 100 bytes. */
async function socketFolder(name: string, database: string): Promise<string> {
  const { profileHome } = await import('../client/profile.ts')
  const base = process.env.XDG_RUNTIME_DIR ? join(process.env.XDG_RUNTIME_DIR, 'chaperone') : join(profileHome(), 'run')
  return join(base, `${name}-${database}`.replace(/[^A-Za-z0-9._-]/g, '_').slice(0, 60))
}

const environment = (door: Pick<DatabaseDoor, 'host' | 'port' | 'password'>, flags: Flags): Record<string, string> => ({
  PGHOST: door.host,
  PGPORT: String(door.port),
  PGDATABASE: flags.database,
  // The door is local and leads into TLS; libpq would else ask the door itself for TLS.
  PGSSLMODE: 'disable',
  ...(flags.user === undefined ? {} : { PGUSER: flags.user }),
  ...(door.password === undefined ? {} : { PGPASSWORD: door.password }),
})

async function psql(name: string, words: readonly string[], flags: Flags): Promise<number> {
  const { openDatabaseDoor, socketIn } = await import('../client/database.ts')
  const keeper = await keepFor(flags, flags.client ?? 'psql', say)
  const folder = await mkdtemp(join(tmpdir(), 'chaperone-'))
  try {
    const door = await openDatabaseDoor({ resource: name, database: flags.database, user: flags.user!, keeper, at: { socket: socketIn(folder) } })
    try {
      return await new Promise<number>((resolve, reject) => {
        const child = spawn('psql', words, { stdio: 'inherit', env: { ...process.env, ...environment(door, flags) } })
        // psql itself answers Ctrl-C, by cancelling the statement.
        process.on('SIGINT', () => {})
        process.once('SIGTERM', () => child.kill('SIGTERM'))
        child.once('error', (error: NodeJS.ErrnoException) =>
          reject(
            error.code === 'ENOENT'
              ? new ChaperoneError('unavailable_here', 'psql is not installed.', {
                  fix: 'Install it (Debian: postgresql-client; macOS: brew install libpq), or use `chaperone db proxy` with another client.',
                })
              : error,
          ),
        )
        child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGTERM' ? 143 : 1)))
      })
    } finally {
      await door.close()
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
    await keeper.close()
  }
}
