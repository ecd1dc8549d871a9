import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket, TlsOptions } from 'node:tls'
import type { Requests } from '../../access/requests/types.ts'
import type { Guard, Resources } from '../../access/types.ts'
import type { AuditLog, Draft } from '../../audit/record.ts'
import type { CertificateAuthority } from '../../ca/types.ts'
import { type PostgresDatabaseSpec, postgresDatabaseSpec } from '../../catalog/postgres-database.ts'
import type { Clock } from '../../clock.ts'
import { parseDuration } from '../../encoding/duration.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import { Afterwards } from './afterwards.ts'
import { CancelKeys } from './cancels.ts'
import type { Room } from './conversation/parking.ts'
import { Crowd } from './crowd.ts'
import { cancelUpstream } from './database/cancel.ts'
import { Certificates } from './database/certificate.ts'
import { identitySettings } from './database/identity-settings.ts'
import { LastCancels } from './database/last-cancels.ts'
import { openQuestions, openUpstream, type Upstream } from './database/open.ts'
import { connectAction, DescriptionCache, type Place, type SqlContext } from './describe.ts'
import { type Entered, Entrance, readPacket, type Startup } from './entrance.ts'
import { assertUnsteered, isHeldTo, knowsSetting, mayWrite, orderFor, planning, timesOf } from './fence.ts'
import { type Wire, wirePair } from './in-memory.ts'
import { POSTGRES_LIMITS, type PostgresLimits } from './limits.ts'
import { MaskKeeper } from './masks/keeper.ts'
import type { Order } from './masks/order.ts'
import { type HeldMirror, Mirrors } from './mirror/mirrors.ts'
import type { Mirror } from './mirror/types.ts'
import { keepingOf } from './record/keep.ts'
import { noDatabase, refusalMessage } from './refuse.ts'
import { aboutOf, hangUp, type RelayParts, relay, type Who } from './relay.ts'
import { BigTexts } from './sql/big-texts.ts'
import { loadParser } from './sql/parse.ts'
import { applicationName, readStartup, type Wanted } from './startup.ts'

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
  /** A sealed secret by its name, masked in every record from then on; for databases that want a password. */
  readonly reveal?: (secret: string) => Promise<string>
  /** Where a decision about a request is waited for; absent: nobody can be asked. */
  readonly requests?: Pick<Requests, 'decided' | 'rights'>
  /** Of the hashes that stand for values in the record, where a database wants those; default: one for this process. */
  readonly valueKey?: Uint8Array
  /** Of the hashes that a client sees in place of hidden values; default: one for this process. */
  readonly maskKey?: Uint8Array
  /** The name of an identity, for the database's own log. */
  readonly nameOf?: (identityId: string) => string | undefined
  readonly limits?: Partial<PostgresLimits>
  /** For the operator: what could not be recorded or said to anybody. */
  readonly fault?: (error: ChaperoneError) => void
}

export interface PostgresGateway {
  /** Takes over a socket that a listener accepted. Never throws. */
  accept(socket: Socket): void
  /**
   * A connection from inside this process, for somebody who was identified elsewhere (`via` says by which protocol): the same
   * way in, from the startup packet on, with the database named as RESOURCE/DATABASE. It speaks to `new pg.Client({ stream: () => wire })`.
   * `who.connection` ends with it.
   */
  enter(who: Who, via: string): Wire
  /** Cuts every connection and waits until each is recorded. */
  close(): Promise<void>
  /** open sockets, for metrics */
  readonly connections: number
  /** how often what a text does was known already, and how often it had to be parsed; for metrics */
  readonly descriptions: { readonly hits: number; readonly misses: number }
  /** What the database says of itself, while somebody is connected to it; for `explain`. */
  mirrorOf(resourceId: string, database: string, spec: unknown): Mirror | undefined
}

