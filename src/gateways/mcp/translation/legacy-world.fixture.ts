import type { Outcome, Permit } from '../../../access/types.ts'
import { type Clock, manualClock } from '../../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import { type Answer, finish } from '../answer.ts'
import { MCP_LIMITS, type McpLimits } from '../limits.ts'
import { replyTo, replyToServer } from '../refuse.ts'
import { spanAt } from '../text/json-text.ts'
import { sseEvent, sseReader } from '../text/sse.ts'
import type { Asker, ClientHeaders, Upstream } from '../types.ts'
import { type Notification, type Request, readMessages, type UpstreamMessage } from '../wire.ts'
import { legacyOverModern } from './legacy-over-modern.ts'

// biome-ignore lint/suspicious/noExplicitAny: what a test looks into is not worth a type
export type Json = any

/** A client's end of one answer: what it got, in order. */
export class TestAnswer implements Answer {
  began: Answer['began'] = 'no'
  gone = false
  over = false
  readonly streams: boolean
  status = 0
  readonly messages: Json[] = []
  /** what came after the end, or was not to be read: always empty in a right implementation */
  readonly wrong: string[] = []
  /** called with each message as it comes */
  heard: (message: Json) => void = () => {}
  readonly #watchers: (() => void)[] = []
  readonly #reader = sseReader(1 << 20)
  readonly ended: Promise<void>
  #end: () => void

  constructor(streams = true) {
    this.streams = streams
    const { promise, resolve } = Promise.withResolvers<void>()
    this.ended = promise
    this.#end = resolve
  }

  whenGone(see: () => void): void {
    if (this.gone) see()
    else this.#watchers.push(see)
  }
  leave(): void {
    this.gone = true
    for (const see of this.#watchers) see()
  }
  send(status: number, body?: string | Buffer): void {
    if (this.began !== 'no') return void this.wrong.push(`send after ${this.began}`)
    this.began = 'body'
    this.status = status
    if (body !== undefined) this.#take(body.toString())
    this.end()
  }
  begin(): void {
    this.wrong.push('begin')
  }
  open(): void {
    if (this.began === 'body') this.wrong.push('open after body')
    if (this.began === 'no') this.began = 'stream'
  }
  async write(chunk: Buffer | string): Promise<void> {
    if (this.gone) return
    if (this.over || this.began !== 'stream') return void this.wrong.push(`write: ${chunk}`)
    for (const event of this.#reader.push(Buffer.from(chunk))) if (event.data !== undefined) this.#take(event.data)
  }
  end(): void {
    this.over = true
    this.#end()
  }
  break(): void {
    this.wrong.push('break')
    this.end()
  }
  #take(text: string): void {
    const message = JSON.parse(text) as Json
    this.messages.push(message)
    this.heard(message)
  }
  get response(): Json {
    return this.messages.find((message) => !('method' in message))
  }
}

/** What a scripted server does with one request. */
export interface Asked {
  readonly message: Request
  readonly headers: ClientHeaders
  readonly answer: Answer
  readonly permit: Permit
  /** parsed */
  readonly body: Json
  /** notification on the stream of the request */
  tell(method: string, params: unknown): Promise<void>
  /** resolves when the request is cancelled */
  readonly cancelled: Promise<void>
}
/** Returns the result, or an object with `error`; text is sent as it is; undefined ends without an answer. */
export type Script = (asked: Asked) => Json | Promise<Json>

export const CAPABILITIES = {
  tools: { listChanged: true },
  prompts: { listChanged: true },
  resources: { listChanged: true, subscribe: true },
  completions: {},
  logging: {},
  extensions: { 'io.modelcontextprotocol/tasks': {}, 'example.com/x': { y: 1 } },
}
export const DISCOVERED = {
  resultType: 'complete',
  supportedVersions: ['2026-07-28'],
  capabilities: CAPABILITIES,
  instructions: 'Be kind.',
  ttlMs: 0,
  cacheScope: 'private',
  _meta: { 'io.modelcontextprotocol/serverInfo': { name: 'scripted', version: '7', big: 1 } },
}

/** A modern server in our own hands, behind the contract of a raw upstream. */
export class ScriptedServer implements Upstream {
  readonly received: { text: string; headers: ClientHeaders; body: Json }[] = []
  readonly ids = new Set<unknown>()
  ends = 0
  script: Script

  constructor(script: Script) {
    this.script = script
  }

  async request(permit: Permit, message: Request, answer: Answer, headers: ClientHeaders): Promise<Outcome> {
    const body = JSON.parse(message.text) as Json
    this.received.push({ text: message.text, headers, body })
    if (this.ids.has(body.id)) throw new Error(`the id ${body.id} was used twice`)
    this.ids.add(body.id)
    const gone = Promise.withResolvers<void>()
    answer.whenGone(gone.resolve)
    permit.signal.addEventListener('abort', () => gone.resolve())
    if (permit.signal.aborted) gone.resolve()
    const tell = async (method: string, params: unknown) => {
      answer.open()
      await answer.write(sseEvent(JSON.stringify({ jsonrpc: '2.0', method, params })))
    }
    const said = await Promise.race([
      Promise.resolve(this.script({ message, headers, answer, permit, body, tell, cancelled: gone.promise })),
      gone.promise.then(() => {
        throw permit.signal.aborted ? permit.signal.reason : new ChaperoneError('upstream_timeout', 'The client went away before the answer came.')
      }),
    ])
    if (said === undefined) {
      answer.open()
      answer.end()
      return { status: 'unknown' }
    }
    const text =
      typeof said === 'string'
        ? said.replace('$ID', JSON.stringify(body.id))
        : JSON.stringify({ jsonrpc: '2.0', id: body.id, ...(said.error ? { error: said.error } : { result: said }) })
    if (answer.began === 'stream') {
      await answer.write(sseEvent(text))
      answer.end()
    } else answer.send(said.error ? 400 : 200, text)
    return { status: said.error ? 'failed' : 'ok' }
  }

