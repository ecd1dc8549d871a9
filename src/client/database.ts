import { randomBytes, timingSafeEqual } from 'node:crypto'
import { lstat, mkdir, rm } from 'node:fs/promises'
import { type AddressInfo, connect as connectPlain, createServer, isIP, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { connect as connectSecure, type TLSSocket } from 'node:tls'
import { type Clock, systemClock } from '../clock.ts'
import { ChaperoneError, REASONS, toChaperoneError } from '../errors.ts'
import { openSocket } from '../network/tunnel.ts'
import { connectionError } from './api.ts'
import type { Keeper } from './credential.ts'
import { unreachable } from './first-contact.ts'
import { listenerOf } from './profile.ts'
import { askPassword, fatalError, LONGEST_STARTUP, type Opening, readOpening, readPassword, sslRequest, writeStartup } from './startup.ts'

/**
 * `chaperone db proxy`: a local door to one database, for any PostgreSQL client. Each connection goes on over TLS with
 * the agent's certificate; whoever can open the door acts as that agent. So it is a unix socket in a folder of the
 * user's own, or a loopback port with a password that is made for this run.
 */
export interface DatabaseDoorOptions {
  /** name of the resource in the catalog */
  readonly resource: string
  readonly database: string
  /** database user; default: what the client says */
  readonly user?: string
  readonly keeper: Keeper
  readonly at: { readonly socket: string } | { readonly port: number }
  readonly clock?: Clock
}

export interface DatabaseDoor {
  /** what libpq calls `host`: the folder of the socket, or 127.0.0.1 */
  readonly host: string
  readonly port: number
  /** for a port only */
  readonly password?: string
  close(): Promise<void>
}

/** libpq finds a socket by this name in the folder that it is given as host. */
export const SOCKET_PORT = 5432
export const socketIn = (folder: string) => join(folder, `.s.PGSQL.${SOCKET_PORT}`)
/** sun_path holds 108 bytes on Linux, 104 on macOS, with the zero at the end. */
const LONGEST_SOCKET_PATH = 103

const OPENING_MS = 10_000
const MOST_CONNECTIONS = 128

export async function openDatabaseDoor(options: DatabaseDoorOptions): Promise<DatabaseDoor> {
  const clock = options.clock ?? systemClock
  const password = 'port' in options.at ? randomBytes(18).toString('base64url') : undefined
  const live = new Set<Socket>()

  const serve = async (local: Socket): Promise<void> => {
    const late = clock.at(clock.now() + OPENING_MS, () =>
      local.destroy(new ChaperoneError('too_slow', 'The client did not say what it wants in time.')),
    )
    let reader: Reader | undefined
    try {
      reader = new Reader(local)
      const opening = await readGreeting(local, reader)
      if (opening.kind === 'cancel') {
        const upstream = await dial(options.keeper, clock)
        upstream.end(opening.bytes)
        local.end()
        return
      }
      if (password !== undefined) await checkPassword(local, reader, password)
      const parameters = new Map(opening.parameters)
      checkAim(parameters, options)
      parameters.set('database', `${options.resource}/${options.database}`)
      if (options.user !== undefined) parameters.set('user', options.user)
      const upstream = await dial(options.keeper, clock)
      // Who left meanwhile would leave behind a connection that acts as the agent and that nobody ends.
      if (local.destroyed) return void upstream.destroy()
      live.add(upstream)
      upstream.once('close', () => live.delete(upstream))
      upstream.write(writeStartup(opening.version, parameters))
      const early = reader.release()
      if (early.length > 0) upstream.write(early)
      bind(local, upstream, `${options.resource}/${options.database}`)
    } catch (cause) {
      const error = toChaperoneError(cause)
      if (!local.destroyed) local.end(fatalError(REASONS[error.code].sqlstate, error.message, error.fix))
    } finally {
      late()
    }
  }

  const server = createServer((local) => {
    if (live.size >= 2 * MOST_CONNECTIONS) {
      local.end(fatalError(REASONS.too_many.sqlstate, 'Too many connections at once.'))
      return
    }
    live.add(local)
    local.once('close', () => live.delete(local))
    local.on('error', () => local.destroy())
    void serve(local)
  })

  if ('socket' in options.at) await listenOnSocket(server, options.at.socket)
  else await listen(server, { port: options.at.port, host: '127.0.0.1' })
  const { at } = options

  return {
    host: 'socket' in at ? dirname(at.socket) : '127.0.0.1',
    port: 'socket' in at ? SOCKET_PORT : (server.address() as AddressInfo).port,
    ...(password === undefined ? {} : { password }),
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of live) socket.destroy()
      await closed
    },
  }
}