/** Gives PostgreSQL clients what their roles allow. One connection of a client is one connection to the database, as one database user. */
export function postgresGateway(parts: PostgresGatewayParts): PostgresGateway {
  const { guard, resources, audit, clock } = parts
  const limits = { ...POSTGRES_LIMITS, ...parts.limits }
  const fault = parts.fault ?? (() => {})
  const valueKey = parts.valueKey ?? randomBytes(32)
  const entrance = new Entrance(parts.tlsContext)
  const cache = new DescriptionCache()
  const bigTexts = new BigTexts(clock)
  const masks = new MaskKeeper(parts.maskKey ?? randomBytes(32))
  const cancels = new CancelKeys()
  const mirrors = new Mirrors({ clock, fault })
  const upstreamParts = { ca: parts.ca, clock, connectMs: limits.connectMs, reveal: parts.reveal, certificates: new Certificates() }
  const sockets = new Set<Socket>()
  const visits = new Set<Promise<void>>()
  const closing = new AbortController()
  const crowd = new Crowd()
  const parser = loadParser()
  // Awaited by every connection; without a first look a failure would end the process before anybody asks.
  parser.catch((error) => fault(toChaperoneError(error)))

  const record = (draft: Draft) => audit.append(draft).then(undefined, (error) => fault(toChaperoneError(error)))

  const requests = parts.requests ?? NOBODY
  const room: Room = { waiting: 0, most: limits.waiting }
  const afterwards = new Afterwards((error) => fault(toChaperoneError(error)))
  const lastCancels = new LastCancels()
  const relayParts: RelayParts = {
    afterwards,
    lastCancels,
    guard,
    audit,
    clock,
    limits,
    cache,
    bigTexts,
    masks,
    requests,
    room,
    cancels,
    record,
    closing: closing.signal,
  }

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
      await serve(entered.socket, entered, who)
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
      hangUp(entrance.voice(socket) ?? socket, clock)
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
  async function serve(client: Duplex, { packet, rest, serverName }: Startup, who: Who, via?: string): Promise<void> {
    const { session, connection } = who
    const wanted = await startupOf(packet, serverName, who)
    const found = resources.find('postgres', wanted.resource)
    const spec = found && (postgresDatabaseSpec.parse(found.spec) satisfies PostgresDatabaseSpec)
    // Who asks for what does not exist is judged all the same: the refusal is recorded, and nobody can tell the two apart.
    const resource = found?.resource ?? { kind: 'postgres', id: 'unknown', name: wanted.resource, labels: {} }
    const keeping = spec && keepingOf(spec, valueKey)
    const place: Place = {
      resource,
      database: wanted.database,
      user: wanted.user,
      ...(keeping ? { keeping } : {}),
      ...(via === undefined ? {} : { via }),
    }
    const permit = await guard.admit(session, connectAction(place), { connection, ...traceOf(who) })
    if (!spec?.databases.includes(wanted.database)) {
      guard.settle(permit, { status: 'failed', facts: { sent: false, reason: 'not_found' } })
      client.end(noDatabase())
      return
    }
    let leave = () => {}
    let upstream: Upstream | undefined
    let mirror: HeldMirror | undefined
    let times: ReturnType<typeof timesOf>
    let order: Order
    let context: SqlContext
    const pinned = !mayWrite(guard, session, place)
    const orderIn = (held: HeldMirror) => orderFor(guard, masks, session, place, { mirror: held.current(), reviewed: spec.functions.read })
    try {
      if (spec.users && !spec.users.includes(wanted.user))
        throw new ChaperoneError('usage', `The database user ${wanted.user} may not be used through Chaperone.`, {
          fix: 'Use another, or add it to `users` of the database.',
        })
      leave = crowd.join(resource.id, session, spec.limits.connections)
      // Whatever decides which server answers is in the key.
      mirror = await mirrors.hold(mirrorKey(resource.id, wanted.database, spec), () => openQuestions(permit, spec, upstreamParts))
      order = orderIn(mirror)
      assertUnsteered(order, wanted.settings)
      const held = { ...planning(order), ...(pinned ? { default_transaction_read_only: 'on' } : {}) }
      upstream = await openUpstream(permit, spec, { ...settingsFor(who, wanted, spec), ...held }, upstreamParts)
      times = timesOf(spec.limits, wanted.times, upstream.context.ceilings, knowsSetting(upstream.parameters.get('server_version')))
      context = {
        ...upstream.context,
        ceilings: order === 'free' ? times.ceilings : { ...times.ceilings, order: true },
        mirror: mirror.current(),
        pinnedReadOnly: pinned,
        reviewed: spec.functions.read,
      }
    } catch (error) {
      leave()
      mirror?.release()
      upstream?.socket.destroy()
      const why = toChaperoneError(error)
      guard.settle(permit, { status: 'failed', facts: { reason: why.code } })
      fault(why)
      throw why
    }
    const held = mirror
    try {
      await relay(relayParts, {
        client,
        rest,
        who,
        place,
        wanted,
        context,
        mirror,
        fence: {
          settings: times.settings,
          planning: planning(order),
          pinned,
          mayWrite: () => mayWrite(guard, session, place),
          rightsMoved: makeRevisionCheck(),
          keepsOrder: () => isHeldTo(order, orderIn(held)),
        },
        approvalWaitMs: waitOf(who, spec),
        permit,
        upstream,
        stop: () => cancelUpstream(permit, spec, upstream, upstreamParts).catch((error) => fault(toChaperoneError(error))),
        assertDefinition: makeDefinitionCheck(wanted.resource, found?.spec),
      })
    } finally {
      mirror.release()
      leave()
    }
  }

  const waitOf = ({ elsewhere }: Who, { limits: said }: PostgresDatabaseSpec): number => {
    if (elsewhere) return 0
    return said.approval_wait === undefined ? limits.approvalWaitMs : parseDuration(said.approval_wait)
  }

  /** What the client wants. A startup that tries to set what it may not is the first sign of an attack, so the refusal is on record. */
  async function startupOf({ parameters, minor }: Startup['packet'], serverName: string | undefined, who: Who): Promise<Wanted> {
    try {
      return readStartup(parameters, minor, serverName)
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

  /** Each change of documents, grants and locks counts; and the minute at which a grant ends, for which `Rights` looks every second. */
  function makeRevisionCheck(): () => boolean {
    let last = resources.revision
    return () => {
      const moved = resources.revision !== last
      last = resources.revision
      return moved
    }
  }

  function settingsFor({ session }: Who, wanted: Wanted, spec: PostgresDatabaseSpec): Record<string, string> {
    return {
      ...wanted.settings,
      application_name: applicationName(session, parts.nameOf),
      ...(spec.identity_settings ? identitySettings(session, parts.nameOf) : {}),
    }
  }

  /** Somebody who was identified elsewhere, on a stream inside this process. */
  async function visitInside(client: Duplex, who: Who, via: string): Promise<void> {
    const late = new AbortController()
    const disarm = clock.at(clock.now() + limits.handshakeMs, () => late.abort(new ChaperoneError('too_slow', 'No startup packet came in time.')))
    try {
      await parser
      const { packet, rest } = await readPacket(client, AbortSignal.any([late.signal, closing.signal, who.connection.signal]))
      disarm()
      if (packet.kind !== 'startup') throw new ChaperoneError('malformed', 'A startup packet is wanted here.')
      await serve(client, { packet, rest, serverName: undefined }, who, via)
    } catch (error) {
      const why = toChaperoneError(error)
      if (why.code === 'internal') fault(why)
      if (client.writable) client.end(refusalMessage(why, 'FATAL'))
    } finally {
      disarm()
      who.connection.closed()
      hangUp(client, clock)
    }
  }

  function keep(visited: Promise<void>): void {
    visits.add(visited)
    visited.finally(() => visits.delete(visited))
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
      keep(
        visit(socket).catch((error) => {
          fault(toChaperoneError(error))
          socket.destroy()
        }),
      )
    },
    enter(who, via) {
      const [wire, inside] = wirePair()
      keep(visitInside(inside, who, via).catch((error) => fault(toChaperoneError(error))))
      return wire
    },
    async close() {
      closing.abort(new ChaperoneError('draining', 'Chaperone is shutting down.'))
      await Promise.all(visits)
      for (const socket of sockets) socket.destroy()
      bigTexts.close()
    },
    get connections() {
      return sockets.size
    },
    mirrorOf: (resourceId, database, spec) => mirrors.peek(mirrorKey(resourceId, database, postgresDatabaseSpec.parse(spec))),
    get descriptions() {
      return { hits: cache.hits, misses: cache.misses }
    },
  }
}

/** Without anybody who keeps requests none is ever made. */
const NOBODY: Pick<Requests, 'decided' | 'rights'> = {
  rights: 0,
  decided: async () => {
    throw new ChaperoneError('approval_unavailable', 'Here nobody can be asked.')
  },
}

const mirrorKey = (resourceId: string, database: string, { address, tls, auth }: PostgresDatabaseSpec) =>
  JSON.stringify([resourceId, database, address, tls, auth])

function traceOf({ trace }: Who): { readonly trace?: string } {
  const id = trace?.()
  return id === undefined ? {} : { trace: id }
}
