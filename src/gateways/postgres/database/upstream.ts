import { once } from 'node:events'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'
import type { CertificateAuthority } from '../../../ca/types.ts'
import type { PostgresDatabaseSpec } from '../../../catalog/postgres-database.ts'
import { ChaperoneError } from '../../../errors.ts'
import { sslRequest } from '../wire/write.ts'

/** What is shown to the server in TLS; nothing for a cancel, or where another credential follows inside. */
export interface ClientCertificate {
  readonly cert: string
  readonly key: string
}

/** A server that is gone without a word is noticed by the system's probes, which begin after so long a silence. */
const KEEP_ALIVE_MS = 60_000

export interface HostAndPort {
  readonly host: string
  readonly port: number
}

/** `db.example.com:5432`, `[::1]:5432` */
export function hostAndPort(address: string): HostAndPort {
  const colon = address.lastIndexOf(':')
  return { host: address.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), port: Number(address.slice(colon + 1)) }
}

/**
 * TCP, SSLRequest, TLS: every socket to a database is made here. The server must show a certificate of the authority that
 * the catalog names, or of our own for this database. Throws ChaperoneError (`upstream_unavailable`); `deadline` ends the try.
 */
export async function secureSocket(
  spec: Pick<PostgresDatabaseSpec, 'address' | 'tls'>,
  resourceId: string,
  ca: Pick<CertificateAuthority, 'bundle'>,
  deadline: AbortSignal,
  certificate?: ClientCertificate,
): Promise<TLSSocket> {
  const { host, port } = hostAndPort(spec.address)
  // Undefined: the public authorities that Node brings along.
  const trusted = spec.tls.ca === 'public' ? undefined : (spec.tls.ca ?? (await ca.bundle(`database:${resourceId}`)))
  deadline.throwIfAborted()
  const tcp: Socket = connectTcp({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS })
  const stop = () => tcp.destroy(new Error('given up'))
  deadline.addEventListener('abort', stop, { once: true })
  try {
    await once(tcp, 'connect')
    tcp.write(sslRequest())
    await once(tcp, 'readable')
    const answer = tcp.read() as Buffer | null
    // Anything after the one byte was not encrypted (CVE-2021-23222: a man in the middle speaks first).
    if (answer?.length !== 1 || answer[0] !== 'S'.charCodeAt(0)) throw new Error('the server does not speak TLS')
    const name = spec.tls.name ?? host
    const socket = connectTls({
      socket: tcp,
      host: name,
      ...(isIP(name) ? {} : { servername: name }),
      secureContext: contextOf(certificate, trusted),
    })
    await once(socket, 'secureConnect')
    // An error is always followed by 'close', and that is what is listened to.
    socket.on('error', () => {})
    return socket
  } catch (error) {
    tcp.destroy()
    throw new ChaperoneError('upstream_unavailable', 'The database cannot be reached.', {
      detail: error instanceof Error ? error.message : String(error),
      fix: 'Try again later. If it stays so, an administrator sees why with `chaperone db setup NAME --check`.',
      cause: error,
    })
  } finally {
    deadline.removeEventListener('abort', stop)
  }
}

/** A context costs a millisecond and 30 KB; one is made for each certificate, as long as the same authorities are trusted. */
const contexts = new WeakMap<ClientCertificate, { readonly trusted: string | undefined; readonly context: SecureContext }>()
/** Of cancels, which show no certificate and come by the hundred when a lock falls: by the authorities that are trusted. */
const bare = new Map<string | undefined, SecureContext>()
const MOST_BARE = 16

function contextOf(certificate: ClientCertificate | undefined, trusted: string | undefined): SecureContext {
  if (!certificate) return bareContext(trusted)
  const made = contexts.get(certificate)
  if (made && made.trusted === trusted) return made.context
  const context = newContext(trusted, certificate)
  contexts.set(certificate, { trusted, context })
  return context
}

function bareContext(trusted: string | undefined): SecureContext {
  const made = bare.get(trusted)
  if (made) return made
  const context = newContext(trusted)
  if (bare.size >= MOST_BARE) bare.delete([...bare.keys()][0])
  bare.set(trusted, context)
  return context
}

const newContext = (trusted: string | undefined, certificate?: ClientCertificate): SecureContext =>
  createSecureContext({ ...certificate, ...(trusted === undefined ? {} : { ca: trusted }), minVersion: 'TLSv1.2' })
