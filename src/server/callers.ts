import { hash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { ChaperoneError } from '../errors.ts'
import type { Connection, LiveSession, Principal, Sessions } from '../identity/types.ts'

/** Who is behind a request: the session, and the connection that ends when its proof does. */
export interface Caller {
  readonly session: LiveSession
  readonly connection: Connection
  /** The certificate that was shown: what is bound to it may be used beside it (RFC 8705). */
  readonly certificate?: Certificate
  /** What the token was said to open (RFC 9068): too little of it may be asked for anew. */
  readonly scope?: string
}

export interface Certificate {
  /** sha256, base64url */
  readonly thumbprint: string
  /** ms since 1970 */
  readonly notAfter: number
}

interface CallerParts {
  readonly sessions: Sessions
  /** DER of the peer's certificate -> principal; throws credential_invalid, credential_expired. */
  readonly fromCertificate: (raw: Uint8Array) => Principal
  /** Throws credential_invalid, credential_expired. `resource`: the address that the token may have been made for alone. */
  readonly fromToken: (token: string, resource: string | undefined) => Promise<Principal>
  /** Throws when the session's chain may not act now (a lock, a disabled link), or not with this credential. */
  readonly mayAct: (session: LiveSession, credentialId: string) => Promise<void>
}

/** Answers who asks, once a socket for mTLS, once a request for bearer tokens. */
export interface Callers {
  /** By client certificate. Undefined when the peer showed none. */
  mutual(request: IncomingMessage): Promise<Caller | undefined>
  /** The caller behind a raw TLS socket (PostgreSQL). */
  socket(socket: TLSSocket, protocol: string): Promise<Caller>
  /**
   * By `Authorization: Bearer`. Undefined when there is none; `release` when the request is over. `resource` is the protected resource
   * that is asked for: a token of OAuth opens its own and no other (RFC 8707). `beside`: the caller by certificate, where certificates are
   * shown: there only a token that is bound to that one is believed, and everywhere else only one that is bound to none.
   */
  bearer(request: IncomingMessage, resource?: string, beside?: Caller): Promise<(Caller & { release(): void }) | undefined>
}

export function makeCallers({ sessions, fromCertificate, fromToken, mayAct }: CallerParts): Callers {
  const known = new WeakMap<TLSSocket, Promise<Caller>>()

  const identify = async (socket: TLSSocket, raw: Uint8Array, protocol: string): Promise<Caller> => {
    const principal = fromCertificate(raw)
    const session = await sessions.open(principal)
    const connection = session.connect(protocol, { credentialId: principal.credentialId })
    socket.once('close', () => connection.closed())
    if (protocol === 'https') connection.signal.addEventListener('abort', () => cutSoon(socket), { once: true })
    return { session, connection, certificate: { thumbprint: hash('sha256', raw, 'base64url'), notAfter: principal.notAfter } }
  }

  return {
    async mutual(request) {
      const socket = request.socket as TLSSocket
      const before = known.get(socket)
      if (before) {
        const caller = await before
        // The socket lives on the session's newest proof, not on the certificate it began with (design 3.2).
        caller.connection.assertOpen()
        await mayAct(caller.session, caller.connection.credentialId ?? '')
        return caller
      }
      const raw = peerCertificate(socket)
      if (!raw) return undefined
      const caller = identify(socket, raw, 'https')
      known.set(socket, caller)
      caller.catch(() => known.delete(socket))
      return caller
    },

    async socket(socket, protocol) {
      const raw = peerCertificate(socket)
      if (!raw)
        throw new ChaperoneError('unauthenticated', 'A client certificate is needed.', {
          fix: 'Connect through `chaperone db connect` or `chaperone db proxy`.',
        })
      return identify(socket, raw, protocol)
    },

    async bearer(request, resource, beside) {
      const header = request.headers.authorization
      if (header === undefined) return undefined
      const token = /^Bearer ([A-Za-z0-9._~+/-]{1,8192}=*)$/i.exec(header)?.[1]
      if (token === undefined) throw new ChaperoneError('credential_invalid', 'The Authorization header is not a bearer token.')
      const principal = await fromToken(token, resource)
      if (principal.boundTo !== beside?.certificate?.thumbprint) throw wrongDoor(principal, beside)
      const session = await sessions.open(principal)
      const connection = session.connect('https', { until: principal.notAfter, credentialId: principal.credentialId })
      return { session, connection, ...(principal.scope === undefined ? {} : { scope: principal.scope }), release: () => connection.closed() }
    },
  }
}

/** A token without its certificate was stolen, or came to the wrong door; a certificate beside the token of nobody in particular says two things of who asks. */
const wrongDoor = ({ boundTo }: Principal, beside: Caller | undefined): ChaperoneError =>
  boundTo === undefined
    ? new ChaperoneError('credential_invalid', 'Where certificates are shown, a token must be bound to the one that is shown.', {
        fix: 'Get one there, or take this one to the web listener.',
      })
    : new ChaperoneError('credential_invalid', 'This token works only with the certificate that it was made for.', {
        fix: beside ? 'The certificate was renewed, or is another one: get a new token with it.' : 'Show both to the listener for mTLS.',
      })

/** The certificate the peer showed and proved to hold the key of; `authorized` is not asked, because the chain is checked by us. */
function peerCertificate(socket: TLSSocket): Uint8Array | undefined {
  if (socket.isSessionReused()) throw new ChaperoneError('credential_invalid', 'Resumed TLS sessions are not accepted.')
  return socket.getPeerX509Certificate()?.raw
}

const GOODBYE_MS = 20
let leaving: TLSSocket[] = []

/** What is being answered gets a moment to say goodbye in its own protocol; then the socket is gone. One timer for all that one lock falls on. */
function cutSoon(socket: TLSSocket): void {
  if (leaving.push(socket) > 1) return
  queueMicrotask(() => {
    const these = leaving
    leaving = []
    setTimeout(() => {
      for (const one of these) one.destroy()
    }, GOODBYE_MS).unref()
  })
}
