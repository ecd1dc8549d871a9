import type { Socket } from 'node:net'
import type { TLSSocket, TlsOptions } from 'node:tls'
import type { Guard, Permit, Resources } from '../../access/types.ts'
import type { AuditLog, Draft } from '../../audit/record.ts'
import type { CertificateAuthority } from '../../ca/types.ts'
import { type PostgresDatabaseSpec, postgresDatabaseSpec } from '../../catalog/postgres-database.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import { CancelKeys } from './cancels.ts'
import { Conversation } from './conversation/conversation.ts'
import { cancelUpstream, openUpstream, type Upstream } from './database/upstream.ts'
import { connectAction, DescriptionCache, mayWriteAction, type Place } from './describe.ts'
import { type Entered, Entrance } from './entrance.ts'
import { noDatabase, refusalMessage } from './refuse.ts'
import { loadParser } from './sql/parse.ts'
import { applicationName, readStartup, type Wanted } from './startup.ts'
import { WIRE_LIMITS } from './wire/codes.ts'
import { authenticationOk, backendKeyData, negotiateVersion, parameterStatus, readyForQuery } from './wire/write.ts'

export interface PostgresLimits {
  /** sockets at once, those that have not said who they are included */
  readonly connections: number
  /** until a client has said who it is */
  readonly handshakeMs: number
  /** until the database has let us in, and for a cancel */
  readonly connectMs: number
  /** bytes of one SQL text; longer ones are refused */
  readonly statementBytes: number
  /** bytes of one message of a client */
  readonly messageBytes: number
  /** messages, and their bytes, that wait for their permits on one connection */
  readonly queuedMessages: number
  readonly queuedBytes: number
  /** prepared statements, and portals, of one connection */
  readonly names: number
}

export const POSTGRES_LIMITS: PostgresLimits = {
  ...WIRE_LIMITS,
  connections: 2_000,
  handshakeMs: 10_000,
  connectMs: 10_000,
  queuedMessages: 256,
  queuedBytes: 32 * 1024 * 1024,
  names: 10_000,
}

export interface PostgresGatewayParts {
  readonly guard: Guard
  readonly resources: Resources
  readonly audit: Pick<AuditLog, 'append'>
  readonly ca: Pick<CertificateAuthority, 'issueDatabase' | 'bundle'>
  readonly clock: Clock
  /** Certificate, key and the authorities whose client certificates are asked for. Asked at each connection, so that renewals are seen. */
  readonly tlsContext: () => TlsOptions
  /** Who is behind the socket, by its client certificate; the connection ends with the socket. Rejects with ChaperoneError. */
  readonly identify: (socket: TLSSocket) => Promise<{ readonly session: LiveSession; readonly connection: Connection }>
  /** The name of an identity, for the database's own log. */
  readonly nameOf?: (identityId: string) => string | undefined
  readonly limits?: Partial<PostgresLimits>
  /** For the operator: what could not be recorded or said to anybody. */
  readonly fault?: (error: ChaperoneError) => void
}

export interface PostgresGateway {
  /** Takes over a socket that a listener accepted. Never throws. */
  accept(socket: Socket): void
  /** Cuts every connection and waits until each is recorded. */
  close(): Promise<void>
  /** open sockets, for metrics */
  readonly connections: number
}

interface Who {
  readonly session: LiveSession
  readonly connection: Connection
}

