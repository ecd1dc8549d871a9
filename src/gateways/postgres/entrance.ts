import { constants } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createSecureContext, type SecureContext, TLSSocket, type TlsOptions } from 'node:tls'
import { ChaperoneError } from '../../errors.ts'
import { type FirstPacket, readFirstPacket } from './wire/first-packet.ts'

/** What a client asks for to be let in. */
export interface Startup {
  readonly packet: Extract<FirstPacket, { kind: 'startup' }>
  /** What came behind it. */
  readonly rest: Buffer
  /** The name in its TLS handshake. */
  readonly serverName: string | undefined
}

/** What a client said first: over TLS its startup or a cancel, in the clear a cancel and nothing else. */
export type Entered =
  | ({ readonly kind: 'startup'; readonly socket: TLSSocket } & Startup)
  | {
      readonly kind: 'cancel'
      readonly socket: Socket
      readonly packet: Extract<FirstPacket, { kind: 'cancel' }>
      readonly secure: TLSSocket | undefined
    }

const ACCEPTED = Buffer.from('S')
const DECLINED = Buffer.from('N')
/** first byte of a TLS record that begins a handshake */
const TLS_HANDSHAKE = 0x16

/** Brings raw sockets into TLS: by SSLRequest, or directly (PostgreSQL 17, ALPN `postgresql`). */
export class Entrance {
  readonly #options: () => TlsOptions
  /** Sockets whose handshake has begun; the secure one once it stands. */
  readonly #secured = new WeakMap<Socket, TLSSocket | 'not yet'>()
  #context: { readonly of: TlsOptions; readonly secure: SecureContext } | undefined

  constructor(options: () => TlsOptions) {
    this.#options = options
  }

  /** Where an error can be said to the client: not in the middle of a handshake, nor in the clear after it. */
  voice(socket: Socket): Socket | undefined {
    const secured = this.#secured.get(socket)
    return secured === 'not yet' ? undefined : (secured ?? socket)
  }

  /** The first packet that matters. `signal` ends the wait. Throws ChaperoneError; writes nothing but the answers of the handshake. */
  async enter(socket: Socket, signal: AbortSignal): Promise<Entered> {
    for (let requests = 0; requests < 3; requests++) {
      const first = await peek(socket, signal)
      if (first[0] === TLS_HANDSHAKE) return await this.#inside(await this.#secure(socket, signal, true), signal)
      const { packet, rest } = await readPacket(socket, signal)
      if (packet.kind === 'ssl') {
        // What came behind it was not encrypted, and would be taken for what was (CVE-2021-23214).
        if (rest.length > 0) throw new ChaperoneError('malformed', 'Bytes in the clear follow the request for TLS.')
        socket.write(ACCEPTED)
        return await this.#inside(await this.#secure(socket, signal, false), signal)
      }
      // Clients before PostgreSQL 17 cancel in the clear even when their connection is encrypted.
      if (packet.kind === 'cancel') return { kind: 'cancel', socket, packet, secure: undefined }
      if (packet.kind === 'startup') {
        throw new ChaperoneError('unauthenticated', 'Only TLS with a client certificate is spoken here.', {
          fix: 'Set sslmode=verify-full, or connect through `chaperone db connect`.',
        })
      }
      socket.write(DECLINED)
    }
    throw new ChaperoneError('malformed', 'No startup packet came.')
  }

  async #inside(socket: TLSSocket, signal: AbortSignal): Promise<Entered> {
    const { packet, rest } = await readPacket(socket, signal)
    if (packet.kind === 'startup') return { kind: 'startup', socket, packet, rest, serverName: socket.servername || undefined }
    if (packet.kind === 'cancel') return { kind: 'cancel', socket, packet, secure: socket }
    throw new ChaperoneError('malformed', 'TLS was asked for inside TLS.')
  }

  async #secure(socket: Socket, signal: AbortSignal, direct: boolean): Promise<TLSSocket> {
    this.#secured.set(socket, 'not yet')
    const secured = new TLSSocket(socket, {
      isServer: true,
      secureContext: this.#freshContext(),
      requestCert: true,
      // Whose certificate it is, and whether it counts, is asked once it is here, so that a refusal can be said and recorded.
      rejectUnauthorized: false,
      ALPNProtocols: ['postgresql'],
    })
    // An error is always followed by 'close', and that is what is listened to.
    secured.on('error', () => {})
    const handshake = Promise.withResolvers<void>()
    const stop = () => handshake.reject(signal.reason)
    secured.once('secure', handshake.resolve)
    secured.once('close', () => handshake.reject(new ChaperoneError('credential_invalid', 'The TLS handshake failed.')))
    signal.addEventListener('abort', stop, { once: true })
    try {
      await handshake.promise
    } finally {
      // A signal made of others is kept for ever while anybody listens to it, and with it the whole connection.
      signal.removeEventListener('abort', stop)
    }
    this.#secured.set(socket, secured)
    // Without it bytes meant for another protocol, sent on by a browser, could be taken for a startup (ALPACA).
    if (direct && secured.alpnProtocol !== 'postgresql') throw new ChaperoneError('malformed', 'Direct TLS needs the ALPN protocol `postgresql`.')
    return secured
  }

  /** The certificates as they are now; a context costs a millisecond, so one is kept until they change. */
  #freshContext(): SecureContext {
    const now = this.#options()
    const kept = this.#context
    if (kept && kept.of.cert === now.cert && kept.of.key === now.key && kept.of.ca === now.ca) return kept.secure
    // A resumed session would keep an expired certificate alive (engineering.md B.1, measured).
    const secure = createSecureContext({ ...now, minVersion: 'TLSv1.2', secureOptions: (now.secureOptions ?? 0) | constants.SSL_OP_NO_TICKET })
    this.#context = { of: now, secure }
    return secure
  }
}

/** The bytes that are here, without taking them. */
async function peek(socket: Duplex, signal: AbortSignal): Promise<Buffer> {
  const bytes = await more(socket, signal)
  socket.unshift(bytes)
  return bytes
}

/** The first packet of a stream. Throws ChaperoneError; `signal` ends the wait. */
export async function readPacket(socket: Duplex, signal: AbortSignal): Promise<{ packet: FirstPacket; rest: Buffer }> {
  let held: Buffer = Buffer.alloc(0)
  for (;;) {
    held = Buffer.concat([held, await more(socket, signal)])
    const found = readFirstPacket(held)
    if (found) return { packet: found.packet, rest: held.subarray(found.size) }
  }
}

async function more(socket: Duplex, signal: AbortSignal): Promise<Buffer> {
  for (;;) {
    signal.throwIfAborted()
    const chunk = socket.read() as Buffer | null
    if (chunk) return chunk
    if (socket.readableEnded || socket.destroyed) throw new ChaperoneError('malformed', 'The client went away before it had said who it is.')
    const done = new AbortController()
    try {
      await Promise.race(['readable', 'end', 'close'].map((event) => once(socket, event, { signal: AbortSignal.any([signal, done.signal]) })))
    } catch (error) {
      throw signal.aborted ? signal.reason : error
    } finally {
      done.abort()
    }
  }
}
