import type { Outcome, Permit } from '../../../access/types.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import { LEGACY_VERSIONS } from '../era.ts'
import { spanAt } from '../text/json-text.ts'
import type { ClientHeaders, Upstream } from '../types.ts'
import { isObject, type Notification, ProtocolError, type Request, readUpstream, type UpstreamMessage } from '../wire.ts'
import type { Call } from './call.ts'
import { Listens } from './modern-listen.ts'
import { type Greeting, readGreeting, toLegacy } from './modern-results.ts'
import { lower } from './seat.ts'
import { ServerVoice } from './server-voice.ts'
import { narrowed, nobody, pause, readStream, StandingStream, type StandingStreamParts, Trail } from './standing-stream.ts'
import { Tap } from './tap.ts'
import type { TranslatorParts } from './translator.ts'

interface LegacySessionParts extends Omit<TranslatorParts, 'ended'> {
  /** what the client declares, as the legacy era says it */
  readonly capabilities: Readonly<Record<string, unknown>>
  /** `clientInfo` as the client sent it */
  readonly client: unknown
  /** It is over: whoever comes next needs another one. */
  readonly gone: (session: LegacySession) => void
  /** The server did not shake hands: perhaps it has become one of the other era. */
  readonly refused: (why: ChaperoneError) => void
}

const HEADERS: ClientHeaders = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }

/** Headers of the modern era would be lies to a legacy server: they say another version, and names that it need not compare. */
const KEPT_HEADERS: ReadonlySet<string> = new Set(['content-type', 'accept', 'accept-language', 'traceparent', 'tracestate'])

/** One session with a legacy server, on behalf of modern clients that declare the same capabilities. */
export class LegacySession {
  readonly listens: Listens
  /** requests and listens that use it */
  busy = 0
  lastUsed: number
  over: ChaperoneError | undefined
  readonly #parts: LegacySessionParts
  readonly #inner: Upstream
  readonly #voice: ServerVoice
  readonly #streaming: StandingStreamParts
  readonly #stream: StandingStream
  #greeting: Greeting | undefined
  #ready: Promise<Greeting> | undefined
  #level: string | undefined
  #nextId = 1

