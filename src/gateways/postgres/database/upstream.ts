import { generateKeyPair } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import type { Permit } from '../../../access/types.ts'
import type { CertificateAuthority } from '../../../ca/types.ts'
import type { PostgresDatabaseSpec } from '../../../catalog/postgres-database.ts'
import type { Clock } from '../../../clock.ts'
import { parseDuration } from '../../../encoding/duration.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { SqlContext } from '../describe.ts'
import { CEILINGS, type Ceilings, milliseconds } from '../sql/settings.ts'
import { FROM_SERVER } from '../wire/codes.ts'
import { readDataRow, readErrorFields, readParameterStatus } from '../wire/server.ts'
import { cancelRequest, queryMessage, sslRequest, startupPacket } from '../wire/write.ts'

export interface UpstreamParts {
  readonly ca: Pick<CertificateAuthority, 'issueDatabase' | 'bundle'>
  readonly clock: Clock
  readonly connectMs: number
}

/** A connection to the database, logged in and idle. */
export interface Upstream {
  readonly socket: TLSSocket
  /** What the server calls this connection, for a cancel. */
  readonly process: number
  readonly secret: Buffer
  /** What the server said of itself: `server_version`, `TimeZone` ... */
  readonly parameters: ReadonlyMap<string, string>
  readonly context: SqlContext
  /** Bytes that came after the login: a notice, the beginning of one. */
  readonly rest: Buffer
}

const LONGEST_AT_LOGIN = 64 * 1024

const newKey = promisify(generateKeyPair)

/**
 * Opens it as the permit says: TLS with a certificate for the database user that lives minutes, made for this connection
 * with a key that never leaves this process. No password exists, so none can be asked for. Throws ChaperoneError.
 */
export async function openUpstream(
  permit: Permit,
  spec: PostgresDatabaseSpec,
  settings: Readonly<Record<string, string>>,
  parts: UpstreamParts,
): Promise<Upstream> {
  const { database, user } = permit.action.facts as { database: string; user: string }
  const resourceId = permit.action.resource.id
  return await withDeadline(permit.signal, parts, async (deadline) => {
    const { publicKey, privateKey } = await newKey('ec', { namedCurve: 'P-256' })
    const notAfter = parts.clock.now() + parseDuration(spec.credential_ttl)
    const { certificate } = await parts.ca.issueDatabase({ spki: publicKey.export({ type: 'spki', format: 'der' }), resourceId, user, notAfter })
    const key = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
    const socket = await secureSocket(spec, resourceId, parts, deadline, { cert: certificate, key })
    try {
      socket.write(startupPacket({ user, database, client_encoding: 'UTF8', standard_conforming_strings: 'on', ...settings }))
      return await logIn(socket, deadline)
    } catch (error) {
      socket.destroy()
      throw error
    }
  })
}

/** Asks the server to stop what the connection is doing. The request carries no credential, only the server's own key for that connection. */
export async function cancelUpstream(
  permit: Permit,
  spec: PostgresDatabaseSpec,
  of: Pick<Upstream, 'process' | 'secret'>,
  parts: UpstreamParts,
): Promise<void> {
  // Not under the permit's signal: when that has aborted, a cancel is most needed.
  await withDeadline(new AbortController().signal, parts, async (deadline) => {
    const socket = await secureSocket(spec, permit.action.resource.id, parts, deadline)
    socket.resume()
    socket.end(cancelRequest(of.process, of.secret))
    await once(socket, 'close', { signal: deadline })
  })
}

async function withDeadline<T>(signal: AbortSignal, { clock, connectMs }: UpstreamParts, work: (deadline: AbortSignal) => Promise<T>): Promise<T> {
  const late = new AbortController()
  const disarm = clock.at(clock.now() + connectMs, () => late.abort(new ChaperoneError('upstream_timeout', 'The database did not answer in time.')))
  const deadline = AbortSignal.any([signal, late.signal])
  try {
    return await work(deadline)
  } catch (error) {
    if (deadline.aborted && deadline.reason instanceof ChaperoneError) throw deadline.reason
    throw error
  } finally {
    disarm()
  }
}

/** TCP, SSLRequest, TLS. The server must show a certificate of the authority that the catalog names, or of our own for this database. */
async function secureSocket(
  spec: PostgresDatabaseSpec,
  resourceId: string,
  { ca }: UpstreamParts,
  deadline: AbortSignal,
  identity: { cert?: string; key?: string } = {},
): Promise<TLSSocket> {
  const colon = spec.address.lastIndexOf(':')
  const host = spec.address.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
  const trusted = spec.tls.ca ?? (await ca.bundle(`database:${resourceId}`))
  const unreachable = (detail: unknown) =>
    new ChaperoneError('upstream_unavailable', 'The database cannot be reached.', {
      detail: detail instanceof Error ? detail.message : String(detail),
      cause: detail,
    })
  const tcp: Socket = connectTcp({ host, port: Number(spec.address.slice(colon + 1)), noDelay: true })
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
      ca: trusted,
      minVersion: 'TLSv1.2',
      ...identity,
    })
    await once(socket, 'secureConnect')
    // An error is always followed by 'close', and that is what is listened to.
    socket.on('error', () => {})
    return socket
  } catch (error) {
    tcp.destroy()
    throw unreachable(error)
  } finally {
    deadline.removeEventListener('abort', stop)
  }
}

