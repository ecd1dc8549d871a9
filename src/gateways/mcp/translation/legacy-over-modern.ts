import type { Outcome, Permit } from '../../../access/types.ts'
import { ChaperoneError } from '../../../errors.ts'
import { type Answer, finish } from '../answer.ts'
import { replyTo, replyToServer } from '../refuse.ts'
import { appending, edited, onOneLine, spanAt } from '../text/json-text.ts'
import { OUR_META } from '../text/meta.ts'
import type { Asker, ClientHeaders, Upstream } from '../types.ts'
import {
  HEADER_MISMATCH,
  INVALID_PARAMS,
  isObject,
  isRequestId,
  METHOD_NOT_FOUND,
  MISSING_CAPABILITY,
  memberOf,
  type Notification,
  ProtocolError,
  type Request,
  type RequestId,
  readUpstream,
  UNSUPPORTED_VERSION,
  type UpstreamMessage,
} from '../wire.ts'
import { handshake, type LegacyClient, missingCapability, readClient } from './legacy-handshake.ts'
import { CannotAsk, inquire, MAY_REQUIRE, readRequired } from './legacy-rounds.ts'
import { LegacySubscriptions } from './legacy-subscriptions.ts'
import { type ClientFacts, MODERN_VERSION } from './modern-envelope.ts'
import { type Call, ModernLink, type Reply } from './modern-link.ts'
import type { TranslatorParts } from './translator.ts'

/** For a client with a handshake and sessions: the way to a server that has neither (2026-07-28). */
export function legacyOverModern(parts: TranslatorParts): Upstream {
  return new LegacyOverModern(parts)
}

const LEVELS: readonly unknown[] = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency']
/** A client of this era need not ask for log messages to get some; what it gets then is the server's choice, so ours. */
const DEFAULT_LEVEL = 'info'
/** Methods of the modern era: a client of the other one that sends them without the envelope means something else. */
const MODERN_ONLY = new Set(['server/discover', 'subscriptions/listen'])
/** What a server may say on the stream of a request that means nothing to a legacy client. */
const UNTOLD = new Set(['notifications/subscriptions/acknowledged', 'notifications/cancelled', 'notifications/tasks'])
/** Between rounds in which the server asks for nothing but another try. */
const FIRST_PAUSE_MS = 250

/** A request of the client that is not answered. */
interface Flight extends Call {
  readonly end: (why: ChaperoneError) => void
  /** the client's own id, as it wrote it */
  readonly idText: string
  over: boolean
}

class LegacyOverModern implements Upstream {
  readonly #parts: TranslatorParts
  readonly #server: Upstream
  readonly #link: ModernLink
  readonly #subscriptions: LegacySubscriptions
  #client: LegacyClient = { capabilities: '{}', silent: '{}', offers: {}, info: undefined }
  /** of log messages; undefined: the server has none */
  #level: string | undefined
  readonly #flights = new Map<RequestId, Flight>()
  readonly #stop = new AbortController()
  #over: ChaperoneError | undefined

