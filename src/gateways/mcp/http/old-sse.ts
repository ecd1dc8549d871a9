import type { IncomingMessage } from 'node:http'
import type { Outcome, Permit } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import { type Answer, finish } from '../answer.ts'
import type { McpLimits } from '../limits.ts'
import { StandaloneStreams } from '../standalone-streams.ts'
import { Correlator, cancellation, type Waiting } from '../stdio/correlate.ts'
import { watchSilence } from '../stdio/silence.ts'
import { onOneLine } from '../text/json-text.ts'
import { type SseEvent, sseEvent, sseReader } from '../text/sse.ts'
import { type Asker, BareStatus, type ClientHeaders, NotSent, outcomeOf, type Upstream } from '../types.ts'
import { type Notification, type Request, readUpstream, sessionGone, type UpstreamMessage } from '../wire.ts'
import type { UpstreamHttp } from './upstream.ts'

interface OldSseParts {
  readonly name: string
  readonly server: UpstreamHttp
  readonly asker: Asker
  readonly clock: Clock
  readonly limits: Pick<McpLimits, 'lineBytes' | 'startMs' | 'silenceMs' | 'drainMs' | 'keepAliveMs' | 'inFlight' | 'streams'>
  readonly log: (what: string, facts: Record<string, unknown>) => void
  /** The stream is over, and the session with it. */
  readonly ended: (why: ChaperoneError) => void
}

/** The answers to `initialize` after which a client of both looks for this transport (2025-03-26, backwards compatibility). */
export const looksLikeOldSse = (status: number): boolean => status === 400 || status === 404 || status === 405

interface Flight {
  readonly answer: Answer
  readonly settle: (outcome: Outcome | ChaperoneError) => void
  /** Tells the server that nobody waits any more. */
  readonly cancel: (why: ChaperoneError) => void
  heard: number
}

/** Where messages are posted, and the stream on which all that the server says arrives. */
interface Channel {
  readonly path: string
  readonly incoming: IncomingMessage
}

const LONGEST_ENDPOINT = 4096

const JSON_HEADERS = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }

/**
 * One session with a server of HTTP+SSE, the transport of 2024-11-05: a GET opens the only stream, its first event says
 * where to POST, and answers come back on the stream. Requests get ids of our own, so that an answer reaches only the
 * request that it belongs to.
 */
export class OldSseUpstream implements Upstream {
  readonly #parts: OldSseParts
  readonly #flights = new Correlator<Flight>()
  readonly #stop = new AbortController()
  readonly #listeners: StandaloneStreams
  #channel: Promise<Channel> | undefined
  #over: ChaperoneError | undefined
  /** requests of the server that the client has not answered: until then its silence is ours */
  #asking = 0

  constructor(parts: OldSseParts) {
    this.#parts = parts
    this.#listeners = new StandaloneStreams(parts.limits.streams, () => parts.log('mcp.upstream.unheard', { server: parts.name }))
  }

