import type { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import type { CertificateAuthority } from '../../../ca/types.ts'
import type { PostgresDatabaseSpec } from '../../../catalog/postgres-database.ts'
import { ChaperoneError } from '../../../errors.ts'
import { FROM_SERVER } from '../wire/codes.ts'
import { readErrorFields } from '../wire/server.ts'
import { sslRequest, startupPacket } from '../wire/write.ts'
import { ASKS, askedBy, nameOfAsked } from './authentication.ts'
import { Frames } from './frames.ts'
import { hostAndPort, secureSocket } from './upstream.ts'

/** What a server shows before anybody says who he is. Nothing in it is proven. */
export interface Seen {
  /** the address of ours that it sees, unless something on the way rewrites it */
  readonly from: string
  readonly tls?: {
    readonly protocol: string
    readonly certificate: X509Certificate
    /** why `authorities` do not vouch for it, or its name is another */
    readonly distrust?: string
  }
}

/** TCP and TLS to a server that may be anybody: nothing is said to it, and the connection is closed. Throws `upstream_unavailable`. */
export async function lookAtServer(
  spec: Pick<PostgresDatabaseSpec, 'address' | 'tls'>,
  authorities: string | undefined,
  deadline: AbortSignal,
): Promise<Seen> {
  const tcp = await plainSocket(spec.address, deadline)
  try {
    const from = tcp.localAddress ?? ''
    if (!(await asksForTls(tcp, deadline))) return { from }
    const name = spec.tls.name ?? hostAndPort(spec.address).host
    const socket = connectTls({
      socket: tcp,
      host: name,
      ...(isIP(name) ? {} : { servername: name }),
      ...(authorities === undefined ? {} : { ca: authorities }),
      // To look only. What is trusted is decided in `secureSocket`, which every login goes through.
      rejectUnauthorized: false,
    })
    await once(socket, 'secureConnect', { signal: deadline })
    const certificate = socket.getPeerX509Certificate()
    if (!certificate) throw new Error('the server shows no certificate')
    const distrust = socket.authorizationError as unknown
    return {
      from,
      tls: {
        protocol: socket.getProtocol() ?? 'TLS',
        certificate,
        ...(distrust ? { distrust: distrust instanceof Error ? distrust.message : String(distrust) } : {}),
      },
    }
  } catch (error) {
    throw unreachable(error)
  } finally {
    tcp.destroy()
  }
}

/** What a server says to somebody who has nothing to show: `refused` is how it should be. */
export interface Knock {
  readonly answer: 'refused' | 'asks' | 'open'
  readonly said: string
}

/**
 * Knocks as a database user without any credential, over TLS or in the clear, and goes away again: whether there is
 * another door beside the one that Chaperone uses. Throws `upstream_unavailable`.
 */
export async function knock(
  spec: PostgresDatabaseSpec,
  resourceId: string,
  as: { readonly user: string; readonly database: string; readonly over: 'tls' | 'plain' },
  ca: Pick<CertificateAuthority, 'bundle'>,
  deadline: AbortSignal,
): Promise<Knock> {
  const socket = as.over === 'tls' ? await secureSocket(spec, resourceId, ca, deadline) : await plainSocket(spec.address, deadline)
  try {
    socket.write(startupPacket({ user: as.user, database: as.database, application_name: 'chaperone' }))
    const frame = await new Frames(socket as TLSSocket).next(deadline)
    if (frame[0] === FROM_SERVER.error) return { answer: 'refused', said: readErrorFields(frame).get('M') ?? '' }
    if (frame[0] !== FROM_SERVER.authentication) throw new ChaperoneError('upstream_unavailable', 'The server does not speak PostgreSQL.')
    const asked = askedBy(frame)
    return { answer: asked === ASKS.nothing ? 'open' : 'asks', said: nameOfAsked(asked) }
  } finally {
    socket.destroy()
  }
}

async function plainSocket(address: string, deadline: AbortSignal): Promise<Socket> {
  deadline.throwIfAborted()
  const { host, port } = hostAndPort(address)
  if (port > 65_535)
    throw new ChaperoneError('usage', `${port} is no port: they end at 65535.`, { fix: 'Correct the port behind the colon of the address.' })
  const tcp = connectTcp({ host, port, noDelay: true })
  try {
    await once(tcp, 'connect', { signal: deadline })
  } catch (error) {
    tcp.destroy()
    throw unreachable(error)
  }
  // An error is always followed by 'close', and that is what is listened to.
  tcp.on('error', () => {})
  return tcp
}

async function asksForTls(tcp: Socket, deadline: AbortSignal): Promise<boolean> {
  tcp.write(sslRequest())
  await once(tcp, 'readable', { signal: deadline })
  const answer = tcp.read() as Buffer | null
  return answer?.length === 1 && answer[0] === 'S'.charCodeAt(0)
}

/** Said to administrators only; a client that asks for a database hears no more than that it cannot be reached. */
function why(error: unknown): string {
  const code = String((error as NodeJS.ErrnoException | undefined)?.code)
  if (code === 'ECONNREFUSED') return ': nothing listens at that port'
  if (/^(ENOTFOUND|EAI_[A-Z]+)$/.test(code)) return ': its name cannot be resolved'
  if (/^(EHOSTUNREACH|ENETUNREACH)$/.test(code)) return ': no way leads to it'
  return ''
}

const unreachable = (error: unknown) =>
  error instanceof ChaperoneError
    ? error
    : new ChaperoneError('upstream_unavailable', `The database server cannot be reached${why(error)}.`, {
        detail: error instanceof Error ? error.message : String(error),
        fix: 'Check the address, and that nothing on the way stops Chaperone.',
        cause: error,
      })