  async notify(): Promise<Outcome> {
    throw new Error('no notification goes to a modern server')
  }
  async stream(): Promise<Outcome> {
    throw new Error('a modern server has no standalone stream')
  }
  agreed(): void {}
  async end(): Promise<void> {
    this.ends++
  }
}

export const permitOf = (signal: AbortSignal = new AbortController().signal) => ({ id: 'permit', signal }) as unknown as Permit

export interface WorldOptions {
  readonly script?: Script
  /** What the client answers when it is asked: a result, an object with `error`, or never. */
  readonly answers?: (method: string, params: Json, id: unknown) => Json | Promise<Json>
  readonly limits?: Partial<McpLimits>
  readonly clock?: Clock & { advance(ms: number): void }
  readonly told?: (message: UpstreamMessage) => boolean
  /** Refuses an errand. */
  readonly refuse?: (message: Request | Notification) => void
  readonly open?: (asker: Asker, ended: (why: ChaperoneError) => void) => Upstream
}

/** The translator between a legacy client and a modern server, both of them played. */
export function world(options: WorldOptions = {}) {
  const clock = options.clock ?? manualClock(1_000_000)
  const limits: McpLimits = { ...MCP_LIMITS, ...options.limits }
  const script: Script = options.script ?? (() => ({ resultType: 'complete' }))
  const server = new ScriptedServer((asked) => (asked.body.method === 'server/discover' ? DISCOVERED : script(asked)))
  const logs: { what: string; facts: Json }[] = []
  const errands: Json[] = []
  const asks: Json[] = []
  const withdrawn: Json[] = []
  let ended: ChaperoneError | undefined
  const asker: Asker = {
    answered: (_, text) => text,
    required: () => {
      throw new Error('a translated question is judged when it is asked')
    },
    may: async () => () => {},
    told(message) {
      if (message.method === 'notifications/cancelled') withdrawn.push(JSON.parse(message.text))
      return options.told?.(message) ?? true
    },
    async asked(message, via) {
      const asked = JSON.parse(message.text)
      asks.push(asked)
      via?.open()
      await via?.write(sseEvent(message.text))
      const said = await options.answers?.(asked.method, asked.params, asked.id)
      if (said instanceof ChaperoneError) return JSON.stringify(replyToServer(asked.id, said))
      const text = JSON.stringify({ jsonrpc: '2.0', id: asked.id, ...(said?.error ? { error: said.error } : { result: said }) })
      return text
    },
  }
  const upstream = legacyOverModern({
    name: 'scripted',
    clock,
    limits,
    asker,
    open: options.open ?? (() => server),
    async errand(message, send) {
      errands.push(JSON.parse(message.text))
      options.refuse?.(message)
      return send(permitOf())
    },
    log: (what, facts) => logs.push({ what, facts }),
    ended(why) {
      ended = why
    },
  })

  let nextId = 1
  /** Sends a request as the gateway would, and turns a rejection into the answer as the gateway would. */
  const request = (
    method: string,
    params?: unknown,
    more: { id?: unknown; text?: string; answer?: TestAnswer; permit?: Permit; headers?: ClientHeaders } = {},
  ) => {
    const answer = more.answer ?? new TestAnswer()
    const text = more.text ?? JSON.stringify({ jsonrpc: '2.0', id: more.id ?? nextId++, method, ...(params === undefined ? {} : { params }) })
    const message = readMessages(Buffer.from(text), limits) as Request
    const done = upstream.request(more.permit ?? permitOf(), message, answer, more.headers ?? {}).catch((error: unknown): Outcome => {
      const tool = message.params.name
      const asked = { server: 'scripted', id: message.id, method, ...(typeof tool === 'string' ? { tool } : {}) }
      const { status, message: reply } = replyTo(toChaperoneError(error), asked)
      finish(answer, status, JSON.stringify(reply))
      return { status: 'unknown', facts: { error: toChaperoneError(error).message } }
    })
    return Object.assign(done, { answer, response: done.then(() => answer.response as Json) })
  }
  const notify = (method: string, params?: unknown) =>
    upstream.notify(
      permitOf(),
      readMessages(Buffer.from(JSON.stringify({ jsonrpc: '2.0', method, ...(params === undefined ? {} : { params }) })), limits) as Notification,
      {},
    )
  const open = (capabilities: Json = ALL, protocolVersion = '2025-11-25') =>
    request('initialize', { protocolVersion, capabilities, clientInfo: { name: 'test', version: '1' } }).response
  const stream = (permit = permitOf()) => {
    const answer = new TestAnswer()
    const done = upstream.stream(permit, answer, {}).catch((error: unknown) => toChaperoneError(error))
    return Object.assign(answer, { done })
  }

  return { upstream, server, clock, limits, logs, errands, asks, withdrawn, request, notify, open, stream, ended: () => ended }
}

/** Everything that a client can be asked. */
export const ALL = { roots: { listChanged: true }, sampling: { tools: {} }, elicitation: { form: {}, url: {} } }

/** Lets everything happen that can without the clock. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve))
}

export const inputRequired = (inputRequests: Json, requestState?: string) => ({
  resultType: 'input_required',
  ...(inputRequests ? { inputRequests } : {}),
  ...(requestState === undefined ? {} : { requestState }),
})

export const textAt = (text: string, ...path: string[]): string | undefined => {
  const span = spanAt(text, path)
  return span && text.slice(span.start, span.end)
}