/**
 * A door leads to one database, as one user. Who names another, such as psql's `\c`, would work on in the wrong place
 * believing to be there. A database named like the user is what clients send when nobody named one.
 */
function checkAim(asked: ReadonlyMap<string, string>, { resource, database, user }: DatabaseDoorOptions): void {
  const [wantedUser, wanted] = [asked.get('user') ?? '', asked.get('database') ?? '']
  const other =
    wanted !== '' && wanted !== database && wanted !== `${resource}/${database}` && wanted !== wantedUser
      ? `to the database ${database}, not to ${wanted}`
      : user !== undefined && wantedUser !== '' && wantedUser !== user && wanted !== wantedUser
        ? `in as ${user}, not as ${wantedUser}`
        : undefined
  if (other === undefined) return
  throw new ChaperoneError('not_found', `This door leads ${other}.`, {
    fix: `Use another door for that: chaperone db connect or db proxy ${resource} --database NAME --user NAME.`,
  })
}

async function readGreeting(local: Socket, reader: Reader): Promise<Extract<Opening, { kind: 'startup' | 'cancel' }>> {
  // libpq asks for encryption first, once each way; a client that goes on asking is not one.
  for (let asked = 0; asked < 3; asked++) {
    const opening = await reader.next((bytes) => {
      const found = readOpening(bytes)
      return found && { value: found.opening, size: found.size }
    })
    if (opening.kind === 'startup' || opening.kind === 'cancel') return opening
    // The socket is the user's own; encryption begins at the other end of it.
    local.write('N')
  }
  throw new ChaperoneError('malformed', 'The client never began.')
}

async function checkPassword(local: Socket, reader: Reader, password: string): Promise<void> {
  local.write(askPassword())
  const given = await reader.next((bytes) => {
    const found = readPassword(bytes)
    return found && { value: found.password, size: found.size }
  })
  const expected = Buffer.from(password)
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    throw new ChaperoneError('unauthenticated', 'The password is not the one that `chaperone db proxy` printed.')
  }
}

/** TLS to the gateway with the agent's certificate, after the SSLRequest that every PostgreSQL client sends. */
async function dial(keeper: Keeper, clock: Clock): Promise<TLSSocket> {
  const { profile, key, certificate } = keeper.current()
  const { host, port } = listenerOf(profile, 'postgres')
  const address = `${host}:${port}`
  const stop = new AbortController()
  const late = clock.at(clock.now() + OPENING_MS, () => stop.abort())
  const plain = await openSocket({ host, port, secure: true }, process.env, { signal: stop.signal }).catch((error: Error) => {
    late()
    throw stop.signal.aborted ? unreachable(address, new Error('timeout while connecting')) : connectionError(address, error)
  })
  stop.signal.addEventListener('abort', () => plain.destroy(unreachable(address, new Error('timeout while connecting'))), { once: true })
  try {
    return await new Promise<TLSSocket>((resolve, reject) => {
      const fail = (error: Error) => reject(connectionError(address, error))
      plain.once('error', fail)
      plain.once('close', () => fail(new Error('closed while connecting')))
      plain.write(sslRequest())
      plain.once('data', (answer) => {
        // Exactly one byte: more would be bytes that somebody slipped in before the encryption began (CVE-2021-23222).
        if (answer.length !== 1 || answer[0] !== 0x53)
          return fail(new ChaperoneError('upstream_unavailable', `${address} does not speak PostgreSQL over TLS.`))
        const secure = connectSecure({
          socket: plain,
          ca: profile.bundles.server,
          key,
          cert: certificate,
          minVersion: 'TLSv1.3',
          ALPNProtocols: ['postgresql'],
          ...(isIP(host) ? { host } : { host, servername: host }),
        })
        secure.once('error', fail)
        secure.once('secureConnect', () => resolve(secure))
      })
    })
  } catch (error) {
    plain.destroy()
    throw error
  } finally {
    late()
  }
}