/**
 * What the parser must know of the connection: where names are looked for, and which limits the database set for this
 * user. Names are written in full, because the path is what is asked for.
 */
const PROBE = `SELECT pg_catalog.array_to_json(pg_catalog.current_schemas(true))::pg_catalog.text, ${CEILINGS.map((name) => `pg_catalog.current_setting('${name}', true)`).join(', ')}`

async function logIn(socket: TLSSocket, deadline: AbortSignal): Promise<Upstream> {
  const parameters = new Map<string, string>()
  let key: Pick<Upstream, 'process' | 'secret'> | undefined
  let context: SqlContext | undefined
  const frames = new Frames(socket, deadline)
  for (;;) {
    const frame = await frames.next()
    switch (frame[0]) {
      case FROM_SERVER.authentication:
        // 0 is "you are in". Anything else asks for a password, and there is none.
        if (frame.length !== 9 || frame.readInt32BE(5) !== 0) {
          throw new ChaperoneError('upstream_unavailable', 'The database asks for a password, and Chaperone uses certificates only.', {
            fix: 'Let the database accept client certificates: a `hostssl ... cert` line in pg_hba.conf, and the authority of this database in ssl_ca_file.',
          })
        }
        break
      case FROM_SERVER.parameterStatus: {
        const { name, value } = readParameterStatus(frame)
        parameters.set(name, value)
        break
      }
      case FROM_SERVER.backendKeyData:
        key = { process: frame.readInt32BE(5), secret: Buffer.from(frame.subarray(9)) }
        break
      case FROM_SERVER.error: {
        const fields = readErrorFields(frame)
        throw new ChaperoneError('upstream_unavailable', `The database refused the connection: ${fields.get('M') ?? 'no reason given'}`, {
          detail: `SQLSTATE ${fields.get('C') ?? '?'}`,
        })
      }
      case FROM_SERVER.dataRow:
        context = readProbe(readDataRow(frame))
        break
      case FROM_SERVER.readyForQuery:
        if (!key) throw new ChaperoneError('upstream_unavailable', 'The database gave no key for cancelling.')
        if (parameters.get('standard_conforming_strings') !== 'on' || parameters.get('client_encoding') !== 'UTF8') {
          throw new ChaperoneError('upstream_unavailable', 'The database does not keep the settings that statements are read by.')
        }
        if (context) return { socket, ...key, parameters, context, rest: frames.rest }
        socket.write(queryMessage(PROBE))
        break
      default:
    }
  }
}

function readProbe([path, ...limits]: readonly (string | null)[]): SqlContext {
  const ceilings: Partial<Record<(typeof CEILINGS)[number], number>> = {}
  CEILINGS.forEach((name, i) => {
    const limit = milliseconds(limits[i] ?? '')
    if (limit !== undefined && limit > 0) ceilings[name] = limit
  })
  return { path: JSON.parse(path ?? '[]') as string[], ceilings: ceilings satisfies Ceilings }
}

/** Whole messages, while there are few of them; leaves the socket paused and without listeners of ours. */
class Frames {
  readonly #socket: TLSSocket
  readonly #signal: AbortSignal
  #held: Buffer = Buffer.alloc(0)

  constructor(socket: TLSSocket, signal: AbortSignal) {
    this.#socket = socket
    this.#signal = signal
  }

  /** What came after the last message that was taken. */
  get rest(): Buffer {
    return this.#held
  }

  async next(): Promise<Buffer> {
    for (;;) {
      if (this.#held.length >= 5) {
        const end = this.#held.readInt32BE(1) + 1
        if (end < 5 || end > LONGEST_AT_LOGIN) throw new ChaperoneError('malformed', 'The database sent a message that cannot be read.')
        if (this.#held.length >= end) {
          const frame = this.#held.subarray(0, end)
          this.#held = this.#held.subarray(end)
          return frame
        }
      }
      const chunk = this.#socket.read() as Buffer | null
      if (chunk) this.#held = Buffer.concat([this.#held, chunk])
      else if (this.#socket.readableEnded || this.#socket.destroyed)
        throw new ChaperoneError('upstream_unavailable', 'The database closed the connection.')
      else await this.#more()
    }
  }

  async #more(): Promise<void> {
    const done = new AbortController()
    const signal = AbortSignal.any([this.#signal, done.signal])
    try {
      await Promise.race(['readable', 'end', 'close'].map((event) => once(this.#socket, event, { signal })))
    } finally {
      done.abort()
    }
  }
}