  constructor(parts: LegacySessionParts) {
    this.#parts = parts
    this.lastUsed = parts.clock.now()
    this.#voice = new ServerVoice({ ...parts, changed: (message) => this.listens.told(message) })
    this.#inner = parts.open(this.#voice.asker, (why) => this.#gone(why))
    this.#streaming = {
      ...parts,
      inner: this.#inner,
      headers: () => this.#headers(HEADERS),
      told: (message) => void this.#voice.heard(message, undefined),
      answered: (message) => parts.log('mcp.upstream.stray', { server: parts.name, id: message.id }),
      log: (error) => parts.log('mcp.upstream.stream', { server: parts.name, error: String(error) }),
    }
    this.#stream = new StandingStream(this.#streaming)
    this.listens = new Listens({
      capabilities: () => this.#greeting?.capabilities ?? {},
      info: () => this.#greeting?.info,
      stream: () => this.#stream.need(),
      subscribe: (uri, on) => this.#ask(on ? 'resources/subscribe' : 'resources/unsubscribe', { uri }),
      may: (message) => parts.asker.told(message),
      log: parts.log,
    })
  }

  /** The handshake: one, however many wait for it. */
  ready(): Promise<Greeting> {
    this.#ready ??= this.#shakeHands().catch(async (error: unknown) => {
      const why = toChaperoneError(error)
      this.#gone(why)
      await this.#inner.end(why)
      throw why
    })
    return this.#ready
  }

  async #shakeHands(): Promise<Greeting> {
    const { errand, capabilities, client } = this.#parts
    const clientInfo = isObject(client) ? client : { name: 'mcp-client', version: '0' }
    const message = requestOf(this.#nextId++, 'initialize', { protocolVersion: LEGACY_VERSIONS.at(-1), capabilities, clientInfo })
    const tap = this.#collector()
    await errand(message, (permit) => this.#inner.request(permit, message, tap, HEADERS))
    const greeting = this.#read(tap.text ?? '{}')
    this.#greeting = greeting
    this.#inner.agreed(greeting.version)
    const ready: Notification = notificationOf('notifications/initialized')
    await errand(ready, (permit) => this.#inner.notify(permit, ready, this.#headers(HEADERS)))
    // What a server asks outside of a request comes there; a client that can be asked nothing needs it for listens only.
    if (Object.keys(capabilities).some((name) => ['sampling', 'elicitation', 'roots'].includes(name))) void this.#stream.need()
    return greeting
  }

  #read(text: string): Greeting {
    const { name, refused } = this.#parts
    try {
      const greeting = readGreeting(name, text)
      if (LEGACY_VERSIONS.includes(greeting.version)) return greeting
      throw new ChaperoneError('upstream_unavailable', `The MCP server ${name} speaks a version that Chaperone does not know.`)
    } catch (error) {
      const why = toChaperoneError(error)
      refused(why)
      throw why
    }
  }

  #collector(): Tap {
    return new Tap({ to: nobody(), maxBytes: this.#parts.limits.lineBytes, told: (message) => this.#voice.heard(message, undefined) })
  }

  #headers(client: ClientHeaders): Record<string, string> {
    const kept = Object.entries(client).filter(([name]) => KEPT_HEADERS.has(name))
    return { ...Object.fromEntries(kept), ...(this.#greeting ? { 'mcp-protocol-version': this.#greeting.version } : {}) }
  }

  /** A request of our own. Rejects when the server answers it with an error. */
  async #ask(method: string, params: Record<string, unknown>): Promise<void> {
    const { errand, name } = this.#parts
    const message = requestOf(this.#nextId++, method, params)
    const tap = this.#collector()
    await errand(message, (permit) => this.#inner.request(permit, message, tap, this.#headers(HEADERS)))
    if (tap.text === undefined || spanAt(tap.text, ['error']))
      throw new ChaperoneError('upstream_unavailable', `The MCP server ${name} refused ${method}.`, { detail: tap.text?.slice(0, 500) ?? '' })
  }

  /** The level is the session's: the lowest that any of its requests wants. What a request did not ask for is kept from it. */
  async #setLevel(level: string): Promise<void> {
    if (!this.#greeting || !('logging' in this.#greeting.capabilities)) return
    // Servers say what belongs to the session on its own stream.
    void this.#stream.need()
    if (!lower(level, this.#level)) return
    this.#level = level
    await this.#ask('logging/setLevel', { level }).catch((error: unknown) =>
      this.#parts.log('mcp.setLevel', { server: this.#parts.name, error: String(error) }),
    )
  }

  /** Sends the call and resolves with the server's response. Rejects when there is none; then the server has been told that nobody waits. */
  async carry(call: Call, permit: Permit, headers: ClientHeaders, level: string | undefined): Promise<UpstreamMessage> {
    const { limits, name } = this.#parts
    if (level !== undefined) await this.#setLevel(level)
    if (call.stop.signal.aborted) throw call.stop.signal.reason
    const id = this.#nextId++
    const trail = new Trail()
    const tap: Tap = new Tap({
      to: call.outlet,
      maxBytes: limits.lineBytes,
      told: (message) => this.#voice.heard(message, call),
      seen: (event) => trail.see(event),
      closed: () => void this.#takeUp(call, id, tap, trail),
    })
    this.#voice.own(tap, call, trail)
    this.#voice.calls.set(id, call)
    try {
      await this.#inner.request(narrowed(permit, call.stop.signal), toLegacy(call.message, id), tap, this.#headers(headers))
    } finally {
      this.#voice.calls.delete(id)
    }
    if (tap.text === undefined) throw new ChaperoneError('upstream_unavailable', `The MCP server ${name} closed the stream before its answer.`)
    const response = readUpstream(tap.text)
    // An error to a message that the server could not read has no id.
    const nameless = response.id === undefined && response.members.has('error')
    if (response.kind !== 'response' || (response.id !== id && !nameless))
      throw new ChaperoneError('upstream_unavailable', `The MCP server ${name} answered another request than it was asked.`)
    return response
  }

  /** A server may close a stream before its answer and have it taken up by GET (2025-11-25, polling). */
  async #takeUp(call: Call, id: number, tap: Tap, trail: Trail): Promise<void> {
    const { clock, limits, log, name } = this.#parts
    const parts: StandingStreamParts = {
      ...this.#streaming,
      told: (message) => {
        const text = this.#voice.heard(message, call)
        if (text !== undefined) call.tell(message)
      },
      answered: (message) => {
        if (message.id === id) tap.text ??= message.text
        else log('mcp.upstream.stray', { server: name, id: message.id })
      },
      reading: (again) => this.#voice.own(again, call, trail),
    }
    for (let failures = 0; trail.id !== undefined && tap.text === undefined && this.#voice.calls.has(id); ) {
      await pause(clock, Math.min(trail.retryMs * 2 ** failures, limits.backoffMs), call.stop.signal)
      if (!this.#voice.calls.has(id)) return
      if (this.over) return call.stop.abort(lost(name))
      try {
        if (!(await readStream(parts, trail, call.stop.signal))) return
      } catch (error) {
        failures++
        this.#streaming.log(error)
      }
    }
  }

  async notify(permit: Permit, message: Notification, headers: ClientHeaders): Promise<Outcome> {
    return this.#inner.notify(permit, message, this.#headers(headers))
  }

  async end(why: ChaperoneError): Promise<void> {
    this.#gone(why)
    await this.#inner.end(why)
  }

  #gone(why: ChaperoneError): void {
    if (this.over) return
    this.over = why
    this.#stream.end(why)
    this.listens.end()
    // Where the server has only forgotten the session, each call finds out by itself, and one that was never looked at is sent again.
    if (!isForgotten(why)) for (const call of [...this.#voice.calls.values()]) call.stop.abort(why)
    this.#parts.gone(this)
  }
}

/** HTTP 404 to a session id: the server has not looked at the message. */
export const isForgotten = (error: unknown): boolean => error instanceof ProtocolError && error.jsonrpc === -32001

/** Whether what was under way took effect, nobody can say any more. */
const lost = (name: string) => new ChaperoneError('upstream_unavailable', `The session with the MCP server ${name} has ended.`)

const NONE: ReadonlySet<string> = new Set()

function requestOf(id: number, method: string, params: Record<string, unknown>): Request {
  return { kind: 'request', id, method, params, text: JSON.stringify({ jsonrpc: '2.0', id, method, params }), lossy: NONE }
}

function notificationOf(method: string): Notification {
  return { kind: 'notification', method, params: {}, text: JSON.stringify({ jsonrpc: '2.0', method }), lossy: NONE }
}
