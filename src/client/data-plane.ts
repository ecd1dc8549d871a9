import type { Agent, IncomingMessage } from 'node:http'
import { request } from 'node:https'
import type { Readable } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { type Clock, systemClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { agentFor } from '../network/tunnel.ts'
import { connectionError, tlsOptions } from './api.ts'
import type { Keeper } from './credential.ts'
import { unreachable } from './first-contact.ts'
import { lostAnswer } from './mcp-messages.ts'
import { listenerOf } from './profile.ts'

/** HTTPS to the gateways as the agent whose credential is kept. */
export interface DataPlane {
  /**
   * Sends one request; resolves with the answer's head, its body still flowing. Rejects with ChaperoneError:
   * `upstream_unavailable` with `sent: false` when nothing can have reached the server, so that it may be tried again.
   */
  send(ask: Ask): Promise<IncomingMessage>
  close(): void
}

export interface Ask {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  readonly body?: Buffer | Readable
  readonly signal?: AbortSignal
}

/** Nothing was sent: the connection was never made. */
export class NotSent extends ChaperoneError {
  constructor(cause: ChaperoneError) {
    super(cause.code, cause.message, { ...(cause.fix ? { fix: cause.fix } : {}), ...(cause.detail ? { detail: cause.detail } : {}), cause })
    this.name = 'NotSent'
  }
}

const CONNECT_MS = 10_000
/** An idle connection is dropped before Node's server drops it (5 s): a request sent into a closing connection would be lost. */
const IDLE_MS = 4000

export function openDataPlane(keeper: Keeper, clock: Clock = systemClock): DataPlane {
  const agentOf = () => {
    const { profile, key, certificate } = keeper.current()
    const { host, port } = listenerOf(profile, 'data')
    const options = { keepAlive: true, maxCachedSessions: 0, timeout: IDLE_MS, ...tlsOptions(host, profile.bundles.server, { key, certificate }) }
    return { host, port, agent: agentFor({ host, port, secure: true }, options) }
  }
  let now = agentOf()
  const retired = new Set<Agent>()

  keeper.onRenew(() => {
    // New connections show the new certificate. Those at work go on: their deadline moved when it was proven.
    const old = now.agent
    now = agentOf()
    retired.add(old)
    for (const sockets of Object.values(old.freeSockets)) for (const socket of sockets ?? []) socket.destroy()
    for (const agent of retired) if (Object.keys(agent.sockets).length === 0) retired.delete(agent)
  })

  return {
    send(ask) {
      return new Promise<IncomingMessage>((resolve, reject) => {
        const { host, port, agent } = now
        let connected = false
        const outgoing = request({
          agent,
          host,
          port,
          method: ask.method,
          path: ask.path,
          headers: ask.headers as Record<string, string>,
          ...(ask.signal ? { signal: ask.signal } : {}),
        })
        outgoing.once('socket', (socket) => {
          if (!socket.connecting && (socket as TLSSocket).getProtocol?.()) {
            connected = true
            return
          }
          const late = () => socket.destroy(unreachable(`${host}:${port}`, new Error('timeout while connecting')))
          const forget = clock.at(clock.now() + CONNECT_MS, late)
          socket.once('secureConnect', () => {
            connected = true
            forget()
          })
          socket.once('close', forget)
        })
        outgoing.once('response', resolve)
        outgoing.on('error', (error) => {
          const known = ask.signal?.aborted ? abortError(ask.signal) : connectionError(`${host}:${port}`, error)
          reject(!connected ? new NotSent(known) : known.code === 'upstream_unavailable' ? lostAnswer() : known)
        })
        if (ask.body === undefined || Buffer.isBuffer(ask.body)) outgoing.end(ask.body)
        else ask.body.pipe(outgoing)
      })
    },
    close() {
      now.agent.destroy()
      for (const agent of retired) agent.destroy()
    },
  }
}

const abortError = (signal: AbortSignal) =>
  signal.reason instanceof ChaperoneError ? signal.reason : new ChaperoneError('session_ended', 'Cancelled.')

/** Where the gateway serves an MCP server, or a database by `resource/database`; without a name, all that one may use. */
export function mcpPath(server: string | undefined): string {
  if (server === undefined) return '/mcp'
  const slash = server.indexOf('/')
  if (slash < 0) return `/mcp/${encodeURIComponent(server)}`
  return `/mcp/${encodeURIComponent(server.slice(0, slash))}/${encodeURIComponent(server.slice(slash + 1))}`
}
