import type { Outcome, Permit } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import { type Answer, finish } from '../answer.ts'
import type { Era } from '../era.ts'
import type { McpLimits } from '../limits.ts'
import { onOneLine } from '../text/json-text.ts'
import { outcomeOf } from '../types.ts'
import { type Notification, type Request, readUpstream, type UpstreamMessage } from '../wire.ts'
import type { Child, Ended } from './child.ts'
import { answerFor, Correlator, cancellation, type Waiting } from './correlate.ts'
import { deliver, EndedAtOnce, type Flight, type Member, modernStatus, NeverSpoke } from './flight.ts'
import { Handshake } from './handshake.ts'
import { Questions } from './questions.ts'
import { SharedState } from './shared-state.ts'
import { watchSilence } from './silence.ts'

interface HubParts {
  readonly name: string
  readonly era: Era
  /** Who may share it. */
  readonly share: 'session' | 'identity' | 'everybody'
  /** Starts the process. `stopping`: it will end, and answers nobody any more. */
  readonly start: (on: {
    line(text: string): void
    stopping(why: ChaperoneError): void
    ended(why: ChaperoneError, facts: Ended): void
  }) => Promise<Child>
  readonly clock: Clock
  readonly limits: Pick<McpLimits, 'startMs' | 'silenceMs' | 'drainMs' | 'probeMs' | 'keepAliveMs' | 'inFlight' | 'tellMs'>
  readonly log: (what: string, facts: Record<string, unknown>) => void
  /** The process has ended or could not be started; nobody else may come. */
  readonly over: (why: ChaperoneError) => void
  /** A request is over. */
  readonly quiet: () => void
  /** A session has left. Resolves when what goes with it is gone. */
  readonly left: (why: ChaperoneError) => Promise<void>
}

/** How many lines that are no JSON-RPC a server may print before it is taken for broken. */
const MAX_NOISE = 100

/** What is under way for so long as somebody listens; no work that keeps a process from being idle. */
const LISTEN = 'subscriptions/listen'

/**
 * One process of a stdio server and the sessions that share it: whose a message of the server is. Lives as long as the
 * process. What cannot be said for sure to be for one session reaches none but where all may see it (peers R55).
 */
export class Hub {
  readonly #parts: HubParts
  readonly #members = new Set<Member>()
  readonly #flights = new Correlator<Flight>()
  readonly #shared: SharedState
  #child: Promise<Child> | undefined
  #running: Child | undefined
  #over: ChaperoneError | undefined
  #answered = false
  #asked = false
  #noise = 0
  readonly #handshake = new Handshake<Flight>()
  #initialized = false
  readonly #questions: Questions

  constructor(parts: HubParts) {
    this.#parts = parts
    this.#shared = new SharedState(parts.share)
    this.#questions = new Questions(parts)
  }

  /** Why nobody can be served here any more. */
  get over(): ChaperoneError | undefined {
    return this.#over
  }

  get members(): number {
    return this.#members.size
  }

  /** Something is under way; an open subscription is not. */
  get busy(): boolean {
    return this.#flights.all().some((flight) => flight.message.method !== LISTEN)
  }

  /** It never answered, and was asked for nothing but its era: to end at that is no crash. */
  get onlyProbed(): boolean {
    return !this.#answered && !this.#asked
  }

  attach(member: Member): void {
    this.#members.add(member)
  }

