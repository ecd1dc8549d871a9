import { randomBytes } from 'node:crypto'
import type { Outcome, Permit } from '../../../access/types.ts'
import { ChaperoneError } from '../../../errors.ts'
import { type Answer, Collector } from '../answer.ts'
import type { McpLimits } from '../limits.ts'
import { type Json, learnMirrored, type Mirrored, modernHeaders } from '../text/modern-headers.ts'
import type { ClientHeaders, Errand, Upstream } from '../types.ts'
import { isObject, type Request, readMessages, readUpstream, type UpstreamMessage } from '../wire.ts'
import { type ClientFacts, enveloped, type Members, MODERN_VERSION, plainHeaders } from './modern-envelope.ts'
import { Tap } from './tap.ts'

/** A response of the server, read as far as a translator must. One of `result` and `error` is there. */
export interface Reply {
  /** as the server wrote it, under our id */
  readonly text: string
  readonly result: Json | undefined
  readonly error: Json | undefined
  readonly outcome: Outcome
}

interface ModernLinkParts {
  readonly name: string
  readonly server: Upstream
  readonly errand: Errand
  readonly limits: McpLimits
  /** What is said of the client to the server; `answer` is where the server could ask it something. */
  readonly facts: (answer?: Answer) => ClientFacts
}

/** A request of a legacy client, as it goes to a modern server. */
export interface Call {
  readonly message: Request
  readonly answer: Answer
  readonly headers: ClientHeaders
  readonly stop: AbortSignal
  /** as TapParts.told */
  readonly told: (message: UpstreamMessage) => string | undefined
  /** the permit of its newest round */
  under?: Permit
}

/** More pages of tools than any server has. */
const MAX_PAGES = 50

/** Speaks to a modern server for a legacy client: each message by itself, with envelope and headers, under an id of our own. */
export class ModernLink {
  readonly #parts: ModernLinkParts
  /** what tools want repeated in headers, as last listed here */
  readonly #mirrored: Mirrored = new Map()
  /** No two lanes and no two requests share an id upstream. */
  readonly #lane = randomBytes(9).toString('base64url')
  #lastId = 0

  constructor(parts: ModernLinkParts) {
    this.#parts = parts
  }

  newId(): string {
    return `chaperone-${this.#lane}-${++this.#lastId}`
  }

  /** The client's request: with its own permit, or, when it is repeated, as an errand: judged and recorded again. */
  async call(call: Call, permit: Permit | undefined, inputs: Members = []): Promise<Reply> {
    const { message, answer, headers, stop, told } = call
    const { facts, limits } = this.#parts
    const id = this.newId()
    const text = enveloped(message, id, facts(answer), inputs)
    const { method, params, lossy } = message
    // What was judged is in it as it was written; what is new in it is judged from its own text.
    const request: Request = permit ? { kind: 'request', id, method, params, text, lossy } : this.#read(text)
    return this.#send(request, permit, new Tap({ to: answer, maxBytes: limits.lineBytes, told, stop }), headers, call)
  }

  /** A request of our own, for what the client asked. */
  async ask(method: string, params: Json, stop: AbortSignal, told: (message: UpstreamMessage) => void = () => {}): Promise<Reply> {
    const { limits, facts } = this.#parts
    const bare = this.#read(JSON.stringify({ jsonrpc: '2.0', id: '', method, params }))
    const request = this.#read(enveloped(bare, this.newId(), facts()))
    const hear = (message: UpstreamMessage) => {
      told(message)
      return undefined
    }
    return this.#send(request, undefined, new Tap({ to: new Collector(limits.lineBytes), maxBytes: limits.lineBytes, told: hear, stop }), {})
  }

  /** Learns from a `tools/list` result what its tools want in headers. */
  learn(result: Json): void {
    learnMirrored(result, this.#mirrored)
  }

  /** Lists the tools, because the server says that what we know of their headers is old. */
  async learnTools(stop: AbortSignal): Promise<void> {
    let cursor: unknown
    for (let page = 0; page < MAX_PAGES; page++) {
      const { result } = await this.ask('tools/list', cursor === undefined ? {} : { cursor }, stop)
      if (!result) return
      this.learn(result)
      if (typeof result.nextCursor !== 'string') return
      cursor = result.nextCursor
    }
  }

  #read(text: string): Request {
    return readMessages(Buffer.from(text), this.#parts.limits) as Request
  }

  async #send(request: Request, permit: Permit | undefined, tap: Tap, client: ClientHeaders, of?: Call): Promise<Reply> {
    const { name, errand, server } = this.#parts
    const { method, params } = request
    const headers = { ...plainHeaders(client), ...modernHeaders({ method, params }, this.#mirrored), 'mcp-protocol-version': MODERN_VERSION }
    const send = (right: Permit) => {
      if (of) of.under = right
      return server.request(right, request, tap, headers)
    }
    const outcome = await (permit ? send(permit) : errand(request, send, of?.under))
    tap.end()
    return readReply(name, request, tap.text, outcome)
  }
}

/** Throws `upstream_unavailable` for what is no answer to the request, `ambiguous` for what could be read in two ways. */
function readReply(name: string, request: Request, text: string | undefined, outcome: Outcome): Reply {
  if (text === undefined) throw new ChaperoneError('upstream_unavailable', `The MCP server ${name} ended its answer before it was complete.`)
  const wrong = () => new ChaperoneError('upstream_unavailable', `What the MCP server ${name} answered is no answer to the request.`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw wrong()
  }
  if (!isObject(value) || readUpstream(text).kind !== 'response') throw wrong()
  const { result, error, id } = value
  // A server that could not read the request cannot name it; there is only one that it can mean.
  const mine = id === request.id || (isObject(error) && (id === null || id === undefined))
  if (!mine || isObject(result) === isObject(error)) throw wrong()
  return { text, result: isObject(result) ? result : undefined, error: isObject(error) ? error : undefined, outcome }
}
