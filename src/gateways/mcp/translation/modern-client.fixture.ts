import assert from 'node:assert/strict'
import type { Outcome, Permit } from '../../../access/types.ts'
import { manualClock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import { MCP_LIMITS, type McpLimits } from '../limits.ts'
import { sseReader } from '../text/sse.ts'
import type { Asker, Upstream } from '../types.ts'
import { type Notification, type Request, readMessages, readUpstream, type UpstreamMessage } from '../wire.ts'
import { type ModernOverLegacy, modernOverLegacy } from './modern-over-legacy.ts'

// biome-ignore lint/suspicious/noExplicitAny: what a test looks into is not worth a type
export type Json = any

export const ENVELOPE = 'io.modelcontextprotocol/'

/** What a client reads: every message in order. Anything written after the end is a failure of its own. */
export class Paper implements Answer {
  began: Answer['began'] = 'no'
  gone = false
  streams = true
  status = 0
  ended = false
  readonly messages: Json[] = []
  readonly #events = sseReader(1 << 20)
  readonly #watchers: (() => void)[] = []

  get notes(): Json[] {
    return this.messages.filter((message) => 'method' in message)
  }
  get answers(): Json[] {
    return this.messages.filter((message) => !('method' in message))
  }
  get answer(): Json {
    assert.equal(this.answers.length, 1, `answers: ${JSON.stringify(this.messages)}`)
    return this.answers[0]
  }
  leave(): void {
    this.gone = true
    for (const see of this.#watchers) see()
  }
  whenGone(see: () => void): void {
    if (this.gone) see()
    else this.#watchers.push(see)
  }
  send(status: number, body?: string | Buffer): void {
    assert.equal(this.began, 'no')
    this.began = 'body'
    this.status = status
    this.ended = true
    if (body !== undefined) this.messages.push(JSON.parse(body.toString()))
  }
  begin(): void {
    assert.fail('a translated answer is whole')
  }
  open(): void {
    assert.equal(this.ended, false, 'opened after the end')
    if (this.began !== 'no') return
    this.began = 'stream'
    this.status = 200
  }
  async write(chunk: Buffer | string): Promise<void> {
    assert.equal(this.began, 'stream')
    assert.equal(this.ended, false, `written after the end: ${chunk}`)
    for (const event of this.#events.push(Buffer.from(chunk))) if (event.data !== undefined) this.messages.push(JSON.parse(event.data))
  }
  end(): void {
    assert.equal(this.ended, false, 'ended twice')
    this.ended = true
  }
  break(): void {
    this.ended = true
  }
}

/** What a scripted server gets: its handler answers by `reply`, which may come later. */
export interface Got {
  readonly message: Json
  readonly text: string
  readonly headers: Readonly<Record<string, string>>
  /** Whole messages of the server on this request's stream. */
  say(message: Json | string): void
  /** Asks the client on this request's stream; resolves with the answer that the server gets. */
  ask(method: string, params?: Json): Promise<Json>
  result(result: Json): void
  error(code: number, message: string, data?: Json): void
  /** Aborts when the request is cancelled. */
  readonly signal: AbortSignal
}

export const GREETING = {
  protocolVersion: '2025-11-25',
  capabilities: {
    tools: { listChanged: true },
    prompts: { listChanged: true },
    resources: { subscribe: true, listChanged: true },
    logging: {},
    completions: {},
    tasks: { list: {} },
  },
  serverInfo: { name: 'old', version: '9', extra: 12345678901234567890n },
  instructions: 'be kind',
}

/** Like JSON.stringify, for numbers that a double does not keep too. */
export const textOf = (value: Json): string =>
  JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? `\u0001${item}\u0001` : item)).replace(/"\\u0001(\d+)\\u0001"/g, '$1')

export interface Stage {
  readonly clock: ReturnType<typeof manualClock>
  readonly lane: ModernOverLegacy
  /** everything the servers got, in order */
  readonly got: { session: number; message: Json; headers: Readonly<Record<string, string>> }[]
  /** what was sent by permits of its own */
  readonly errands: string[]
  readonly asked: { method: string; params: Json; outcome?: Outcome }[]
  readonly logs: string[]
  readonly cancelled: number[]
  readonly over: ChaperoneError[]
  /** Sessions of the server that are open, with what it can say outside of requests. */
  readonly open: {
    say(message: Json): void
    ask(method: string, params?: Json): Promise<Json>
    fall(why: ChaperoneError): void
    readonly streams: number
  }[]
  /** The judgement of the next question. */
  judge: (method: string, params: Json) => void | Promise<void>
  request(method: string, params?: Json, more?: { id?: string | number; capabilities?: Json; meta?: Json; text?: string }): Asked
  notify(method: string, params?: Json): Promise<Outcome>
  /** Lets everything that can happen now happen. */
  settle(): Promise<void>
}

export interface Asked {
  readonly paper: Paper
  readonly outcome: Promise<Outcome>
  readonly cut: (why: ChaperoneError) => void
  /** what `outcome` became: undefined while it is open */
  readonly end: () => Outcome | ChaperoneError | undefined
}

export interface Script {
  readonly greeting?: Json
  readonly on?: (got: Got, session: number) => void
  readonly limits?: Partial<McpLimits>
  /** HTTP status when there is no standalone stream */
  readonly noStream?: number
  readonly greet?: (got: Got) => void
}

export const FULL = { sampling: { tools: {} }, elicitation: { form: {}, url: {} }, roots: { listChanged: true } }

export function permit(signal = new AbortController().signal): Permit {
  return { id: 'per', signal } as unknown as Permit
}

/** A lane to a scripted legacy server, whose way there is a fake; time stands still until a test moves it. */
export function stage(script: Script = {}): Stage {
  const clock = manualClock(1_000_000)
  const limits = { ...MCP_LIMITS, ...script.limits }
  const logs: string[] = []
  const stageOf = { judge: (_method: string, _params: Json): void | Promise<void> => {} }
  const asked: Stage['asked'] = []
  const asker: Asker = {
    answered: (_, text) => text,
    required: (_, text) => text,
    told: () => true,
    asked: async () => assert.fail('the lane answers by itself'),
    async may(method, params) {
      await stageOf.judge(method, params)
      const entry: Stage['asked'][number] = { method, params }
      asked.push(entry)
      return (outcome) => {
        assert.equal(entry.outcome, undefined, 'settled twice')
        entry.outcome = outcome
      }
    },
  }
  const got: Stage['got'] = []
  const errands: string[] = []
  const cancelled: number[] = []
  const open: Stage['open'] = []
  const over: ChaperoneError[] = []
  let sessions = 0

  const openServer = (inner: Asker, ended: (why: ChaperoneError) => void): Upstream => {
    const session = ++sessions
    let nextId = 1
    const streams = new Set<Answer>()
    const flights = new Set<(why: ChaperoneError) => void>()
    const put = async (answer: Answer, text: string) => {
      answer.open()
      await answer.write(`data: ${text}\n\n`)
    }
    const ask = async (answer: Answer | undefined, method: string, params?: Json) => {
      const text = textOf({ jsonrpc: '2.0', id: nextId++, method, ...(params === undefined ? {} : { params }) })
      return JSON.parse(await inner.asked(readUpstream(text), answer)) as Json
    }
    const self = {
      say: (message: Json) => {
        for (const answer of streams) void put(answer, textOf(message))
      },
      ask: (method: string, params?: Json) => ask([...streams][0], method, params),
      fall: (why: ChaperoneError) => {
        ended(why)
        for (const end of [...flights]) end(why)
        open.splice(open.indexOf(self), 1)
      },
      get streams() {
        return streams.size
      },
    }
    open.push(self)
    const until = (permit: Permit, onAbort?: () => void) => {
      const controller = new AbortController()
      const { promise, resolve, reject } = Promise.withResolvers<Outcome>()
      const abort = (why: ChaperoneError) => {
        onAbort?.()
        controller.abort(why)
        reject(why)
      }
      const cut = () => abort(permit.signal.reason)
      permit.signal.addEventListener('abort', cut)
      flights.add(reject)
      promise
        .finally(() => {
          flights.delete(reject)
          permit.signal.removeEventListener('abort', cut)
        })
        .catch(() => {})
      if (permit.signal.aborted) cut()
      return { promise, resolve, signal: controller.signal }
    }
    return {
      request(permit, message, answer, headers) {
        const value = JSON.parse(message.text) as Json
        got.push({ session, message: value, headers })
        const { promise, resolve, signal } = until(permit, () => cancelled.push(message.id as number))
        let answered = false
        const finish = (body: string) => {
          if (signal.aborted) return
          assert.equal(answered, false, 'a script that answers twice')
          answered = true
          if (answer.began === 'stream') void answer.write(`data: ${body}\n\n`).then(() => answer.end())
          else answer.send(200, body)
          resolve({ status: 'ok' })
        }
        const on: Got = {
          message: value,
          text: message.text,
          headers,
          signal,
          say: (said) => void put(answer, typeof said === 'string' ? said : textOf(said)),
          ask: (method, params) => ask(answer, method, params),
          result: (result) => finish(typeof result === 'string' ? result : textOf({ jsonrpc: '2.0', id: value.id, result })),
          error: (code, text, data) =>
            finish(textOf({ jsonrpc: '2.0', id: value.id, error: { code, message: text, ...(data === undefined ? {} : { data }) } })),
        }
        if (value.method === 'initialize') (script.greet ?? ((one) => one.result(script.greeting ?? GREETING)))(on)
        else if (value.method === 'logging/setLevel' || value.method === 'resources/subscribe' || value.method === 'resources/unsubscribe')
          on.result({})
        else (script.on ?? ((one) => one.result({ content: [] })))(on, session)
        return promise
      },
      async notify(_, message, headers) {
        got.push({ session, message: JSON.parse(message.text), headers })
        return { status: 'ok' }
      },
      async stream(permit, answer) {
        if (script.noStream !== undefined) {
          answer.send(script.noStream)
          return { status: 'failed' }
        }
        const { promise } = until(permit)
        answer.open()
        streams.add(answer)
        return promise.finally(() => streams.delete(answer))
      },
      agreed() {},
      async end(why) {
        if (open.includes(self)) open.splice(open.indexOf(self), 1)
        for (const end of [...flights]) end(why)
      },
    }
  }

  const lane = modernOverLegacy({
    name: 'old',
    open: openServer,
    asker,
    async errand(message, send) {
      errands.push(message.method)
      return send(permit())
    },
    clock,
    limits,
    log: (what, facts) => logs.push(`${what} ${JSON.stringify(facts)}`),
    ended: (why) => over.push(why),
  })
  let nextId = 1

  return {
    clock,
    lane,
    got,
    errands,
    asked,
    logs,
    cancelled,
    over,
    open,
    get judge() {
      return stageOf.judge
    },
    set judge(judge) {
      stageOf.judge = judge
    },
    request(method, params = {}, more = {}) {
      const meta = {
        [`${ENVELOPE}protocolVersion`]: '2026-07-28',
        [`${ENVELOPE}clientCapabilities`]: more.capabilities ?? FULL,
        [`${ENVELOPE}clientInfo`]: { name: 'new', version: '1' },
        ...more.meta,
      }
      const text = more.text ?? textOf({ jsonrpc: '2.0', id: more.id ?? nextId++, method, params: { ...params, _meta: meta } })
      const message = readMessages(Buffer.from(text), limits) as Request
      const paper = new Paper()
      const controller = new AbortController()
      let end: Outcome | ChaperoneError | undefined
      const outcome = lane.request(permit(controller.signal), message, paper, {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': '2026-07-28',
        'mcp-method': method,
        'mcp-name': 'tool',
        traceparent: '00-1-2-03',
      })
      outcome.then(
        (value) => {
          end = value
        },
        (error) => {
          end = error
        },
      )
      return { paper, outcome, cut: (why) => controller.abort(why), end: () => end }
    },
    notify(method, params = {}) {
      const message = readMessages(Buffer.from(JSON.stringify({ jsonrpc: '2.0', method, params })), limits) as Notification
      return lane.notify(permit(), message, {})
    },
    settle: () => new Promise((resolve) => setImmediate(() => setImmediate(resolve))),
  }
}

/** The answers that a good client gives to `input_required`. */
export function goodAnswers(inputRequests: Json): Json {
  const one = ({ method, params }: Json): Json => {
    if (method === 'roots/list') return { roots: [{ uri: 'file:///here' }] }
    if (method === 'sampling/createMessage') return { role: 'assistant', model: 'm', content: { type: 'text', text: 'sampled' } }
    return params.mode === 'url' ? { action: 'accept' } : { action: 'accept', content: { name: 'Ada', big: 12345678901234567890n } }
  }
  return Object.fromEntries(Object.entries(inputRequests).map(([key, value]) => [key, one(value)]))
}

export const locked = () => new ChaperoneError('locked', 'A lock stops this.')
export type { UpstreamMessage }