/** Gives PostgreSQL clients what their roles allow. One connection of a client is one connection to the database, as one database user. */
export function postgresGateway(parts: PostgresGatewayParts): PostgresGateway {
  const { guard, resources, audit, clock } = parts
  const limits = { ...POSTGRES_LIMITS, ...parts.limits }
  const fault = parts.fault ?? (() => {})
  const entrance = new Entrance(parts.tlsContext)
  const cache = new DescriptionCache()
  const cancels = new CancelKeys()
  const upstreamParts = { ca: parts.ca, clock, connectMs: limits.connectMs }
  const sockets = new Set<Socket>()
  const visits = new Set<Promise<void>>()
  const conversations = new Set<Conversation>()
  const closing = new AbortController()
  const parser = loadParser()
  // Awaited by every connection; without a first look a failure would end the process before anybody asks.
  parser.catch((error) => fault(toChaperoneError(error)))

  const record = (draft: Draft) => audit.append(draft).then(undefined, (error) => fault(toChaperoneError(error)))

  async function visit(socket: Socket): Promise<void> {
    const late = new AbortController()
    const disarm = clock.at(clock.now() + limits.handshakeMs, () => late.abort(new ChaperoneError('too_slow', 'No startup packet came in time.')))
    const signal = AbortSignal.any([late.signal, closing.signal])
    let who: Who | undefined
    try {
      await parser
      const entered = await entrance.enter(socket, signal)
      if (entered.kind === 'cancel') return await cancel(entered, signal)
      // `signal` guards what the client has to do; the database has its own deadline.
      who = await identified(entered.socket)
      disarm()
      await serve(entered, who)
    } catch (error) {
      const why = toChaperoneError(error)
      if (!who) await record({ type: 'connection.refused', data: { protocol: 'postgres', reason: why.code, from: socket.remoteAddress ?? '' } })
      if (why.code === 'internal') fault(why)
      const voice = entrance.voice(socket)
      if (voice?.writable) voice.end(refusalMessage(why, 'FATAL'))
      if (!voice) socket.destroy()
    } finally {
      disarm()
      who?.connection.closed()
      hangUp(entrance.voice(socket) ?? socket)
    }
  }

  async function identified(socket: TLSSocket): Promise<Who> {
    if (!socket.getPeerX509Certificate()) {
      throw new ChaperoneError('unauthenticated', 'A client certificate is needed.', {
        fix: 'Connect through `chaperone db connect` or `chaperone db proxy`.',
      })
    }
    return await parts.identify(socket)
  }

  /** A cancel has no answer, whatever comes of it. */
  async function cancel({ packet, secure }: Extract<Entered, { kind: 'cancel' }>, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const who = secure?.getPeerX509Certificate() ? await parts.identify(secure) : undefined
    cancels.find(packet, who?.session.principal.identityId)?.cancel()
    who?.connection.closed()
  }

  /** From the startup packet to the end of the connection. */
  async function serve({ socket, packet, rest }: Extract<Entered, { kind: 'startup' }>, who: Who): Promise<void> {
    const { session, connection } = who
    const wanted = await startupOf(packet, socket, who)
    const found = resources.find('postgres', wanted.resource)
    const spec = found && (postgresDatabaseSpec.parse(found.spec) satisfies PostgresDatabaseSpec)
    // Who asks for what does not exist is judged all the same: the refusal is recorded, and nobody can tell the two apart.
    const resource = found?.resource ?? { kind: 'postgres', id: 'unknown', name: wanted.resource, labels: {} }
    const place: Place = { resource, database: wanted.database, user: wanted.user }
    const permit = await guard.admit(session, connectAction(place), { connection })
    if (!spec?.databases.includes(wanted.database)) {
      guard.settle(permit, { status: 'failed', facts: { sent: false, reason: 'not_found' } })
      socket.end(noDatabase())
      return
    }
    let upstream: Upstream
    try {
      upstream = await openUpstream(permit, spec, settingsFor(who, place, wanted), upstreamParts)
    } catch (error) {
      const why = toChaperoneError(error)
      guard.settle(permit, { status: 'failed', facts: { reason: why.code } })
      fault(why)
      throw why
    }
    await relay({ socket, rest, who, place, wanted, spec, permit, upstream, assertDefinition: makeDefinitionCheck(wanted.resource, found?.spec) })
  }

  /** What the client wants. A startup that tries to set what it may not is the first sign of an attack, so the refusal is on record. */
  async function startupOf({ parameters }: Extract<Entered, { kind: 'startup' }>['packet'], socket: TLSSocket, who: Who): Promise<Wanted> {
    try {
      return readStartup(parameters, socket.servername || undefined, (name) => resources.find('postgres', name) !== undefined)
    } catch (error) {
      const { code, message } = toChaperoneError(error)
      await record({ type: 'message.refused', ...aboutOf(who), data: { protocol: 'postgres', reason: code, message } })
      throw error
    }
  }

  /**
   * Throws when the database is not the one any more that was connected to: its document was applied anew, with another
   * address perhaps, or without this database, and what is open by the old one would go on for as long as it likes.
   */
  function makeDefinitionCheck(name: string, applied: unknown): () => void {
    let last = applied
    return () => {
      const now = resources.find('postgres', name)?.spec
      if (now === last) return
      if (JSON.stringify(now) !== JSON.stringify(applied))
        throw new ChaperoneError('conflict', 'The definition of the database has changed.', { fix: 'Connect again.' })
      last = now
    }
  }

  function settingsFor({ session }: Who, place: Place, wanted: Wanted): Record<string, string> {
    const settings: Record<string, string> = { ...wanted.settings, application_name: applicationName(session, parts.nameOf) }
    const mayWrite = guard.judge(session, mayWriteAction(place))
    // A second fence below the first: where no rule could allow a write, a view or operator that calls a writing function
    // fails in the database too (B18). What only an approval would allow counts as a write.
    if (mayWrite.verdict === 'deny' && mayWrite.reason !== 'approval_unavailable' && mayWrite.reason !== 'approval_required') {
      settings.default_transaction_read_only = 'on'
    }
    return settings
  }

  interface Relay {
    readonly socket: TLSSocket
    readonly rest: Buffer
    readonly who: Who
    readonly place: Place
    readonly wanted: Wanted
    readonly spec: PostgresDatabaseSpec
    readonly permit: Permit
    readonly upstream: Upstream
    readonly assertDefinition: () => void
  }

  async function relay({ socket, rest, who, place, wanted, spec, permit, upstream, assertDefinition }: Relay): Promise<void> {
    const { session, connection } = who
    const database = upstream.socket
    const about = aboutOf(who)
    const stop = () => {
      cancelUpstream(permit, spec, upstream, upstreamParts).catch((error) => fault(toChaperoneError(error)))
    }
    const { key, forget } = cancels.give({ identityId: session.principal.identityId, cancel: stop })
    try {
      await audit.append({
        type: 'connection.opened',
        ...about,
        data: { protocol: 'postgres', resource: place.resource.id, database: place.database, user: place.user },
      })
    } catch (error) {
      forget()
      database.destroy()
      guard.settle(permit, { status: 'failed', facts: { reason: 'audit_unavailable' } })
      throw error
    }

    const ended = Promise.withResolvers<string>()
    let held = false
    let choked = false
    const flow = () => (held || choked ? socket.pause() : socket.resume())
    const conversation = new Conversation({
      guard,
      session,
      connection,
      place,
      context: upstream.context,
      cache,
      clock,
      limits,
      toClient(bytes) {
        if (!socket.write(bytes)) database.pause()
      },
      toUpstream(bytes) {
        if (database.write(bytes) || choked) return
        choked = true
        flow()
      },
      holdClient(hold) {
        if (hold === held) return
        held = hold
        flow()
      },
      cancel: stop,
      over(lastWords) {
        if (lastWords && socket.writable) socket.end(lastWords)
        database.end()
        ended.resolve(lastWords ? 'cut' : 'closed')
      },
      messageRefused(error) {
        record({ type: 'message.refused', ...about, data: { protocol: 'postgres', reason: error.code, message: error.message } })
      },
    })
    conversations.add(conversation)

    const cut = (event: Event) => conversation.cut((event.target as AbortSignal).reason)
    const signals = [connection.signal, permit.signal, closing.signal]
    for (const signal of signals) {
      if (signal.aborted) conversation.cut(signal.reason)
      else signal.addEventListener('abort', cut, { once: true })
    }
    socket.on('drain', () => database.resume())
    database.on('drain', () => {
      choked = false
      flow()
    })

    if (wanted.unknownOptions.length > 0) socket.write(negotiateVersion(wanted.unknownOptions))
    const welcome = [
      authenticationOk(),
      ...[...upstream.parameters].map(([name, value]) => parameterStatus(name, value)),
      backendKeyData(key.process, key.secret),
      readyForQuery('I'),
    ]
    socket.write(Buffer.concat(welcome))

    socket.on('data', (chunk: Buffer) => {
      try {
        assertDefinition()
        conversation.fromClient(chunk)
      } catch (error) {
        conversation.cut(error)
      }
    })
    database.on('data', (chunk: Buffer) => conversation.fromUpstream(chunk))
    if (upstream.rest.length > 0) conversation.fromUpstream(upstream.rest)
    if (rest.length > 0) conversation.fromClient(rest)
    for (const event of ['end', 'close'] as const) {
      socket.on(event, () => conversation.clientGone())
      database.on(event, () => conversation.upstreamGone())
    }

    const how = await ended.promise
    forget()
    conversations.delete(conversation)
    for (const signal of signals) signal.removeEventListener('abort', cut)
    hangUp(database)
    const { statements } = conversation
    guard.settle(permit, { status: 'ok', facts: { statements } })
    const reason = signals.find((signal) => signal.aborted)?.reason as unknown
    await record({
      type: 'connection.closed',
      ...about,
      data: { protocol: 'postgres', how, statements, ...(reason instanceof ChaperoneError ? { reason: reason.code } : {}) },
    })
  }

  /** What was written goes out, and then it is over, whether or not the other side agrees. */
  function hangUp(socket: Socket): void {
    if (socket.destroyed) return
    socket.end()
    const disarm = clock.at(clock.now() + 1_000, () => socket.destroy())
    socket.once('close', disarm)
    socket.resume()
  }

  return {
    accept(socket) {
      // An error is always followed by 'close', and that is what is listened to.
      socket.on('error', () => {})
      if (closing.signal.aborted || sockets.size >= limits.connections) {
        socket.destroy()
        if (!closing.signal.aborted)
          record({ type: 'connection.refused', data: { protocol: 'postgres', reason: 'too_many', from: socket.remoteAddress ?? '' } })
        return
      }
      socket.setNoDelay(true)
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
      const visited = visit(socket).catch((error) => {
        fault(toChaperoneError(error))
        socket.destroy()
      })
      visits.add(visited)
      visited.finally(() => visits.delete(visited))
    },
    async close() {
      closing.abort(new ChaperoneError('draining', 'Chaperone is shutting down.'))
      await Promise.all(visits)
      for (const socket of sockets) socket.destroy()
    },
    get connections() {
      return sockets.size
    },
  }
}

/** Who it is, for a record. */
const aboutOf = ({ session, connection }: Who) => {
  const { identityId, name, kind } = session.principal
  return { session: session.id, connection: connection.id, actor: { id: identityId, name, kind } }
}