  constructor(parts: TranslatorParts) {
    const { name, clock, limits, log, asker, errand } = parts
    this.#parts = parts
    this.#server = parts.open(this.#asker(), (why) => this.#serverEnded(why))
    this.#link = new ModernLink({ name, errand, limits, server: this.#server, facts: (answer) => this.#facts(answer) })
    this.#subscriptions = new LegacySubscriptions({
      name,
      clock,
      limits,
      log,
      listen: async (filter, hear, stop) => (await this.#link.ask('subscriptions/listen', { notifications: filter }, stop, hear)).text,
      told: (message) => asker.told(message),
      mayHear: (uri) => asker.told(readUpstream(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri } }))),
    })
  }

  /** What the raw way asks. Whatever goes on to the client is judged where it does, once. */
  #asker(): Asker {
    const { asker, name } = this.#parts
    return {
      answered: (message, text) => asker.answered(message, text),
      // Each of its questions is judged when it is asked.
      required: (_, text) => text,
      may: (method, params) => asker.may(method, params),
      asked: async (message) =>
        JSON.stringify(replyToServer(message.id!, new ChaperoneError('unsupported', `${MODERN_VERSION} has no requests of servers (${name}).`))),
      told: () => true,
    }
  }

  /** A server without sessions that was started again is the same server; only one that is no modern server ends the session. */
  #serverEnded(why: ChaperoneError): void {
    this.#parts.log('mcp.translated.ended', { server: this.#parts.name, why: why.message })
    if (why instanceof ProtocolError) this.#parts.ended(why)
  }

  async request(permit: Permit, message: Request, answer: Answer, headers: ClientHeaders): Promise<Outcome> {
    if (this.#over) throw this.#over
    const { method, params } = message
    switch (method) {
      case 'initialize':
        return this.#initialize(message, answer)
      case 'ping':
        return this.#done(message, answer)
      case 'logging/setLevel':
        if (this.#level === undefined) throw noMethod(method)
        if (!LEVELS.includes(params.level)) throw new ProtocolError(INVALID_PARAMS, 'There is no such logging level.', { id: message.id, http: 200 })
        this.#level = params.level as string
        return this.#done(message, answer)
      case 'resources/subscribe':
        await this.#subscriptions.subscribe(params.uri as string)
        return this.#done(message, answer, true)
      case 'resources/unsubscribe':
        await this.#subscriptions.unsubscribe(params.uri as string)
        return this.#done(message, answer, true)
      default:
        if (MODERN_ONLY.has(method)) throw noMethod(method)
        return this.#exchange(permit, message, answer, headers)
    }
  }

  /** The empty result: exactly that, because the SDK's clients refuse one with further members. */
  #done(message: Request, answer: Answer, sent = false): Outcome {
    finish(answer, 200, `{"jsonrpc":"2.0","id":${idOf(message)},"result":{}}`)
    return { status: 'ok', facts: { sent } }
  }

  async #initialize(message: Request, answer: Answer): Promise<Outcome> {
    const { name } = this.#parts
    this.#client = readClient(message)
    const reply = await this.#link.ask('server/discover', {}, this.#stop.signal)
    if (reply.error) throw refusedBy(name, reply.error)
    const { result, offer } = handshake(name, message, reply.text)
    if (offer.logging) this.#level = DEFAULT_LEVEL
    this.#subscriptions.offered(offer)
    finish(answer, 200, `{"jsonrpc":"2.0","id":${idOf(message)},"result":${result}}`)
    return reply.outcome
  }

  async #exchange(permit: Permit, message: Request, answer: Answer, headers: ClientHeaders): Promise<Outcome> {
    if (this.#flights.has(message.id)) throw new ChaperoneError('malformed', 'The request id is in use by a request that is not answered yet.')
    // In its era they mean nothing; sent on they would be an answer to a question that nobody asked.
    const foreign = ['inputResponses', 'requestState'].find((key) => key in message.params)
    if (foreign)
      throw new ProtocolError(INVALID_PARAMS, `\`${foreign}\` does not exist in the version of this session.`, { id: message.id, http: 200 })
    const { clock, limits } = this.#parts
    const stop = new AbortController()
    const told = (one: UpstreamMessage) => (flight.over ? undefined : this.#told(one, message))
    const end = (why: ChaperoneError) => stop.abort(why)
    const flight: Flight = { message, answer, headers, stop: stop.signal, told, end, idText: idOf(message), over: false }
    this.#flights.set(message.id, flight)
    let disarm = () => {}
    answer.whenGone(() => {
      // Its leaving does not cancel in this era; nobody waits for ever either.
      const left = () => end(new ChaperoneError('upstream_timeout', 'The client went away before the answer came.'))
      if (!flight.over) disarm = clock.at(clock.now() + limits.drainMs, left)
    })
    const cut = () => end(permit.signal.reason as ChaperoneError)
    permit.signal.addEventListener('abort', cut)
    try {
      return await this.#rounds(permit, flight)
    } catch (error) {
      if (stop.signal.aborted) throw stop.signal.reason
      if (error instanceof CannotAsk) return this.#fail(flight, error)
      throw error
    } finally {
      flight.over = true
      disarm()
      permit.signal.removeEventListener('abort', cut)
      this.#flights.delete(message.id)
    }
  }

  /** The call, and every repetition that the server asks for. */
  async #rounds(permit: Permit, flight: Flight): Promise<Outcome> {
    const { name, limits, clock, asker } = this.#parts
    const { message, answer, stop } = flight
    let reply = await this.#link.call(flight, permit)
    let pauses = 0
    for (let rounds = 0; ; rounds++) {
      if (rounds === 0 && reply.error?.code === HEADER_MISMATCH && message.method === 'tools/call') {
        await this.#link.learnTools(stop)
        reply = await this.#link.call(flight, undefined)
      }
      const { result, text } = reply
      if (result?.resultType !== 'input_required') return this.#answered(flight, reply)
      if (!MAY_REQUIRE.has(message.method)) throw new CannotAsk('upstream_unavailable', `The MCP server ${name} asks for more where it may not.`)
      if (rounds >= limits.rounds) throw new CannotAsk('upstream_unavailable', `The MCP server ${name} asked for more ${rounds} times.`)
      const required = readRequired(text, result, limits)
      if (required.wishes.length === 0 && pauses++ > 0) await this.#pause(FIRST_PAUSE_MS * 2 ** (pauses - 2), stop)
      const newId = () => this.#link.newId()
      const inputs = await inquire(required, { name, client: this.#client, asker, answer, signal: stop, clock, limits, newId })
      reply = await this.#link.call(flight, undefined, inputs)
    }
  }

  #pause(ms: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts
    return new Promise((resolve, reject) => {
      const cut = () => {
        disarm()
        reject(signal.reason)
      }
      const disarm = clock.at(clock.now() + ms, () => {
        signal.removeEventListener('abort', cut)
        resolve()
      })
      if (signal.aborted) cut()
      else signal.addEventListener('abort', cut, { once: true })
    })
  }

  /** What the server is told of this client: that it can be asked nothing, when it does not read the stream that questions come on. */
  #facts(answer: Answer | undefined): ClientFacts {
    const { capabilities, silent, info } = this.#client
    return { capabilities: answer && !answer.streams ? silent : capabilities, info, level: this.#level }
  }

  /** What the client gets of a notification on the stream of its request. */
  #told(one: UpstreamMessage, message: Request): string | undefined {
    const { asker, log, name } = this.#parts
    try {
      if (UNTOLD.has(one.method!)) return undefined
      if (one.method === 'notifications/progress') {
        const meta = isObject(message.params._meta) ? message.params._meta : {}
        const token = memberOf(one, ['params', 'progressToken'])
        if (meta.progressToken === undefined || token !== meta.progressToken) return undefined
      }
      return asker.told(one) ? onOneLine(one.text) : undefined
    } catch (error) {
      log('mcp.translated.noise', { server: name, error: String(error) })
      return undefined
    }
  }

  #answered(flight: Flight, reply: Reply): Outcome {
    const { name } = this.#parts
    const { message, answer, idText } = flight
    const { error, result, text, outcome } = reply
    if (error?.code === MISSING_CAPABILITY) throw new CannotAsk('unsupported', missingCapability(name, error.data))
    if (error && (error.code === HEADER_MISMATCH || error.code === UNSUPPORTED_VERSION)) throw refusedBy(name, error)
    const type = result?.resultType ?? 'complete'
    // A client of this era would take it for an empty result.
    if (result && type !== 'complete')
      throw new CannotAsk(
        'unsupported',
        `The MCP server ${name} gave a result of the type ${JSON.stringify(type).slice(0, 128)}, which this client does not know.`,
      )
    if (message.method === 'tools/list' && result) this.#link.learn(result)
    const id = spanAt(text, ['id'])
    const edit = id ? { ...id, text: idText } : appending(text, { start: 0, end: text.lastIndexOf('}') + 1 }, `"id":${idText}`)
    finish(answer, 200, onOneLine(edited(text, [edit])))
    return outcome
  }

  /** The call cannot go on: a model reads that as a tool's own failure, clients show a JSON-RPC error to nobody. */
  #fail({ message, answer, idText }: Flight, error: CannotAsk): Outcome {
    const { id, method } = message
    const result = { content: [{ type: 'text', text: error.message }], isError: true, _meta: { [`${OUR_META}origin`]: 'proxy' } }
    const reply = method === 'tools/call' ? `{"jsonrpc":"2.0","id":${idText},"result":${JSON.stringify(result)}}` : undefined
    finish(answer, 200, reply ?? JSON.stringify(replyTo(error, { id, method, server: this.#parts.name }).message))
    return { status: 'failed', facts: { why: error.code } }
  }

  async notify(_permit: Permit, message: Notification): Promise<Outcome> {
    if (message.method === 'notifications/cancelled') {
      const id = message.params.requestId
      const flight = isRequestId(id) ? this.#flights.get(id) : undefined
      flight?.end(new ChaperoneError('upstream_timeout', 'The client cancelled the request.'))
      return { status: 'ok', facts: { sent: flight !== undefined } }
    }
    // The modern era has no notifications of clients over HTTP, and none of these means anything in it.
    return { status: 'ok', facts: { sent: false } }
  }

  async stream(permit: Permit, answer: Answer): Promise<Outcome> {
    if (this.#over) throw this.#over
    return this.#subscriptions.stream(permit, answer)
  }

  agreed(): void {}

  async end(why: ChaperoneError): Promise<void> {
    this.#over ??= why
    this.#stop.abort(why)
    for (const flight of [...this.#flights.values()]) flight.end(why)
    this.#subscriptions.end(why)
    await this.#server.end(why)
  }
}

function idOf(message: Request): string {
  const span = spanAt(message.text, ['id'])!
  return message.text.slice(span.start, span.end)
}

const noMethod = (method: string) =>
  new ProtocolError(METHOD_NOT_FOUND, `${method.slice(0, 128)} does not exist here.`, { http: 200, code: 'unsupported' })

/** What a modern server says of the message as we sent it, which is none of the client's doing. */
function refusedBy(name: string, error: Readonly<Record<string, unknown>>): ChaperoneError {
  return new ChaperoneError('upstream_unavailable', `The MCP server ${name} does not accept what Chaperone sends for this client.`, {
    detail: `${String(error.code)} ${String(error.message)}`.slice(0, 1000),
  })
}
