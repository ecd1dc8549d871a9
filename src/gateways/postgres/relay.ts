import type { Duplex } from 'node:stream'
import type { Requests } from '../../access/requests/types.ts'
import type { Guard, Permit } from '../../access/types.ts'
import type { AuditLog, Draft } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import type { Afterwards } from './afterwards.ts'
import type { CancelKeys } from './cancels.ts'
import { Conversation } from './conversation/conversation.ts'
import type { Room, WaitsElsewhere } from './conversation/parking.ts'
import type { ConversationLimits } from './conversation/parts.ts'
import type { Fence } from './conversation/rights.ts'
import type { LastCancels } from './database/last-cancels.ts'
import type { Upstream } from './database/open.ts'
import type { DescriptionCache, Place, SqlContext } from './describe.ts'
import type { MaskKeeper } from './masks/keeper.ts'
import type { HeldMirror } from './mirror/mirrors.ts'
import type { BigTexts } from './sql/big-texts.ts'
import type { Wanted } from './startup.ts'
import { authenticationOk, backendKeyData, negotiateVersion, parameterStatus, readyForQuery } from './wire/write.ts'

/** Who is behind a connection. */
export interface Who {
  readonly session: LiveSession
  readonly connection: Connection
  /** W3C trace id of what is asked for at this moment, where it comes in by a protocol that has one. */
  readonly trace?: () => string | undefined
  /** Who waits for the human whom a rule wants asked about a statement of this connection, where that is not done here. */
  readonly elsewhere?: WaitsElsewhere
}

/** bytes of answers that wait for a client that does not read */
const MOST_UNREAD = 1024 * 1024

export interface RelayParts {
  readonly guard: Guard
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly limits: ConversationLimits
  readonly cache: DescriptionCache
  readonly bigTexts: BigTexts
  readonly masks: MaskKeeper
  readonly requests: Pick<Requests, 'decided' | 'rights'>
  /** Statements that wait for a human. */
  readonly room: Room
  readonly cancels: CancelKeys
  /** Appends, and says it to the operator when it cannot. */
  record(draft: Draft): Promise<unknown>
  readonly afterwards: Afterwards
  readonly lastCancels: LastCancels
  /** Aborted when the gateway closes. */
  readonly closing: AbortSignal
}

export interface Relay {
  /** The client: a TLS socket, or a pair of streams inside this process. */
  readonly client: Duplex
  /** What came behind the startup packet. */
  readonly rest: Buffer
  readonly who: Who
  readonly place: Place
  readonly wanted: Wanted
  readonly context: SqlContext
  /** What the database says of itself; let go of by whoever took it. */
  readonly mirror: HeldMirror
  readonly fence: Fence
  /** ms that a statement waits for a human */
  readonly approvalWaitMs: number
  /** For the connection; settled when it is over. */
  readonly permit: Permit
  readonly upstream: Upstream
  /** Stops what the database is doing for this connection. Resolves when a cancel cannot hit anything later; never rejects. */
  stop(): Promise<void>
  /** Throws when the database is not the one any more that was connected to. */
  assertDefinition(): void
}

