import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import type { Outcome, Permit } from '../../../access/types.ts'
import { Bag } from '../../../bag.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import type { McpLimits } from '../limits.ts'
import { LIST_KEYS } from '../offers/filter.ts'
import { replyToServer } from '../refuse.ts'
import { onOneLine } from '../text/json-text.ts'
import { type SseEvent, sseEvent, sseReader } from '../text/sse.ts'
import { type Asker, BareStatus, type ClientHeaders, NotSent, outcomeOf, type Upstream } from '../types.ts'
import { type Notification, type Request, type RequestId, readUpstream, sessionGone, type UpstreamMessage } from '../wire.ts'
import { relayBody } from './json-body.ts'
import { responseHeaders, type UpstreamHttp } from './upstream.ts'

interface StreamableParts {
  readonly name: string
  readonly modern: boolean
  readonly server: UpstreamHttp
  readonly asker: Asker
  readonly clock: Clock
  readonly limits: Pick<McpLimits, 'lineBytes' | 'drainMs' | 'silenceMs' | 'inFlight' | 'streams' | 'tellMs' | 'asks'>
  readonly log: (what: string, facts: Record<string, unknown>) => void
  /** The server no longer knows the session. */
  readonly ended: (why: ChaperoneError) => void
}

/** A request that waits for its answer, which may also come on a resumed stream (2025-11-25, polling). */
interface Flight {
  readonly message: Request
  readonly stop: AbortController
  /** what came of it, when its answer came on another stream than its own */
  found?: Outcome
  /** set while its own stream is closed */
  resumed?: (outcome: Outcome) => void
}

/** Answers of these are read, not only passed on: what they list is filtered, what they announce is pinned. */
const LOOKED_INTO = new Set(['initialize', 'server/discover', 'tasks/list', ...Object.keys(LIST_KEYS)])

/** One MCP session with a Streamable HTTP server. The bytes of an answer that nothing changes are passed on as they come. */
export class StreamableUpstream implements Upstream {
  readonly #parts: StreamableParts
  /** the server's own session id: never shown to the client */
  #session: string | undefined
  #version: string | undefined
  readonly #flights = new Bag<Flight>()
  #streams = 0
  #over = false
  /** requests of the server that the client has not answered: until then its silence is ours */
  #asking = 0

  constructor(parts: StreamableParts) {
    this.#parts = parts
  }

  async request(permit: Permit, message: Request, answer: Answer, headers: ClientHeaders): Promise<Outcome> {
    const { modern, limits } = this.#parts
    if (this.#flights.size >= limits.inFlight) throw new ChaperoneError('too_many', `More than ${limits.inFlight} requests wait for this MCP server.`)
    if (!modern && this.#flight(message.id)) throw new ChaperoneError('malformed', 'The request id is in use by a request that is not answered yet.')
    const flight: Flight = { message, stop: new AbortController() }
    const place = this.#flights.add(flight)
    const forget = this.#stopWhenGone(answer, flight.stop)
    try {
      const incoming = await this.#parts.server.send(permit, {
        method: 'POST',
        body: message.text,
        headers: this.#headers(headers),
        stop: flight.stop.signal,
        waits: () => this.#asking > 0,
      })
      if (message.method === 'initialize' && incoming.statusCode === 200) this.#session = sessionOf(incoming)
      return await this.#relay(permit, flight, incoming, answer)
    } catch (error) {
      if (flight.found) return flight.found
      void this.#cancel(message, error)
      throw unreachable(this.#parts.name, error)
    } finally {
      forget()
      this.#flights.delete(place, flight)
    }
  }

  #flight(id: RequestId): Flight | undefined {
    for (const flight of this.#flights) if (flight.message.id === id) return flight
    return undefined
  }

  /** Closing the stream is cancellation in the modern era; in the legacy one the work goes on, for a while. */
  #stopWhenGone(answer: Answer, controller: AbortController): () => void {
    const { clock, limits, modern } = this.#parts
    let disarm = () => {}
    answer.whenGone(() => {
      const stop = () => controller.abort(new ChaperoneError('upstream_timeout', 'The client went away before the answer came.'))
      if (modern) stop()
      else disarm = clock.at(clock.now() + limits.drainMs, stop)
    })
    return () => disarm()
  }

