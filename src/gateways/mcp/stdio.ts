import type { Outcome, Permit } from '../../access/types.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import { type Answer, finish } from './answer.ts'
import type { Child } from './child.ts'
import { META_SUBSCRIPTION } from './era.ts'
import { type Edit, edited, onOneLine, spanAt } from './json-text.ts'
import type { McpLimits } from './limits.ts'
import { sseEvent } from './sse.ts'
import { type Asker, outcomeOf, type Upstream } from './types.ts'
import {
  isRequestId,
  METHOD_NOT_FOUND,
  memberOf,
  type Notification,
  ProtocolError,
  type Request,
  readUpstream,
  type UpstreamMessage,
} from './wire.ts'

export interface StdioParts {
  readonly name: string
  readonly modern: boolean
  /** Starts the process; called again when it has ended and somebody asks (modern only). */
  readonly start: (line: (text: string) => void, ended: (why: ChaperoneError) => void) => Promise<Child>
  /** What is known of the server's era: a verdict that somebody measured. */
  readonly era: { isLegacy(): boolean; sawLegacy(): void }
  readonly asker: Asker
  readonly clock: Clock
  readonly limits: Pick<McpLimits, 'startMs' | 'silenceMs' | 'drainMs' | 'probeMs' | 'keepAliveMs' | 'inFlight' | 'streams' | 'queueBytes'>
  readonly log: (what: string, facts: Record<string, unknown>) => void
  /** The process has ended; nothing is in flight any more. */
  readonly ended: (why: ChaperoneError) => void
}

/** A request that the child has and has not answered. */
interface Pending {
  readonly message: Request
  /** the client's own id and progress token, as it wrote them */
  readonly idText: string
  readonly tokenText: string | undefined
  readonly answer: Answer
  readonly settle: (outcome: Outcome | ChaperoneError) => void
  heard: number
}

/** How many lines that are no JSON-RPC a server may print before it is taken for broken. */
const MAX_NOISE = 100

/**
 * One child for one client: requests get ids of our own, which are never used twice, so an answer can only ever go to the
 * request it belongs to; the rest of each message goes through as it was written.
 */
export class StdioUpstream implements Upstream {
  readonly #parts: StdioParts
  #child: Promise<Child> | undefined
  #running: Child | undefined
  #answered = false
  #nextId = 1
  #noise = 0
  #closed: ChaperoneError | undefined
  /** the process ended by itself */
  #fell = false
  readonly #pending = new Map<number, Pending>()
  readonly #streams: Answer[] = []
  /** what a legacy server said while nobody listened */
  #unheard: string[] = []
  #unheardSize = 0

  constructor(parts: StdioParts) {
    this.#parts = parts
  }

  /** One start at a time, however many ask (peers R83). */
  #start(): Promise<Child> {
    if (this.#closed) return Promise.reject(this.#closed)
    this.#child ??= this.#parts
      .start(
        (text) => this.#line(text),
        (why) => this.#ended(why),
      )
      .then((child) => {
        this.#running = child
        return child
      })
      .catch((error: unknown) => {
        this.#child = undefined
        throw error
      })
    return this.#child
  }

