import type { IncomingMessage } from 'node:http'
import type { Readable, Writable } from 'node:stream'
import { type Clock, systemClock } from '../clock.ts'
import { ChaperoneError, REASONS, toChaperoneError } from '../errors.ts'
import { learnMirrored, type Mirrored, modernHeaders, modernVersion } from '../gateways/mcp/text/modern-headers.ts'
import type { Keeper } from './credential.ts'
import type { DataPlane } from './data-plane.ts'
import { McpEndpoint } from './endpoint.ts'
import { EventStreamReader } from './event-stream.ts'
import { LegacySession } from './legacy-session.ts'
import { LineWriter } from './line-writer.ts'
import { readLines } from './lines.ts'
import { clientLabel, clientNameIn, type Message } from './mcp-headers.ts'
import { errorText, type Id, idOf, isResponse, LONGEST_ANSWER, lostAnswer, oneLine, parseOrNothing, readBody, refusalOf } from './mcp-messages.ts'
import { opensPages, pageDone, pageNeeded } from './page-messages.ts'
import { SignInNeeded, type SignInPage, signingIn } from './sign-in-inside.ts'
import { sleep } from './sleep.ts'

/**
 * The stdio side of `chaperone mcp connect`: a desktop client starts it as if it were the MCP server, and each of its
 * lines becomes one POST to the gateway. Messages are passed on as the bytes they are, in both eras of MCP; they are
 * parsed only to find ids, versions and names. Nothing but MCP is ever written to `output`.
 */
export interface ShimOptions {
  /** name of the MCP server in the catalog; undefined: all that one may use, behind one endpoint */
  readonly server: string | undefined
  readonly input: Readable
  readonly output: Writable
  /** One line of trouble for the person; clients show a server's stderr in their logs. */
  readonly say: (line: string) => void
  /** Gets a credential as `<person>/<label>`; called again when the old one has ended. */
  readonly connect: (label: string) => Promise<Keeper>
  /** Lets the person sign in again when his sign-in has ended; absent: the error says how. */
  readonly signIn?: () => Promise<SignInPage>
  /** How long a call waits for him, in ms; default: as long as every client does. */
  readonly signInWaitMs?: number
  /** What the client is called; else it is taken from its first message. */
  readonly client?: string
  readonly clock?: Clock
  /** Another way than TLS to the gateway: the socket of a run. */
  readonly plane?: (keeper: Keeper) => DataPlane
  /** Ends everything at once (SIGTERM). */
  readonly signal?: AbortSignal
}

const LONGEST_LINE = 16 * 1024 * 1024
const MOST_IN_FLIGHT = 256
/** After the client has closed our input, what is still in flight gets this long. */
const GRACE_MS = 5000
const LISTEN_RETRY_MS = 1000
const LISTEN_LONGEST_RETRY_MS = 30_000
const RESUMES = 5

const PARSE_ERROR = -32700

interface InFlight {
  readonly modern: boolean
  readonly abort: AbortController
}

/** Runs until the input ends or `signal` fires. Resolves with the exit code: 0, or that of the reason why no credential could be had. */
export async function runShim(options: ShimOptions): Promise<number> {
  const shim = new Shim(options)
  return await shim.run()
}

class Shim {
  readonly #options: ShimOptions
  readonly #clock: Clock
  readonly #endpoint: McpEndpoint
  readonly #session: LegacySession
  readonly #inFlight = new Map<Id, InFlight>()
  readonly #mirrored: Mirrored = new Map()
  readonly #over = new AbortController()
  readonly #output: LineWriter
  /** Ends the stream of the server's own messages. */
  readonly #deaf = new AbortController()
  readonly #work = new Set<Promise<void>>()
  #label: string | undefined
  #listening = false
  /** The client can show its person a page (URL elicitation). */
  #opensPages = false
  /** The page whose sign-in somebody was told to wait for. */
  #told: SignInPage | undefined