  /** A legacy server works on when its stream is closed; it must be told (rule 6). */
  async #cancel(message: Request, why: unknown): Promise<void> {
    if (this.#parts.modern || message.method === 'initialize' || this.#session === undefined || why instanceof NotSent) return
    const reason = why instanceof ChaperoneError ? why.code : 'upstream_unavailable'
    // Where the server itself has failed, nobody is there to be told.
    if (reason === 'upstream_unavailable' || this.#over) return
    await this.#tell(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: message.id, reason } }))
  }

  async #tell(body: string): Promise<void> {
    const { server, log, name } = this.#parts
    const headers = this.#headers({ 'content-type': 'application/json', accept: 'application/json, text/event-stream' })
    await server.tell({ method: 'POST', body, headers }).catch((error: unknown) => log('mcp.upstream.tell', { server: name, error: String(error) }))
  }

  #headers(client: Readonly<Record<string, string>>): Record<string, string> {
    if (this.#session === undefined) return { ...client }
    const version = client['mcp-protocol-version'] ?? this.#version
    return { ...client, 'mcp-session-id': this.#session, ...(version === undefined ? {} : { 'mcp-protocol-version': version }) }
  }

  /** What the handshake agreed on, for the messages that are our own. */
  agreed(version: string): void {
    this.#version = version
  }

  async #relay(permit: Permit, flight: Flight, incoming: IncomingMessage, answer: Answer): Promise<Outcome> {
    const { name, limits, modern } = this.#parts
    const { message } = flight
    const status = incoming.statusCode ?? 0
    const type = mediaType(incoming.headers)
    this.#refuseStatus(status, type, incoming)
    if (status === 200 && type === 'text/event-stream') return this.#relayEvents(permit, flight, incoming, answer)
    if (type !== 'application/json') {
      this.#drain(incoming)
      throw new BareStatus(status, `The MCP server ${name} answered ${status} without a JSON-RPC message.`)
    }
    // In the modern era a server asks the client inside its answer, anywhere in it: that is judged before a byte goes out.
    const whole = status !== 200 || modern || LOOKED_INTO.has(message.method) || message.params.task !== undefined
    const look = async (bytes: Buffer) =>
      LOOKED_INTO.has(message.method) || this.#mayHide(message, bytes) ? this.#looked(message, bytes.toString('utf8')) : undefined
    return relayBody({ name, message, incoming, answer, whole, look, maxBytes: limits.lineBytes })
  }

  /** Whether the bytes may ask the client for something or hand it a task. A server may write any letter as an escape. */
  #mayHide(message: Request, bytes: Buffer): boolean {
    if (!this.#parts.modern && message.params.task === undefined) return false
    return bytes.includes('"taskId"') || bytes.includes('\\u') || /input_?re/i.test(bytes.toString('latin1'))
  }