  /** What the member waits for is cancelled; nothing reaches it from now on. Idempotent. Resolves when a process that ends with it is gone. */
  async detach(member: Member, why: ChaperoneError): Promise<void> {
    if (!this.#members.delete(member)) return this.#over && this.gone()
    for (const flight of this.#flights.all()) if (flight.owner.member === member) flight.owner.stop?.(why)
    for (const text of this.#shared.left(member, () => this.#flights.nextId())) if (this.#members.size > 0) this.#tell(text)
    await this.#parts.left(why)
  }

  /** Resolves when the process that was told to stop, or has ended, is gone with all that it started. */
  async gone(): Promise<void> {
    await (await this.#child?.catch(() => undefined))?.gone
  }

  #mustBelong(member: Member): void {
    if (!this.#members.has(member)) throw member.closed ?? this.#over ?? new ChaperoneError('session_ended', 'The MCP session is over.')
  }

  /** One start at a time, however many ask (peers R83). */
  #start(): Promise<Child> {
    if (this.#over) return Promise.reject(this.#over)
    this.#child ??= this.#parts
      .start({
        line: (text) => this.#line(text),
        stopping: (why) => this.#fail(why),
        ended: (why, facts) => this.#ended(why, facts),
      })
      .then((child) => {
        this.#running = child
        return child
      })
      .catch((error: unknown) => {
        this.#fail(toChaperoneError(error))
        throw error
      })
    return this.#child
  }

  async request(member: Member, permit: Permit, message: Request, answer: Answer): Promise<Outcome> {
    const { limits, clock, era } = this.#parts
    const child = await this.#start()
    if (permit.signal.aborted) throw permit.signal.reason
    this.#mustBelong(member)
    const mine = this.#flights.all().filter((flight) => flight.owner.member === member)
    if (mine.length >= limits.inFlight) throw new ChaperoneError('too_many', `More than ${limits.inFlight} requests wait for this MCP server.`)
    if (era === 'legacy' && mine.some((other) => other.message.id === message.id))
      throw new ChaperoneError('malformed', 'The request id is in use by a request that is not answered yet.')
    this.#asked ||= message.method !== 'server/discover'

    const { promise, resolve } = Promise.withResolvers<Outcome | ChaperoneError>()
    const flight: Flight = { member, permit, answer, settle: resolve, heard: clock.now(), stop: undefined }
    const { waiting, text } = this.#flights.add(message, flight)
    const sent = this.#isAnsweredHere(waiting) ? undefined : onOneLine(text)
    const cancel = (why: ChaperoneError) => {
      if (!this.#flights.giveUp(waiting)) return
      if (message.method !== 'initialize') this.#tell(cancellation(waiting.id, why.code))
      resolve(why)
    }
    flight.stop = cancel
    const cut = () => cancel(permit.signal.reason as ChaperoneError)
    permit.signal.addEventListener('abort', cut)
    const disarm = this.#watch(waiting, cancel)
    answer.whenGone(() => {
      const left = new ChaperoneError('upstream_timeout', 'The client went away before the answer came.')
      // Closing the stream is cancellation in the modern era; in the legacy one the work goes on, for a while.
      if (era === 'modern') cancel(left)
      else if (flight.stop) clock.at(clock.now() + limits.drainMs, () => cancel(left))
    })
    try {
      if (sent !== undefined) this.#send(child, permit, waiting, sent)
      const outcome = await promise
      if (outcome instanceof ChaperoneError) throw outcome
      return outcome
    } finally {
      this.#flights.drop(waiting)
      flight.stop = undefined
      disarm()
      permit.signal.removeEventListener('abort', cut)
      this.#parts.quiet()
    }
  }

  #send(child: Child, permit: Permit, waiting: Waiting<Flight>, text: string): void {
    try {
      child.send(permit, text)
    } catch (error) {
      for (const joined of this.#handshake.failed(waiting)) joined.owner.settle(toChaperoneError(error))
      throw error
    }
  }

  /** What another session's request has settled already is not sent again. */
  #isAnsweredHere(waiting: Waiting<Flight>): boolean {
    const { message, owner } = waiting
    if (this.#parts.era === 'modern') return false
    if (message.method === 'initialize') {
      const begun = this.#handshake.begin(waiting)
      if (typeof begun !== 'string' && this.#flights.drop(waiting)) void this.#complete(waiting, answerFor(begun, waiting.idText), begun)
      return begun !== 'send'
    }
    if (!this.#shared.asked(owner.member, message)) return false
    this.#flights.drop(waiting)
    void this.#complete(waiting, `{"jsonrpc":"2.0","id":${waiting.idText},"result":{}}`)
    return true
  }

  #watch({ message: { method }, owner }: Waiting<Flight>, late: (why: ChaperoneError) => void): () => void {
    const { limits, clock } = this.#parts
    return watchSilence({
      clock,
      heard: () => owner.heard,
      patience: () => (this.#answered ? limits.silenceMs : method === 'server/discover' ? Math.min(limits.probeMs, limits.startMs) : limits.startMs),
      // A subscription is silent while nothing changes; a server that waits for its client is silent because of us.
      excused: () => method === LISTEN || this.#questions.waitsFor(owner.member),
      keepAliveMs: limits.keepAliveMs,
      keepOpen() {
        if (owner.answer.streams && method !== 'initialize' && method !== 'server/discover') owner.answer.open()
      },
      late: (ms) => late(this.#silence(method, ms)),
    })
  }

  /** Silence at a message of another era is nothing to hold against it. */
  #silence(method: string, ms: number): ChaperoneError {
    const silent = `The MCP server ${this.#parts.name} did not answer for ${ms / 1000} s`
    if (this.#answered || method === 'server/discover') return new ChaperoneError('upstream_timeout', `${silent}.`)
    return this.#noise > 0
      ? new NeverSpoke('garbage', 'upstream_timeout', `${silent}, and writes to stdout what is not MCP.`)
      : new NeverSpoke('not_started', 'upstream_timeout', `${silent}.`)
  }

  async notify(member: Member, permit: Permit, message: Notification): Promise<Outcome> {
    const { clock, limits } = this.#parts
    const child = await this.#start()
    const kept: Outcome = { status: 'ok', facts: { sent: false } }
    this.#mustBelong(member)
    if (message.method === 'notifications/cancelled') {
      const found = this.#flights.cancelled(message, ({ owner }) => owner.member === member)
      // A cancellation of what is already answered has nobody to go to, and a handshake cannot be cancelled.
      if (!found || found.waiting.message.method === 'initialize') return kept
      child.send(permit, onOneLine(found.text))
      // Most servers do not answer what was cancelled, and the client does not wait: nor do we.
      const { stop } = found.waiting.owner
      clock.at(clock.now() + limits.tellMs, () => stop?.(new ChaperoneError('upstream_timeout', 'The client has cancelled the request.')))
      return { status: 'ok' }
    }
    if (message.method === 'notifications/initialized') {
      if (this.#initialized) return kept
      this.#initialized = true
    }
    // What else a client tells is about itself alone (its roots, its progress): a server that serves several cannot place it.
    else if (this.#members.size > 1) return kept
    child.send(permit, onOneLine(message.text))
    return { status: 'ok' }
  }

  /** Ends the process. Resolves when all of it is gone; a start that is under way is waited for, else its child would outlive us. */
  async stop(reason: Ended['reason'], why: ChaperoneError): Promise<void> {
    this.#fail(why)
    const child = await this.#child?.catch(() => undefined)
    await child?.stop(why, reason)
  }

  #ended(why: ChaperoneError, facts: Ended): void {
    const { message, detail, fix } = why
    const more = { ...(detail === undefined ? {} : { detail }), ...(fix === undefined ? {} : { fix }) }
    this.#fail(this.#answered || facts.stopped ? why : new EndedAtOnce('upstream_unavailable', message, more))
  }

  /** Whoever waits is told at once, not when the process is gone (peers R88). */
  #fail(why: ChaperoneError): void {
    if (this.#over) return
    this.#over = why
    for (const { owner } of this.#flights.clear()) owner.settle(why)
    this.#parts.over(why)
    const lost = [...this.#members]
    this.#members.clear()
    if (this.#answered) for (const member of lost) member.lost(why)
  }

  #tell(line: string): void {
    try {
      this.#running?.answer(line)
    } catch (error) {
      this.#parts.log('mcp.child.write', { server: this.#parts.name, error: String(error) })
    }
  }

  #line(text: string): void {
    if (this.#over) return
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
    const meant = this.#flights.meant(text)
    for (const waiting of meant) {
      this.#flights.drop(waiting)
      const why = `An answer of the MCP server ${name} could be read in two ways, so it is not passed on.`
      waiting.owner.settle(new ChaperoneError('upstream_unavailable', why))
    }
    if (meant.length === 0 && ++this.#noise > MAX_NOISE) {
      void this.stop('garbage', new NeverSpoke('garbage', 'upstream_unavailable', `The MCP server ${name} writes to stdout what is not MCP.`))
    }
  }

  #response(message: UpstreamMessage): void {
    const joined = this.#handshake.answered(message)
    const found = this.#flights.take(message)
    if (!found && !joined) {
      if (!this.#shared.expects(message.id) && !this.#flights.late(message))
        this.#parts.log('mcp.child.stray', { server: this.#parts.name, id: message.id })
      return
    }
    this.#answered = true
    // Who has been told otherwise meanwhile is not answered twice.
    for (const waiting of joined ?? []) {
      if (this.#flights.drop(waiting)) void this.#complete(waiting, answerFor(message, waiting.idText), message)
    }
    if (found) void this.#complete(found.waiting, found.text, message)
  }

  /** Filters, judges and passes the answer on, of a request that nothing else can end any more. Who has left meanwhile gets nothing. */
  async #complete(waiting: Waiting<Flight>, answer: string, from?: UpstreamMessage): Promise<void> {
    const { message, owner } = waiting
    const modern = this.#parts.era === 'modern'
    const failed = from?.members.has('error') === true
    this.#shared.answered(owner.member, message, failed)
    try {
      const looked = owner.member.asker.answered(message, onOneLine(answer))
      let text = typeof looked === 'string' ? looked : await looked
      if (modern) text = await owner.member.asker.required(message, text)
      this.#mustBelong(owner.member)
      if (owner.permit.signal.aborted) throw owner.permit.signal.reason
      finish(owner.answer, modern && from ? modernStatus(from) : 200, text)
      owner.settle(outcomeOf(text))
    } catch (error) {
      owner.settle(toChaperoneError(error))
    }
  }

  async #request(message: UpstreamMessage): Promise<void> {
    const { name, share, log, clock } = this.#parts
    const [first] = this.#members
    const member = this.#members.size === 1 && share !== 'everybody' ? first : undefined
    if (!member && message.method !== 'ping') log('mcp.child.asked', { server: name, method: message.method, sessions: this.#members.size })
    const answer = await this.#questions.ask(message, member, member && this.#newest(member)?.owner.answer)
    for (const { owner } of this.#flights.all()) if (owner.member === member) owner.heard = clock.now()
    this.#tell(answer)
  }

  /** stdio does not say to which request of a session something belongs: the newest that can take it. */
  #newest(member: Member): Waiting<Flight> | undefined {
    return this.#flights.all().findLast(({ owner }) => owner.member === member && owner.answer.streams && !owner.answer.gone)
  }

  #notification(message: UpstreamMessage): void {
    const { era, name, log, clock } = this.#parts
    const about = this.#flights.about(message, era === 'modern')
    if (about) {
      about.owner.heard = clock.now()
      // Tagged with a request of its own it is judged all the same: it may name a resource that is denied, or ask for something.
      if (!about.owner.member.asker.told(message)) return
      deliver(about.owner.answer, onOneLine(this.#flights.told(message, about)))
      return
    }
    // Progress of what nobody asked for, or of what is answered already.
    if (message.method === 'notifications/progress') return
    const audience = era === 'modern' ? this.#oneAtWork() : this.#shared.audience(message, [...this.#members])
    if (audience.length === 0) log('mcp.child.untold', { server: name, method: message.method, sessions: this.#members.size })
    for (const member of audience) {
      if (!member.asker.told(message)) continue
      member.deliver(onOneLine(message.text))
    }
  }

  /**
   * The modern era has no messages that belong to no request: whose it is can be said only when one session has something
   * under way. Of different people not even then: what one asked for, and does not wait for any more, may still make it speak.
   */
  #oneAtWork(): Member[] {
    if (this.#parts.share === 'everybody') return []
    const members = new Set(this.#flights.all().map(({ owner }) => owner.member))
    return members.size === 1 ? [...members] : []
  }

  /** Writes to the stream of the member's newest request; false when none takes it. */
  along(member: Member, text: string): boolean {
    const newest = this.#newest(member)
    if (newest) deliver(newest.owner.answer, text)
    return newest !== undefined
  }
}