/** Between the welcome and the end: bytes from one side, through the conversation, to the other. Resolves when both are let go. */
export async function relay(parts: RelayParts, one: Relay): Promise<void> {
  const { guard, audit, clock, limits, cache, bigTexts, masks, cancels, closing } = parts
  const { client, rest, who, place, wanted, permit, upstream } = one
  const { session, connection } = who
  const database = upstream.socket
  const about = aboutOf(who)
  const { key, forget } = cancels.give({ identityId: session.principal.identityId, cancel: () => conversation.stop() }, wanted.longKeys)
  try {
    await audit.append({
      type: 'connection.opened',
      ...about,
      data: { protocol: 'postgres', resource: place.resource.id, database: place.database, user: place.user, ...via(place) },
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
  let unread = false
  const flow = () => (held || choked || unread ? client.pause() : client.resume())
  const conversation = new Conversation({
    guard,
    session,
    connection,
    trace: who.trace ?? (() => undefined),
    place,
    context: one.context,
    fence: one.fence,
    mirror: one.mirror,
    cache,
    bigTexts,
    masks,
    clock,
    limits,
    approvals: { requests: parts.requests, room: parts.room, waitMs: one.approvalWaitMs, ...(who.elsewhere ? { elsewhere: who.elsewhere } : {}) },
    toClient(bytes) {
      if (client.write(bytes)) return
      database.pause()
      // Refusals are answers that no database paces: who asks on without reading them is not listened to.
      if (unread || client.writableLength < MOST_UNREAD) return
      unread = true
      flow()
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
    cancel: one.stop,
    mayStay() {
      try {
        return !permit.signal.aborted && guard.judge(session, permit.action).verdict === 'allow'
      } catch {
        // Nobody can say so.
        return false
      }
    },
    goodbye(lastWords) {
      if (!client.writable) return
      if (lastWords) client.end(lastWords)
      else client.end()
    },
    afterwards: (work) => parts.afterwards.add(work),
    lastCancel: () => parts.lastCancels.add({ isOver: () => database.readableEnded, cancel: one.stop }),
    over(how) {
      database.end()
      ended.resolve(how)
    },
    messageRefused(error) {
      return parts.record({ type: 'message.refused', ...about, data: { protocol: 'postgres', reason: error.code, message: error.message } })
    },
  })

  const unhook = connection.onCut?.((why) => conversation.cut(why))
  const cut = (event: Event) => conversation.cut((event.target as AbortSignal).reason)
  const signals = [connection.signal, permit.signal, closing]
  for (const signal of signals) {
    if (signal.aborted) conversation.cut(signal.reason)
    else signal.addEventListener('abort', cut, { once: true })
  }
  client.on('drain', () => {
    database.resume()
    unread = false
    flow()
  })
  database.on('drain', () => {
    choked = false
    flow()
  })

  if (wanted.negotiate) client.write(negotiateVersion(wanted.negotiate.minor, wanted.negotiate.unknownOptions))
  const welcome = [
    authenticationOk(),
    ...[...upstream.parameters].map(([name, value]) => parameterStatus(name, value)),
    backendKeyData(key.process, key.secret),
    readyForQuery('I'),
  ]
  client.write(Buffer.concat(welcome))
  conversation.start()

  client.on('data', (chunk: Buffer) => {
    try {
      one.assertDefinition()
      conversation.fromClient(chunk)
    } catch (error) {
      conversation.cut(error)
    }
  })
  database.on('data', (chunk: Buffer) => conversation.fromUpstream(chunk))
  if (upstream.rest.length > 0) conversation.fromUpstream(upstream.rest)
  if (rest.length > 0) conversation.fromClient(rest)
  for (const event of ['end', 'close'] as const) {
    client.on(event, () => conversation.clientGone())
    database.on(event, () => conversation.upstreamGone())
  }
  // Who went while the way to the database was being made has no event left to tell of it.
  if (client.destroyed || client.readableEnded) conversation.clientGone()
  if (database.destroyed || database.readableEnded) conversation.upstreamGone()

  const how = await ended.promise
  forget()
  unhook?.()
  for (const signal of signals) signal.removeEventListener('abort', cut)
  hangUp(database, clock)
  const { statements, openTransaction } = conversation
  guard.settle(permit, { status: 'ok', facts: { statements } })
  const reason = signals.find((signal) => signal.aborted)?.reason as unknown
  await parts.record({
    type: 'connection.closed',
    ...about,
    data: {
      protocol: 'postgres',
      how,
      statements,
      ...(openTransaction === undefined ? {} : { rolledBack: openTransaction }),
      ...(reason instanceof ChaperoneError ? { reason: reason.code } : {}),
    },
  })
}

/** What was written goes out, and then it is over, whether or not the other side agrees. */
export function hangUp(stream: Duplex, clock: Clock): void {
  if (stream.destroyed) return
  stream.end()
  const disarm = clock.at(clock.now() + 1_000, () => stream.destroy())
  stream.once('close', disarm)
  stream.resume()
}

/** Who it is, for a record. */
export const aboutOf = ({ session, connection }: Who) => {
  const { identityId, name, kind } = session.principal
  return { session: session.id, connection: connection.id, actor: { id: identityId, name, kind } }
}

const via = (place: Place) => (place.via === undefined ? {} : { via: place.via })