  async request(permit: Permit, message: Request, answer: Answer): Promise<Outcome> {
    const { limits, clock, modern } = this.#parts
    if (this.#pending.size >= limits.inFlight) throw new ChaperoneError('too_many', `More than ${limits.inFlight} requests wait for this MCP server.`)
    if (!modern && [...this.#pending.values()].some((other) => other.message.id === message.id)) {
      throw new ChaperoneError('malformed', 'The request id is in use by a request that is not answered yet.')
    }
    if (modern && this.#parts.era.isLegacy()) throw onlyLegacy(this.#parts.name)
    const child = await this.#start()
    if (permit.signal.aborted) throw permit.signal.reason
    const id = this.#nextId++
    const { line, idText, tokenText } = rewritten(message, id)

    const { promise, resolve } = Promise.withResolvers<Outcome | ChaperoneError>()
    const pending: Pending = { message, idText, tokenText, answer, settle: resolve, heard: clock.now() }
    this.#pending.set(id, pending)
    const cancel = (why: ChaperoneError) => {
      if (!this.#pending.delete(id)) return
      if (message.method !== 'initialize') this.#tell(child, cancellation(id, why.code))
      resolve(why)
    }
    const cut = () => cancel(permit.signal.reason as ChaperoneError)
    permit.signal.addEventListener('abort', cut)
    const disarm = this.#watch(pending, cancel)
    answer.whenGone(() => {
      const left = new ChaperoneError('upstream_timeout', 'The client went away before the answer came.')
      // Closing the stream is cancellation in the modern era; in the legacy one the work goes on, for a while.
      if (modern) cancel(left)
      else if (this.#pending.has(id)) clock.at(clock.now() + limits.drainMs, () => cancel(left))
    })
    try {
      child.send(permit, line)
    } catch (error) {
      this.#pending.delete(id)
      disarm()
      permit.signal.removeEventListener('abort', cut)
      throw error
    }
    const outcome = await promise
    disarm()
    permit.signal.removeEventListener('abort', cut)
    if (!(outcome instanceof ChaperoneError)) return outcome
    // Some servers end, and some are silent, at a first message that is no `initialize`.
    if (modern && message.method === 'server/discover' && !this.#answered && (this.#fell || outcome.code === 'upstream_timeout') && !answer.gone)
      throw this.#legacy()
    throw outcome
  }

  /** The server does not speak the modern era: its client should open a session, and the process that was asked is not needed. */
  #legacy(): ProtocolError {
    const { era, ended, name } = this.#parts
    era.sawLegacy()
    const why = onlyLegacy(name)
    ended(why)
    return why
  }

  /** Ends a request whose server says nothing; opens a stream for one that takes long, so that nothing in between closes it. */
  #watch(pending: Pending, cancel: (why: ChaperoneError) => void): () => void {
    const { limits, clock, name, modern } = this.#parts
    const { method } = pending.message
    const patience = () => (this.#answered ? limits.silenceMs : modern && method === 'server/discover' ? limits.probeMs : limits.startMs)
    let disarm = () => {}
    const arm = (at: number, then: () => void) => {
      disarm = clock.at(at, then)
    }
    const silence = () => {
      const end = pending.heard + patience()
      if (clock.now() < end) arm(end, silence)
      // A subscription is silent while nothing changes.
      else if (method === 'subscriptions/listen') arm(clock.now() + limits.silenceMs, silence)
      else cancel(new ChaperoneError('upstream_timeout', `The MCP server ${name} did not answer for ${patience() / 1000} s.`))
    }
    arm(pending.heard + Math.min(limits.keepAliveMs, patience()), () => {
      if (pending.answer.streams && method !== 'initialize' && method !== 'server/discover') pending.answer.open()
      silence()
    })
    return () => disarm()
  }

  async notify(permit: Permit, message: Notification): Promise<Outcome> {
    const child = await this.#start()
    const line = message.method === 'notifications/cancelled' ? this.#cancelled(message) : onOneLine(message.text)
    // A cancellation of what is already answered has nobody to go to.
    if (line === undefined) return { status: 'ok', facts: { sent: false } }
    child.send(permit, line)
    return { status: 'ok' }
  }

  #cancelled(message: Notification): string | undefined {
    const span = spanAt(message.text, ['params', 'requestId'])
    const id = message.params.requestId
    if (!span || !isRequestId(id)) return undefined
    for (const [ours, pending] of this.#pending) {
      if (pending.message.id === id) return onOneLine(edited(message.text, [{ ...span, text: String(ours) }]))
    }
    return undefined
  }

  async stream(permit: Permit, answer: Answer): Promise<Outcome> {
    const { limits } = this.#parts
    if (this.#streams.length >= limits.streams) throw new ChaperoneError('too_many', 'This MCP session has too many open streams.')
    const { promise, resolve, reject } = Promise.withResolvers<Outcome>()
    answer.open()
    this.#streams.push(answer)
    for (const line of this.#unheard.splice(0)) void answer.write(sseEvent(line))
    this.#unheardSize = 0
    const cut = () => reject(permit.signal.reason)
    permit.signal.addEventListener('abort', cut)
    answer.whenGone(() => resolve({ status: 'ok' }))
    this.#onEnd.add(reject)
    try {
      return await promise
    } finally {
      this.#onEnd.delete(reject)
      this.#streams.splice(this.#streams.indexOf(answer), 1)
      permit.signal.removeEventListener('abort', cut)
    }
  }
  readonly #onEnd = new Set<(why: ChaperoneError) => void>()

  agreed(): void {}

  async end(why: ChaperoneError): Promise<void> {
    this.#closed ??= why
    this.#abandon(why)
    // A start that is under way is waited for: else its child would outlive us.
    const child = await this.#child?.catch(() => undefined)
    await child?.stop(why)
  }

  /** Whoever waits is told at once, not when the process is gone (peers R88). */
  #abandon(why: ChaperoneError): void {
    const waiting = [...this.#pending.values()]
    this.#pending.clear()
    for (const pending of waiting) pending.settle(why)
    for (const end of [...this.#onEnd]) end(why)
  }

  #ended(why: ChaperoneError): void {
    this.#fell = this.#closed === undefined && !this.#answered
    this.#child = undefined
    this.#running = undefined
    this.#answered = false
    this.#abandon(why)
    this.#parts.ended(why)
  }

  #tell(child: Child, line: string): void {
    try {
      child.answer(line)
    } catch (error) {
      this.#parts.log('mcp.child.write', { server: this.#parts.name, error: String(error) })
    }
  }

  #line(text: string): void {
    let message: UpstreamMessage
    try {
      message = readUpstream(text)
    } catch (error) {
      this.#unreadable(text, error)
      return
    }
    if (message.kind === 'response') this.#response(message)
    else if (message.kind === 'request') void this.#request(message)
    else this.#notification(message)
  }

  /** Servers print banners to stdout: noise, within a limit. What may be an answer to one of ours ends every request it may be for. */
  #unreadable(text: string, error: unknown): void {
    const { name, log } = this.#parts
    log('mcp.child.noise', { server: name, bytes: text.length, error: String(error) })
    let meant = false
    for (const [, id] of text.matchAll(/"id"\s*:\s*(\d{1,15})/gi)) {
      const pending = this.#pending.get(Number(id))
      if (!pending) continue
      meant = true
      this.#pending.delete(Number(id))
      pending.settle(
        new ChaperoneError('upstream_unavailable', `An answer of the MCP server ${name} could be read in two ways, so it is not passed on.`),
      )
    }
    if (!meant && ++this.#noise > MAX_NOISE) {
      void this.#running?.stop(new ChaperoneError('upstream_unavailable', `The MCP server ${name} writes to stdout what is not MCP.`))
    }
  }

  #response(message: UpstreamMessage): void {
    const id = message.id
    const pending = typeof id === 'number' ? this.#pending.get(id) : undefined
    if (!pending) {
      this.#parts.log('mcp.child.stray', { server: this.#parts.name, id })
      return
    }
    this.#pending.delete(id as number)
    this.#answered = true
    if (
      this.#parts.modern &&
      pending.message.method === 'server/discover' &&
      !MODERN_CODES.has(errorCode(message) ?? 0) &&
      message.members.has('error')
    ) {
      pending.settle(this.#legacy())
      return
    }
    try {
      const edits: Edit[] = [{ ...message.members.get('id')!, text: pending.idText }, ...subscriptionEdits(message.text, ['result'], pending.idText)]
      const text = this.#parts.asker.answered(pending.message, onOneLine(edited(message.text, edits)))
      finish(pending.answer, this.#parts.modern ? modernStatus(message) : 200, text)
      pending.settle(outcomeOf(text))
    } catch (error) {
      pending.settle(error instanceof ChaperoneError ? error : new ChaperoneError('internal', 'The answer could not be passed on.', { cause: error }))
    }
  }

  async #request(message: UpstreamMessage): Promise<void> {
    const child = this.#running
    const answer = await this.#parts.asker.asked(message)
    if (child) this.#tell(child, answer)
  }

  #notification(message: UpstreamMessage): void {
    const pending = this.#owner(message)
    if (pending) {
      pending.heard = this.#parts.clock.now()
      const edits = [
        ...subscriptionEdits(message.text, ['params'], pending.idText),
        ...(message.method === 'notifications/progress' && pending.tokenText !== undefined
          ? replaceAt(message.text, ['params', 'progressToken'], pending.tokenText)
          : []),
        ...(message.method === 'notifications/cancelled' ? replaceAt(message.text, ['params', 'requestId'], pending.idText) : []),
      ]
      this.#deliver(pending.answer, onOneLine(edited(message.text, edits)))
      return
    }
    // Progress of what nobody asked for, or of what is answered already.
    if (message.method === 'notifications/progress' || message.method === 'notifications/cancelled') return
    if (!this.#parts.asker.told(message)) return
    const text = onOneLine(message.text)
    const stream = this.#streams.at(-1) ?? [...this.#pending.values()].findLast((other) => other.answer.streams && !other.answer.gone)?.answer
    if (stream && !stream.gone) this.#deliver(stream, text)
    else this.#keep(text)
  }

  /** The request that a notification belongs to: by progress token, subscription, or cancelled id. */
  #owner(message: UpstreamMessage): Pending | undefined {
    const path =
      message.method === 'notifications/progress'
        ? ['params', 'progressToken']
        : message.method === 'notifications/cancelled'
          ? ['params', 'requestId']
          : ['params', '_meta', META_SUBSCRIPTION]
    let id: unknown
    try {
      id = memberOf(message, path)
    } catch {
      // Two readings of who it is for: it is for nobody.
      return undefined
    }
    return typeof id === 'number' ? this.#pending.get(id) : undefined
  }

  #deliver(answer: Answer, text: string): void {
    if (!answer.streams) return
    answer.open()
    // The child is not read more slowly for one slow client: what it cannot take is bounded by the socket and the silence limit.
    void answer.write(sseEvent(text))
  }

  #keep(text: string): void {
    if (this.#parts.modern) return
    this.#unheard.push(text)
    this.#unheardSize += text.length
    while (this.#unheard.length > 64 || this.#unheardSize > 1024 * 1024) {
      this.#unheardSize -= this.#unheard.shift()!.length
      this.#parts.log('mcp.child.unheard', { server: this.#parts.name })
    }
  }
}

function rewritten(message: Request, id: number): { line: string; idText: string; tokenText: string | undefined } {
  const { text } = message
  const idSpan = spanAt(text, ['id'])!
  const token = spanAt(text, ['params', '_meta', 'progressToken'])
  const edits: Edit[] = [{ ...idSpan, text: String(id) }, ...(token ? [{ ...token, text: String(id) }] : [])]
  return {
    line: onOneLine(edited(text, edits)),
    idText: text.slice(idSpan.start, idSpan.end),
    tokenText: token && text.slice(token.start, token.end),
  }
}

function replaceAt(text: string, path: readonly string[], by: string): Edit[] {
  const span = spanAt(text, path)
  return span ? [{ ...span, text: by }] : []
}

/** The modern era tags what belongs to a subscription with the id of its request, which we changed. */
function subscriptionEdits(text: string, path: readonly string[], idText: string): Edit[] {
  return text.includes(META_SUBSCRIPTION) ? replaceAt(text, [...path, '_meta', META_SUBSCRIPTION], idText) : []
}

const cancellation = (id: number, reason: string) =>
  JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id, reason } })

/** Error codes that only a server of the modern era gives. */
const MODERN_CODES = new Set([-32020, -32021, -32022])

const onlyLegacy = (name: string) =>
  new ProtocolError(METHOD_NOT_FOUND, `The MCP server ${name} speaks only versions with a handshake: open a session with \`initialize\`.`, {
    http: 404,
    code: 'unsupported',
  })

function errorCode(message: UpstreamMessage): number | undefined {
  const code = message.members.has('error') ? memberOf(message, ['error', 'code']) : undefined
  return typeof code === 'number' ? code : undefined
}

/** The HTTP statuses that the modern era ties to error codes. */
function modernStatus(message: UpstreamMessage): number {
  const code = errorCode(message)
  if (code === -32601) return 404
  return code !== undefined && MODERN_CODES.has(code) ? 400 : 200
}