  async #looked(message: Request, text: string): Promise<string> {
    const { asker, modern } = this.#parts
    const filtered = await asker.answered(message, text)
    return modern ? asker.required(message, filtered) : filtered
  }

  /** Nobody wants what is left of it. The server gets a moment to end it, so that the connection is used again; it may not write for ever. */
  #drain(incoming: IncomingMessage): void {
    const { clock, limits } = this.#parts
    incoming.resume()
    incoming.once(
      'close',
      clock.at(clock.now() + limits.tellMs, () => incoming.destroy()),
    )
  }

  /** Statuses that are about the way between us and the server, which the client has no part in. */
  #refuseStatus(status: number, type: string | undefined, incoming: IncomingMessage): void {
    const { name, modern } = this.#parts
    const refuse = (message: string) => {
      this.#drain(incoming)
      throw new ChaperoneError('upstream_unavailable', message, { detail: `HTTP ${status}` })
    }
    if (incoming.headers['content-encoding'] !== undefined && incoming.headers['content-encoding'] !== 'identity')
      refuse(`The MCP server ${name} compressed its answer without being asked.`)
    if (status >= 300 && status < 400) refuse(`The MCP server ${name} redirects, which is never followed.`)
    // A challenge passed on would make the client send the person to sign in at a server that only Chaperone may speak to.
    const barred = this.#parts.server.refusal(status)
    if (barred) {
      this.#drain(incoming)
      throw barred
    }
    if (status === 404 && !modern && this.#session !== undefined) {
      this.#drain(incoming)
      const why = sessionGone(`The MCP server ${name} has ended the session.`)
      this.#over = true
      this.#parts.ended(why)
      throw why
    }
    if (status >= 500 && type !== 'application/json') {
      this.#drain(incoming)
      throw new BareStatus(status, `The MCP server ${name} answered ${status}.`)
    }
  }

  async #relayEvents(permit: Permit, flight: Flight, incoming: IncomingMessage, answer: Answer): Promise<Outcome> {
    const reader = sseReader(this.#parts.limits.lineBytes)
    answer.open(responseHeaders(incoming.headers))
    let resumable = false
    // Leaving the loop must not close the connection: it is used again when the server ends the stream.
    try {
      for await (const chunk of incoming.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        for (const event of reader.push(chunk)) {
          if (event.id !== undefined) resumable = true
          const outcome = await this.#event(event, answer, (id) => (id === flight.message.id ? flight.message : undefined))
          if (!outcome) continue
          answer.end()
          this.#drain(incoming)
          return outcome
        }
      }
    } catch (error) {
      // Left as it is it would keep its connection for ever.
      incoming.destroy()
      throw error
    }
    answer.end()
    if (!resumable || this.#parts.modern) return { status: 'unknown', facts: { why: 'the server closed the stream before its answer' } }
    return this.#awaitResumed(permit, flight)
  }

  #awaitResumed(permit: Permit, flight: Flight): Promise<Outcome> {
    const { clock, limits } = this.#parts
    const { promise, resolve, reject } = Promise.withResolvers<Outcome>()
    // Rejecting tells the server that the call is cancelled (rule 6).
    const cut = () => {
      disarm()
      reject(permit.signal.reason)
    }
    const disarm = clock.at(clock.now() + limits.silenceMs, () =>
      flight.resumed?.({ status: 'unknown', facts: { why: 'nobody resumed the stream' } }),
    )
    flight.resumed = (outcome) => {
      permit.signal.removeEventListener('abort', cut)
      disarm()
      resolve(outcome)
    }
    if (permit.signal.aborted) cut()
    else permit.signal.addEventListener('abort', cut)
    return promise
  }

  /** The answer came on a stream that the client resumed. */
  #found(flight: Flight, outcome: Outcome): void {
    flight.found = outcome
    if (flight.resumed) flight.resumed(outcome)
    else flight.stop.abort(new ChaperoneError('upstream_timeout', 'The answer came on another stream.'))
  }

  /** Passes one event on, if it may be. Returns the outcome when it answers the request that `of` knows. */
  async #event(event: SseEvent, answer: Answer, of: (id: RequestId) => Request | undefined): Promise<Outcome | undefined> {
    const { asker, log, name } = this.#parts
    if (event.data === undefined) {
      if (event.plain) await answer.write(event.raw)
      return undefined
    }
    let message: UpstreamMessage
    try {
      if (!event.plain) throw new ChaperoneError('ambiguous', 'The event has a field that is not one of SSE.')
      message = readUpstream(event.data)
    } catch (error) {
      // It cannot be read in exactly one way: the client must not read it in another than we would.
      log('mcp.upstream.noise', { server: name, error: String(error) })
      return undefined
    }
    if (message.kind === 'request') {
      if (this.#asking >= this.#parts.limits.asks) {
        // Answered before the next is read: a server that asks and asks waits for itself.
        await this.#tell(JSON.stringify(replyToServer(message.id!, new ChaperoneError('too_many', 'Too many requests of this server wait.'))))
        return undefined
      }
      this.#asking++
      void asker
        .asked(message, answer, event.raw)
        .then((text) => this.#tell(text))
        .finally(() => this.#asking--)
      return undefined
    }
    if (message.kind === 'notification') {
      if (asker.told(message)) await answer.write(event.raw)
      return undefined
    }
    const request = message.id === undefined ? undefined : of(message.id)
    if (!request) {
      log('mcp.upstream.stray', { server: name, id: message.id })
      return undefined
    }
    const text = await this.#looked(request, message.text)
    await answer.write(text === message.text ? event.raw : sseEvent(onOneLine(text), event.id))
    return outcomeOf(message.text)
  }

  async notify(permit: Permit, message: Notification, headers: ClientHeaders): Promise<Outcome> {
    const { name, server } = this.#parts
    const incoming = await server.send(permit, { method: 'POST', body: message.text, headers: this.#headers(headers) }).catch((error: unknown) => {
      throw unreachable(name, error)
    })
    this.#drain(incoming)
    const status = incoming.statusCode ?? 0
    this.#refuseStatus(status, mediaType(incoming.headers), incoming)
    return status < 300 ? { status: 'ok' } : { status: 'failed', facts: { http: status } }
  }

  async stream(permit: Permit, answer: Answer, headers: ClientHeaders): Promise<Outcome> {
    const { limits, server, name } = this.#parts
    if (this.#streams >= limits.streams) throw new ChaperoneError('too_many', 'This MCP session has too many open streams.')
    const stop = new AbortController()
    answer.whenGone(() => stop.abort(new ChaperoneError('upstream_timeout', 'The client closed the stream.')))
    this.#streams++
    try {
      const incoming = await server.send(permit, { method: 'GET', headers: this.#headers(headers), stop: stop.signal })
      const status = incoming.statusCode ?? 0
      this.#refuseStatus(status, mediaType(incoming.headers), incoming)
      if (status !== 200 || mediaType(incoming.headers) !== 'text/event-stream') {
        this.#drain(incoming)
        answer.send(status === 200 ? 502 : status)
        return { status: 'failed', facts: { http: status } }
      }
      answer.open(responseHeaders(incoming.headers))
      const reader = sseReader(limits.lineBytes)
      for await (const chunk of incoming as AsyncIterable<Buffer>) {
        for (const event of reader.push(chunk)) {
          let flight: Flight | undefined
          const outcome = await this.#event(event, answer, (id) => {
            flight = this.#flight(id)
            return flight?.message
          })
          if (outcome && flight) this.#found(flight, outcome)
        }
      }
      answer.end()
      return { status: 'ok' }
    } catch (error) {
      if (answer.gone) return { status: 'ok' }
      throw unreachable(name, error)
    } finally {
      this.#streams--
    }
  }

  async end(why: ChaperoneError): Promise<void> {
    if (this.#over) return
    const flights = [...this.#flights]
    // What runs is cancelled before the session ends: a server may finish what it began for a session that is gone.
    await Promise.all(flights.map(({ message }) => this.#cancel(message, why)))
    this.#over = true
    for (const flight of flights) {
      flight.resumed?.({ status: 'unknown', facts: { why: why.code } })
      flight.stop.abort(why)
    }
    if (this.#session === undefined) return
    const { server, log, name } = this.#parts
    // The server may answer 405: then it ends sessions by itself.
    await server
      .tell({ method: 'DELETE', headers: this.#headers({}) })
      .catch((error: unknown) => log('mcp.upstream.end', { server: name, error: String(error) }))
  }
}

const mediaType = (headers: IncomingHttpHeaders) => headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase()

/** Visible ASCII is all that a session id may be; anything else would be a header of the server's making in our requests. */
function sessionOf(incoming: IncomingMessage): string | undefined {
  const id = incoming.headers['mcp-session-id']
  return typeof id === 'string' && /^[\x21-\x7e]{1,1024}$/.test(id) ? id : undefined
}

/** A broken connection in words of ours; our own reasons stay as they are. */
function unreachable(name: string, error: unknown): ChaperoneError {
  if (error instanceof ChaperoneError) return error
  return new ChaperoneError('upstream_unavailable', `The connection to the MCP server ${name} broke.`, { detail: String(error), cause: error })
}
