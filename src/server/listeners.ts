import type { RequestListener } from 'node:http'
import { createServer as createHttps, type Server as HttpsServer } from 'node:https'
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from 'node:net'
import type { TlsOptions } from 'node:tls'
import { ChaperoneError } from '../errors.ts'
import type { Balancers } from '../network/forwarded.ts'
import { splitHostPort } from './options.ts'

/** Bounds of every HTTP listener (rule 11): slow headers, slow bodies, idle sockets, header size and count. */
const HTTP_BOUNDS = {
  headersTimeout: 10_000,
  requestTimeout: 60_000,
  keepAliveTimeout: 65_000,
  maxHeaderSize: 32 * 1024,
  connectionsCheckingInterval: 5_000,
} as const
const HANDSHAKE_TIMEOUT_MS = 10_000
const MOST_CONNECTIONS = 10_000
/**
 * What one address may hold of them: with slow handshakes alone, and no credential, it could otherwise keep everybody else
 * out. Half, because a whole company may stand behind one address; less for PostgreSQL, whose gateway takes fewer.
 */
const PER_ADDRESS = { https: 5_000, tcp: 1_000 } as const

export interface Listening {
  readonly address: string
  /** No new connections from now on; the ones that are open go on. */
  stopAccepting(): void
  /** What is still open gets `grace` ms to end by itself. */
  close(grace: number): Promise<void>
}

export interface Https extends Listening {
  /** New handshakes use these from now on; open connections stay. */
  renew(tls: TlsOptions): void
}

export async function listenHttps(
  where: string,
  tls: TlsOptions,
  handler: RequestListener,
  /** Behind one of their addresses is everybody. */
  balancers?: Pick<Balancers, 'trusts'>,
): Promise<Https> {
  const server = createHttps({ ...tls, ...HTTP_BOUNDS, handshakeTimeout: HANDSHAKE_TIMEOUT_MS, sessionTimeout: 1 }, handler)
  server.maxConnections = MOST_CONNECTIONS
  server.maxHeadersCount = 100
  limitAddresses(server, PER_ADDRESS.https, balancers)
  const sockets = track(server, 'secureConnection')
  const address = await listen(server, where)
  return {
    address,
    renew: (next) => server.setSecureContext(next),
    ...closing(server, sockets, () => server.closeIdleConnections()),
  }
}

/** A raw TCP listener; what speaks on it does its own TLS (PostgreSQL's SSLRequest comes first in clear). */
export async function listenTcp(
  where: string,
  accept: (socket: Socket) => void,
  { perAddress = PER_ADDRESS.tcp }: { readonly perAddress?: number } = {},
): Promise<Listening> {
  const server = createTcp({ noDelay: true, keepAlive: true })
  limitAddresses(server, perAddress)
  server.on('connection', (socket: Socket) => {
    if (!socket.destroyed) accept(socket)
  })
  server.maxConnections = MOST_CONNECTIONS
  const sockets = track(server, 'connection')
  const address = await listen(server, where)
  return {
    address,
    ...closing(server, sockets, () => {}),
  }
}

function closing(server: Server, sockets: ReadonlySet<Socket>, closeIdle: () => void): Pick<Listening, 'stopAccepting' | 'close'> {
  let closed: Promise<void> | undefined
  const stopAccepting = () => {
    closed ??= new Promise<void>((done) => server.close(() => done()))
    closeIdle()
  }
  return {
    stopAccepting,
    async close(grace) {
      stopAccepting()
      await Promise.race([closed, sleepUnref(grace)])
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

/** Destroys what one address has too much of, before a byte of it is read. */
function limitAddresses(server: Server, most: number, except?: Pick<Balancers, 'trusts'>): void {
  const held = new Map<string, number>()
  // First of all listeners: to a TLS server this is the raw socket, before the handshake.
  server.prependListener('connection', (socket: Socket) => {
    const from = socket.remoteAddress ?? ''
    if (except?.trusts(from)) return
    const count = held.get(from) ?? 0
    if (count >= most) return void socket.destroy()
    held.set(from, count + 1)
    socket.once('close', () => {
      const left = held.get(from)! - 1
      if (left > 0) held.set(from, left)
      else held.delete(from)
    })
  })
}

function track(server: Server | HttpsServer, event: string): ReadonlySet<Socket> {
  const sockets = new Set<Socket>()
  server.on(event, (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.once('close', () => sockets.delete(socket))
  })
  // A client that fails its handshake is no failure of ours.
  server.on('tlsClientError', (_error, socket: Socket) => socket.destroy())
  return sockets
}

async function listen(server: Server, where: string): Promise<string> {
  const { host, port } = splitHostPort(where)
  await new Promise<void>((done, fail) => {
    server.once('error', (error: NodeJS.ErrnoException) => fail(explain(error, where)))
    server.listen(port, host, done)
  })
  const { address, family, port: actual } = server.address() as AddressInfo
  return `${family === 'IPv6' ? `[${address}]` : address}:${actual}`
}

function explain(error: NodeJS.ErrnoException, where: string): ChaperoneError {
  if (error.code === 'EADDRINUSE')
    return new ChaperoneError('conflict', `The address ${where} is taken by another process.`, {
      fix: 'Stop that process, or choose another port (--listen, --web-listen, --postgres-listen).',
    })
  if (error.code === 'EACCES')
    return new ChaperoneError('usage', `This user may not listen on ${where}.`, { fix: 'Choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE.' })
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND')
    return new ChaperoneError('usage', `The address ${where} is not one of this machine.`, {
      fix: 'Use 127.0.0.1, 0.0.0.0, or an address that `ip addr` shows.',
    })
  return new ChaperoneError('internal', `Listening on ${where} failed: ${error.message}`)
}

const sleepUnref = (ms: number) => new Promise<void>((done) => setTimeout(done, ms).unref())