/** Both ways, with back-pressure; the end of either is the end of both. */
function bind(local: Socket, upstream: TLSSocket, name: string): void {
  let heard = false
  upstream.once('data', () => {
    heard = true
  })
  local.pipe(upstream)
  // Ended by hand below, so that a refusal by TLS, which comes only now in TLS 1.3, can still be said in the protocol's words.
  upstream.pipe(local, { end: false })
  const say = (error: ChaperoneError) => {
    if (heard || local.writableEnded) local.end()
    else local.end(fatalError(REASONS[error.code].sqlstate, error.message, error.fix))
  }
  upstream.once('error', (error) => say(connectionError(name, error)))
  upstream.once('close', () => say(new ChaperoneError('upstream_unavailable', 'Chaperone closed the connection before it began.')))
  local.once('close', () => upstream.destroy())
}

/** Reads messages off a socket one at a time, and gives back what was not used. */
class Reader {
  #socket: Socket
  #bytes: Buffer = Buffer.alloc(0)
  #wake: () => void = () => {}
  #failure: Error | undefined

  readonly #onData = (chunk: Buffer) => {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk])
    if (this.#bytes.length > 2 * LONGEST_STARTUP) this.#socket.pause()
    this.#wake()
  }
  readonly #onEnd = (error?: Error | boolean) => {
    this.#failure ??= error instanceof Error ? error : new ChaperoneError('malformed', 'The client has gone.')
    this.#wake()
  }

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', this.#onData)
    for (const event of ['end', 'close', 'error']) socket.on(event, this.#onEnd)
  }

  async next<T>(read: (bytes: Buffer) => { readonly value: T; readonly size: number } | undefined): Promise<T> {
    for (;;) {
      const found = read(this.#bytes)
      if (found) {
        this.#bytes = this.#bytes.subarray(found.size)
        return found.value
      }
      if (this.#failure) throw this.#failure
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  release(): Buffer {
    this.#socket.pause()
    this.#socket.off('data', this.#onData)
    for (const event of ['end', 'close', 'error']) this.#socket.off(event, this.#onEnd)
    return this.#bytes
  }
}

async function listenOnSocket(server: ReturnType<typeof createServer>, path: string): Promise<void> {
  if (Buffer.byteLength(path) > LONGEST_SOCKET_PATH) {
    throw new ChaperoneError('usage', `The path of the socket is too long: ${path}`, { fix: 'Choose a shorter folder with --socket-dir.' })
  }
  const folder = dirname(path)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const about = await lstat(folder)
  // Who can write to the folder can put another socket in place of ours. It is not narrowed: it may be /tmp, and we root, or somebody's home.
  if (!about.isDirectory() || (process.getuid && about.uid !== process.getuid()) || (process.platform !== 'win32' && (about.mode & 0o022) !== 0))
    throw new ChaperoneError('usage', `${folder} is not a folder that you alone can write to.`, {
      fix: 'Name one with --socket-dir that is not there yet: it is made, and closed to others.',
    })
  if (await answers(path)) {
    throw new ChaperoneError('conflict', `Another \`chaperone db proxy\` listens on ${path}.`, {
      fix: 'Use that one, end it, or choose another folder with --socket-dir.',
    })
  }
  // A socket whose process is gone stays behind as a file.
  await rm(path, { force: true })
  // Bound before listen returns: with a mode that is set afterwards there would be a moment in which others can open it.
  const before = process.umask(0o177)
  const listening = listen(server, { path })
  process.umask(before)
  await listening
}

const answers = (path: string) =>
  new Promise<boolean>((resolve) => {
    const probe = connectPlain(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })

const listen = (server: ReturnType<typeof createServer>, where: { readonly path: string } | { readonly port: number; readonly host: string }) =>
  new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE' && 'port' in where
          ? new ChaperoneError('conflict', `Port ${where.port} is taken.`, { fix: 'Choose another with --port.' })
          : error,
      ),
    )
    server.listen(where, resolve)
  })