  #open(): Promise<Channel> {
    if (this.#over) return Promise.reject(this.#over)
    this.#channel ??= this.#connect().catch((error: unknown) => {
      const why = toChaperoneError(error)
      // What was to be sent waits for this channel, so it was not sent.
      const kept = why instanceof BareStatus || why instanceof NotSent ? why : notSent(why)
      this.#fail(kept)
      throw kept
    })
    return this.#channel
  }

  async #connect(): Promise<Channel> {
    const { server, name, limits, clock } = this.#parts
    const { promise: silent, reject } = Promise.withResolvers<never>()
    const why = new ChaperoneError('upstream_timeout', `The MCP server ${name} named no endpoint for ${limits.startMs / 1000} s.`)
    const disarm = clock.at(clock.now() + limits.startMs, () => {
      reject(why)
      this.#stop.abort(why)
    })
    try {
      const incoming = await server.channel({ method: 'GET', headers: { accept: 'text/event-stream' }, stop: this.#stop.signal })
      const status = incoming.statusCode ?? 0
      if (status !== 200 || !/^text\/event-stream\b/i.test(incoming.headers['content-type'] ?? '')) {
        incoming.destroy()
        const barred = server.refusal(status)
        if (barred) throw barred
        throw new BareStatus(status, `The MCP server ${name} answered ${status} without a stream of events.`)
      }
      const reader = sseReader(limits.lineBytes)
      const events = incoming.iterator({ destroyOnReturn: false })
      const first = await Promise.race([firstEvent(events, reader), silent])
      const path = first === undefined ? undefined : endpointOf(server.url, first.events[0]!)
      if (first === undefined || path === undefined) {
        incoming.destroy()
        throw new ChaperoneError('upstream_unavailable', `The MCP server ${name} names no endpoint at its own address.`)
      }
      void this.#read(events, reader, first.events.slice(1))
      return { path, incoming }
    } finally {
      disarm()
    }
  }

  async #read(events: AsyncIterator<Buffer>, reader: ReturnType<typeof sseReader>, first: readonly SseEvent[]): Promise<void> {
    const { name } = this.#parts
    let why = new ChaperoneError('upstream_unavailable', `The MCP server ${name} has closed the stream.`)
    try {
      for (const event of first) this.#event(event)
      for (let next = await events.next(); !next.done; next = await events.next()) {
        for (const event of reader.push(next.value)) this.#event(event)
      }
    } catch (error) {
      why =
        error instanceof ChaperoneError
          ? error
          : new ChaperoneError('upstream_unavailable', `The connection to the MCP server ${name} broke.`, { detail: String(error) })
    }
    if (!this.#over) this.#lost(why)
  }

  #lost(why: ChaperoneError): void {
    this.#fail(why)
    this.#parts.ended(why)
  }

  #event(event: SseEvent): void {
    const { name, log } = this.#parts
    if (event.data === undefined) return
    let message: UpstreamMessage
    try {
      if (!event.plain || (event.name ?? 'message') !== 'message') throw new ChaperoneError('ambiguous', 'The event is no message.')
      message = readUpstream(event.data)
    } catch (error) {
      log('mcp.upstream.noise', { server: name, error: String(error) })
      for (const { owner } of this.#flights.meant(event.data))
        owner.cancel(
          new ChaperoneError('upstream_unavailable', `An answer of the MCP server ${name} could be read in two ways, so it is not passed on.`),
        )
      return
    }
    if (message.kind === 'response') void this.#response(message)
    else if (message.kind === 'request') void this.#asked(message)
    else this.#told(message)
  }

  async #response(message: UpstreamMessage): Promise<void> {
    const found = this.#flights.take(message)
    if (!found) {
      if (!this.#flights.late(message)) this.#parts.log('mcp.upstream.stray', { server: this.#parts.name, id: message.id })
      return
    }
    const { message: asked, owner } = found.waiting
    try {
      const text = await this.#parts.asker.answered(asked, onOneLine(found.text))
      if (this.#over) throw this.#over
      finish(owner.answer, 200, text)
      owner.settle(outcomeOf(text))
    } catch (error) {
      owner.settle(toChaperoneError(error))
    }
  }

  async #asked(message: UpstreamMessage): Promise<void> {
    this.#asking++
    try {
      const answer = await this.#parts.asker.asked(message, this.#newest()?.owner.answer)
      for (const { owner } of this.#flights.all()) owner.heard = this.#parts.clock.now()
      await this.#tell(answer)
    } finally {
      this.#asking--
    }
  }

  #told(message: UpstreamMessage): void {
    const about = this.#flights.about(message, false)
    if (about) {
      about.owner.heard = this.#parts.clock.now()
      if (!this.#parts.asker.told(message)) return
      deliver(about.owner.answer, onOneLine(this.#flights.told(message, about)))
      return
    }
    // Progress of what nobody asked for, or of what is answered already.
    if (message.method === 'notifications/progress' || !this.#parts.asker.told(message)) return
    const text = onOneLine(message.text)
    if (this.#listeners.say(text)) return
    const newest = this.#newest()
    if (newest) deliver(newest.owner.answer, text)
    else this.#listeners.keep(text)
  }

  /** The transport does not say to which request something belongs: the newest that can take it. */
  #newest(): Waiting<Flight> | undefined {
    return this.#flights.all().findLast(({ owner }) => owner.answer.streams && !owner.answer.gone)
  }

  async request(permit: Permit, message: Request, answer: Answer, headers: ClientHeaders): Promise<Outcome> {
    const { limits, clock } = this.#parts
    if (this.#flights.size >= limits.inFlight) throw new ChaperoneError('too_many', `More than ${limits.inFlight} requests wait for this MCP server.`)
    if (this.#flights.all().some((other) => other.message.id === message.id))
      throw new ChaperoneError('malformed', 'The request id is in use by a request that is not answered yet.')
    const { path } = await this.#open()
    if (permit.signal.aborted) throw permit.signal.reason
    const { promise, resolve } = Promise.withResolvers<Outcome | ChaperoneError>()
    const cancel = (why: ChaperoneError) => {
      if (!this.#flights.giveUp(waiting)) return
      if (message.method !== 'initialize' && !this.#over) void this.#tell(cancellation(waiting.id, why.code))
      resolve(why)
    }
    const { waiting, text } = this.#flights.add(message, { answer, settle: resolve, cancel, heard: clock.now() })
    const cut = () => cancel(permit.signal.reason as ChaperoneError)
    permit.signal.addEventListener('abort', cut)
    const disarm = this.#watch(waiting)
    // In the legacy era the work goes on, for a while.
    let forget = () => {}
    answer.whenGone(() => {
      const left = new ChaperoneError('upstream_timeout', 'The client went away before the answer came.')
      forget = clock.at(clock.now() + limits.drainMs, () => cancel(left))
    })
    try {
      // The answer may be there before its POST is answered.
      const outcome = await Promise.race([promise, this.#post(permit, path, text, headers).then(() => promise)])
      if (outcome instanceof ChaperoneError) throw outcome
      return outcome
    } finally {
      this.#flights.drop(waiting)
      disarm()
      forget()
      permit.signal.removeEventListener('abort', cut)
    }
  }

  #watch({ message: { method }, owner }: Waiting<Flight>): () => void {
    const { limits, clock, name } = this.#parts
    return watchSilence({
      clock,
      heard: () => owner.heard,
      patience: () => limits.silenceMs,
      excused: () => this.#asking > 0,
      keepAliveMs: limits.keepAliveMs,
      keepOpen() {
        if (owner.answer.streams && method !== 'initialize') owner.answer.open()
      },
      late: (ms) => owner.cancel(new ChaperoneError('upstream_timeout', `The MCP server ${name} did not answer for ${ms / 1000} s.`)),
    })
  }

  async #post(permit: Permit, path: string, text: string, headers: ClientHeaders): Promise<void> {
    const { server, name } = this.#parts
    const incoming = await server.send(permit, {
      method: 'POST',
      path,
      body: text,
      headers: { ...headers, ...JSON_HEADERS },
      stop: this.#stop.signal,
    })
    const status = incoming.statusCode ?? 0
    incoming.resume()
    if (status === 404) this.#lost(sessionGone(`The MCP server ${name} has ended the session.`))
    const barred = server.refusal(status)
    if (barred) throw barred
    if (status < 200 || status >= 300) throw new BareStatus(status, `The MCP server ${name} does not take the message: ${status}.`)
  }

  /** An answer to the server, or a cancellation. */
  async #tell(text: string): Promise<void> {
    const { server, log, name } = this.#parts
    try {
      const { path } = await this.#open()
      await server.tell({ method: 'POST', path, body: text, headers: JSON_HEADERS })
    } catch (error) {
      log('mcp.upstream.tell', { server: name, error: String(error) })
    }
  }

  async notify(permit: Permit, message: Notification, headers: ClientHeaders): Promise<Outcome> {
    const { path } = await this.#open()
    if (message.method !== 'notifications/cancelled') {
      await this.#post(permit, path, message.text, headers)
      return { status: 'ok' }
    }
    const found = this.#flights.cancelled(message, () => true)
    // A cancellation of what is already answered has nobody to go to, and a handshake cannot be cancelled.
    if (!found || found.waiting.message.method === 'initialize') return { status: 'ok', facts: { sent: false } }
    await this.#post(permit, path, found.text, headers)
    return { status: 'ok' }
  }

  async stream(permit: Permit, answer: Answer): Promise<Outcome> {
    if (this.#over) throw this.#over
    return this.#listeners.listen(permit, answer)
  }

  agreed(): void {}

  async end(why: ChaperoneError): Promise<void> {
    if (this.#over) return
    const channel = await this.#channel?.catch(() => undefined)
    // What runs is cancelled before the stream closes: a server may finish what it began for a session that is gone.
    if (channel) await Promise.all(this.#flights.all().map(({ id }) => this.#tell(cancellation(id, why.code))))
    this.#fail(why)
  }

  /** Whoever waits is told at once (peers R88). */
  #fail(why: ChaperoneError): void {
    if (this.#over) return
    this.#over = why
    this.#stop.abort(why)
    for (const { owner } of this.#flights.clear()) owner.settle(why)
    this.#listeners.close(why)
  }
}

function notSent(why: ChaperoneError): NotSent {
  const { code, message, detail, fix } = why
  return new NotSent(code, message, { ...(detail === undefined ? {} : { detail }), ...(fix === undefined ? {} : { fix }), cause: why })
}

/** The events of the first piece that holds a whole one with data; undefined when the stream ends before. */
async function firstEvent(events: AsyncIterator<Buffer>, reader: ReturnType<typeof sseReader>): Promise<{ events: SseEvent[] } | undefined> {
  for (let next = await events.next(); !next.done; next = await events.next()) {
    const said = reader.push(next.value).filter((event) => event.data !== undefined)
    if (said.length > 0) return { events: said }
  }
  return undefined
}

/** Path and query to POST to. Another origin would get the session's messages, and the credentials that go with them. */
function endpointOf(base: string, event: SseEvent): string | undefined {
  if (event.name !== 'endpoint' || !event.plain || event.data === undefined || event.data.length > LONGEST_ENDPOINT) return undefined
  const url = URL.parse(event.data, base)
  if (!url || url.origin !== new URL(base).origin || url.username !== '' || url.password !== '') return undefined
  return `${url.pathname}${url.search}`
}

/** The server is not read more slowly for one slow client: what that cannot take is bounded by the socket and the silence limit. */
function deliver(answer: Answer, text: string): void {
  if (!answer.streams) return
  answer.open()
  void answer.write(sseEvent(text))
}