  constructor(options: ShimOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#output = new LineWriter(options.output, this.#over.signal)
    const connect = () => options.connect(this.#label ?? clientLabel(undefined))
    const renewed =
      options.signIn === undefined
        ? connect
        : signingIn(connect, {
            open: options.signIn,
            say: options.say,
            wait: (ms) => this.#wait(ms),
            waitMs: options.signInWaitMs,
            signedIn: (page) => this.#signedIn(page),
          })
    this.#endpoint = new McpEndpoint(options.server, renewed, this.#clock, options.plane)
    this.#session = new LegacySession(this.#endpoint, this.#over.signal)
    this.#label = options.client === undefined ? undefined : clientLabel(options.client)
  }

  async run(): Promise<number> {
    const { input, output, signal } = this.#options
    const stop = () => {
      this.#over.abort(new ChaperoneError('draining', 'The shim was told to stop.'))
      input.destroy()
    }
    signal?.addEventListener('abort', stop, { once: true })
    // The clock's timers do not keep a process alive; a retry after the end of the input must.
    const awake = setInterval(() => {}, 60_000)
    // A client that is gone can be told nothing: without this, its closed pipe would end us with a stack trace.
    output.on('error', stop)
    try {
      for await (const line of readLines(input, LONGEST_LINE)) await this.#take(line)
      await Promise.race([Promise.allSettled(this.#work), this.#wait(GRACE_MS)])
    } catch (error) {
      if (!this.#over.signal.aborted && (error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error
    } finally {
      await this.#end()
      clearInterval(awake)
      signal?.removeEventListener('abort', stop)
    }
    return this.#endpoint.exitCode
  }

  async #end(): Promise<void> {
    // First, or the server would tell us on that stream that we have gone, and we would pass it on.
    this.#deaf.abort()
    await this.#endpoint
      .close(this.#session.headers())
      .catch((error: ChaperoneError) => this.#options.say(`the MCP session could not be closed: ${error.message}`))
    if (!this.#over.signal.aborted) this.#over.abort(new ChaperoneError('session_ended', 'The client has gone.'))
  }

  async #take(line: Buffer | 'too_long'): Promise<void> {
    if (line === 'too_long') return this.#fail(null, new ChaperoneError('too_large', `A message is over ${LONGEST_LINE} bytes.`))
    if (line.every((byte) => byte === 32 || byte === 13 || byte === 9)) return
    let message: Message
    try {
      message = JSON.parse(line.toString('utf8')) as Message
      if (typeof message !== 'object' || message === null) throw new SyntaxError('not an object')
    } catch {
      return this.#output.write(
        JSON.stringify({ jsonrpc: '2.0', id: null, error: { code: PARSE_ERROR, message: 'The line is not a JSON-RPC message.' } }),
      )
    }
    this.#label ??= clientLabel(clientNameIn(message))
    this.#opensPages ||= opensPages(message)
    const id = idOf(message)
    const isRequest = id !== undefined && typeof message.method === 'string'
    if (!isRequest) {
      if (message.method === 'notifications/cancelled' && this.#cancelModern(message)) return
      // Order matters here: what the server is told must arrive before what the client sends next.
      return this.#send(message, line, undefined)
    }
    if (this.#inFlight.size >= MOST_IN_FLIGHT) return this.#fail(id, new ChaperoneError('too_many', `More than ${MOST_IN_FLIGHT} requests at once.`))
    if (message.method === 'initialize') return this.#request(message, line, id)
    const work = this.#request(message, line, id).finally(() => this.#work.delete(work))
    this.#work.add(work)
  }

  async #request(message: Message, line: Buffer, id: Id): Promise<void> {
    const abort = new AbortController()
    this.#inFlight.set(id, { modern: modernVersion(message) !== undefined, abort })
    try {
      await this.#send(message, line, { id, signal: AbortSignal.any([abort.signal, this.#over.signal]) })
    } finally {
      this.#inFlight.delete(id)
    }
  }

  /** In the stateless era closing the stream is the cancellation, and no message of it goes over HTTP. */
  #cancelModern(message: Message): boolean {
    const id = (message.params as Message | undefined)?.requestId
    const running = typeof id === 'string' || typeof id === 'number' ? this.#inFlight.get(id) : undefined
    if (!running?.modern) return false
    running.abort.abort(new ChaperoneError('session_ended', 'Cancelled by the client.'))
    return true
  }

  async #send(message: Message, line: Buffer, request: { readonly id: Id; readonly signal: AbortSignal } | undefined): Promise<void> {
    try {
      await this.#post(message, line, request)
      if (message.method === 'notifications/initialized' && modernVersion(message) === undefined) {
        this.#session.complete(line)
        this.#listen()
      }
    } catch (cause) {
      // A cancelled request is answered by silence, as the protocol wants; and after the end there is nobody to tell.
      if (request?.signal.aborted || this.#over.signal.aborted) return
      const error = await this.#endpoint.explain(toChaperoneError(cause))
      if (request) await this.#fail(request.id, error)
      else this.#options.say(`${String(message.method ?? 'an answer of the client')} was not delivered: ${error.message}`)
    }
  }

  async #post(message: Message, line: Buffer, request: { readonly id: Id; readonly signal: AbortSignal } | undefined, again = false): Promise<void> {
    const modern = modernVersion(message) !== undefined
    const isInitialize = !modern && message.method === 'initialize'
    if (isInitialize) this.#session.begin(line)
    const answer = await this.#endpoint.post(
      line,
      modern ? modernHeaders(message, this.#mirrored) : this.#session.headers(),
      request?.signal ?? this.#over.signal,
    )
    if (answer.statusCode === 404 && this.#session.id !== undefined && !modern && !again) {
      // The server no longer knows the MCP session (it was restarted, or our login is a new one). It has not looked at the message, so it may be sent again.
      answer.resume()
      await this.#session.startAgain(() => this.#listen())
      return this.#post(message, line, request, true)
    }
    if (isInitialize) this.#session.answered(answer)
    const answered = await this.#pass(answer, message, request?.id)
    if (request && !answered) throw lostAnswer()
  }

  /** Writes what an answer carries. True when the response to `id` was among it (or none was expected). */
  async #pass(answer: IncomingMessage, message: Message, id: Id | undefined): Promise<boolean> {
    const status = answer.statusCode ?? 0
    const type = (answer.headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase()
    if (type === 'text/event-stream' && status === 200) return this.#passStream(answer, message, id)
    const body = await readBody(answer, LONGEST_ANSWER)
    if (type === 'application/json' && body.length > 0) {
      const value = parseOrNothing(body)
      if (isResponse(value)) {
        this.#learn(message, value)
        // An error that the server could not tie to a request still belongs to this one: a client waits for its own id.
        const reply = id !== undefined && idOf(value) === undefined ? JSON.stringify({ ...value, id }) : oneLine(body)
        if (id !== undefined) await this.#output.write(reply)
        else if (status >= 400) this.#options.say(`${String(message.method)} was refused: ${errorText(value)}`)
        return true
      }
      if (Array.isArray(value) && status === 200) {
        await this.#output.write(oneLine(body))
        return true
      }
      if (status >= 400) throw refusalOf(status, value)
    }
    if (status >= 400) throw refusalOf(status, undefined)
    return id === undefined
  }

  async #passStream(answer: IncomingMessage, message: Message, id: Id | undefined): Promise<boolean> {
    const state = { answered: false, lastEventId: undefined as string | undefined, retryMs: LISTEN_RETRY_MS }
    await this.#drain(answer, state, message, id)
    const modern = modernVersion(message) !== undefined
    // In the era with sessions a server may close a stream early, and the client comes back for the rest (GET with Last-Event-ID).
    for (let attempt = 0; !modern && id !== undefined && !state.answered && state.lastEventId !== undefined && attempt < RESUMES; attempt++) {
      await this.#wait(state.retryMs)
      const rest = await this.#get(state.lastEventId)
      if (rest.statusCode !== 200) {
        rest.resume()
        break
      }
      await this.#drain(rest, state, message, id)
    }
    return state.answered || id === undefined
  }

  async #drain(
    answer: IncomingMessage,
    state: { answered: boolean; lastEventId: string | undefined; retryMs: number },
    message: Message | undefined,
    id: Id | undefined,
  ): Promise<void> {
    const reader = new EventStreamReader()
    try {
      for await (const chunk of answer) {
        for (const event of reader.push(chunk as Buffer)) {
          if (event.id !== undefined) state.lastEventId = event.id
          if (event.retry !== undefined) state.retryMs = Math.min(event.retry, LISTEN_LONGEST_RETRY_MS)
          if (event.data === '') continue
          const value = parseOrNothing(event.data)
          if (value === undefined) throw new ChaperoneError('malformed', 'The server sent an event that is not JSON.')
          if (id !== undefined && isResponse(value) && idOf(value) === id) {
            state.answered = true
            if (message) this.#learn(message, value)
          }
          // An error that answers nothing (the server says why it ends the stream) is no message that a client could read.
          if (isResponse(value) && idOf(value) === undefined) this.#options.say(errorText(value))
          else await this.#output.write(oneLine(event.data))
        }
      }
    } catch (error) {
      if (error instanceof ChaperoneError || this.#over.signal.aborted) throw error
      // The connection was cut; whether that loses anything is for the caller to say.
    } finally {
      answer.destroy()
    }
  }

  #learn(message: Message, response: Message): void {
    if (message.method === 'initialize') this.#session.learn(response)
    if (message.method === 'tools/list') learnMirrored(response.result as Message | undefined, this.#mirrored)
  }

  /** The stream on which a server of the era with sessions says what nobody asked for: changed lists, questions to the model. */
  #listen(): void {
    if (this.#listening || this.#session.id === undefined) return
    this.#listening = true
    const work = (async () => {
      const state = { answered: false, lastEventId: undefined as string | undefined, retryMs: LISTEN_RETRY_MS }
      let backoff = 1
      while (!this.#over.signal.aborted && !this.#deaf.signal.aborted) {
        const began = this.#clock.now()
        try {
          const session = this.#session.id
          const answer = await this.#get(state.lastEventId)
          if (answer.statusCode !== 200) {
            answer.resume()
            // 405: it has no such stream. 404: the session is lost; the next message starts another, and listens again.
            if ((answer.statusCode ?? 0) < 500 && this.#session.id === session) return
            state.lastEventId = undefined
          } else await this.#drain(answer, state, undefined, undefined)
        } catch (error) {
          if (this.#over.signal.aborted || this.#deaf.signal.aborted) return
          if (toChaperoneError(error).code !== 'upstream_unavailable') throw error
        }
        backoff = this.#clock.now() - began > LISTEN_LONGEST_RETRY_MS ? 1 : backoff * 2
        await this.#wait(Math.min(state.retryMs * backoff, LISTEN_LONGEST_RETRY_MS))
      }
    })().finally(() => {
      this.#listening = false
    })
    // It never holds up the end: closing aborts it.
    work.catch((error: unknown) => this.#options.say(`the server's own messages stopped: ${toChaperoneError(error).message}`))
  }

  async #get(lastEventId: string | undefined): Promise<IncomingMessage> {
    const headers = { ...this.#session.headers(), ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }) }
    return await this.#endpoint.listen(headers, AbortSignal.any([this.#over.signal, this.#deaf.signal]))
  }

  async #fail(id: Id | null, error: ChaperoneError): Promise<void> {
    const text = error.fix === undefined ? error.message : `${error.message} ${error.fix}`
    this.#options.say(`${text} [${error.code}]`)
    const page = error instanceof SignInNeeded && id !== null ? error.page : undefined
    if (page && this.#opensPages) {
      this.#told = page
      return this.#output.write(pageNeeded(id, error, text, page))
    }
    await this.#output.write(
      JSON.stringify({ jsonrpc: '2.0', id, error: { code: REASONS[error.code].jsonrpc, message: text, data: { code: error.code } } }),
    )
  }

  /** A client that was shown the page may now send the call again by itself (MCP 2025-11-25, elicitation). */
  #signedIn(page: SignInPage): void {
    if (this.#told !== page) return
    this.#told = undefined
    void this.#output.write(pageDone(page))
  }

  #wait(ms: number): Promise<void> {
    return sleep(this.#clock, ms, this.#over.signal)
  }
}
