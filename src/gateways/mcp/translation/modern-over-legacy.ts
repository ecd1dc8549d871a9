import type { Outcome, Permit } from '../../../access/types.ts'
import { canonicalJson } from '../../../encoding/canonical-json.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import { META_CAPABILITIES } from '../era.ts'
import { onOneLine } from '../text/json-text.ts'
import { type ClientHeaders, outcomeOf, type Upstream } from '../types.ts'
import { isObject, METHOD_NOT_FOUND, MISSING_CAPABILITY, type Notification, ProtocolError, type Request, readUpstream } from '../wire.ts'
import { Call, type CallParts } from './call.ts'
import { canBeAsked } from './input-responses.ts'
import { isForgotten, LegacySession } from './legacy-session.ts'
import { discovered, type Greeting, INTERACTIVE, legacyCapabilities, toLegacyNotification, toModern, urlsRequired } from './modern-results.ts'
import { ParkedCalls } from './parked-calls.ts'
import { logLevel, Seat } from './seat.ts'
import type { TranslatorParts } from './translator.ts'

/** Sessions of one lane with its server: one for each set of capabilities that its clients declare. */
const MAX_SESSIONS = 4

const CLIENT_INFO = 'io.modelcontextprotocol/clientInfo'

/** The way of modern clients to a legacy server. See reference on translation; what each method becomes stands in `request`. */
export function modernOverLegacy(parts: TranslatorParts): ModernOverLegacy {
  return new ModernOverLegacy(parts)
}

/**
 * A modern client sends requests that stand for themselves; a legacy server knows sessions, and asks its client in the middle
 * of a call. So sessions are held here, and a call that waits for its client is parked under a `requestState` (call.ts).
 */
export class ModernOverLegacy implements Upstream {
  readonly #parts: TranslatorParts
  readonly #parked: ParkedCalls
  readonly #sessions = new Map<string, LegacySession>()
  /** calls that are not over, parked or not */
  readonly #calls = new Set<Call>()
  #sweep: (() => void) | undefined
  #over: ChaperoneError | undefined

  constructor(parts: TranslatorParts) {
    this.#parts = parts
    this.#parked = new ParkedCalls(parts.limits)
  }

  /** Calls that are under way, calls that wait for their client, questions without an answer: all of it ends by itself. */
  get waiting(): { readonly calls: number; readonly parked: number; readonly asks: number } {
    return { calls: this.#calls.size, parked: this.#parked.size, asks: this.#parked.asks }
  }

  async request(permit: Permit, message: Request, answer: Answer, headers: ClientHeaders): Promise<Outcome> {
    const { method } = message
    if (method === 'server/discover') return this.#discover(permit, message, answer)
    if (method === 'subscriptions/listen') return this.#listen(permit, message, answer)
    // Both eras have tasks, and neither's are the other's: not advertised, so not there.
    if (method.startsWith('tasks/'))
      throw new ProtocolError(METHOD_NOT_FOUND, `${method} does not exist on this server.`, { http: 404, code: 'unsupported' })
    const seat = new Seat(permit, message, answer)
    const { requestState } = message.params
    if (requestState === undefined || !INTERACTIVE.has(method)) return this.#begin(seat, headers, 0)
    const call = this.#parked.take(requestState, Call.keyOf(message))
    if (call.resume(seat) === 'again') return this.#begin(seat, headers, call.rounds)
    return seat.done
  }

  /** Nothing of the modern era's own is a notification of the client over HTTP; what is not is passed on as it is. */
  async notify(permit: Permit, message: Notification, headers: ClientHeaders): Promise<Outcome> {
    if (OURS.has(message.method)) return { status: 'ok', facts: { sent: false } }
    return this.#using(message, permit.signal, async (session) => session.notify(permit, toLegacyNotification(message), headers))
  }

  stream(): Promise<Outcome> {
    return Promise.reject(new ChaperoneError('unsupported', 'This version has no standalone streams: use subscriptions/listen.'))
  }

  agreed(): void {}

  async end(why: ChaperoneError): Promise<void> {
    this.#over ??= why
    this.#sweep?.()
    this.#parked.end(why)
    for (const call of [...this.#calls]) call.leave(why)
    await Promise.all([...this.#sessions.values()].map((session) => session.end(why)))
  }

  async #discover(permit: Permit, message: Request, answer: Answer): Promise<Outcome> {
    const seat = new Seat(permit, message, answer)
    return this.#using(message, permit.signal, async (_, greeting) => {
      const text = await this.#parts.asker.answered(message, discovered(seat.idText, greeting))
      seat.say(200, text)
      return outcomeOf(text)
    })
  }

  async #listen(permit: Permit, message: Request, answer: Answer): Promise<Outcome> {
    return this.#using(message, permit.signal, (session) => session.listens.serve(permit, message, answer))
  }

  #begin(seat: Seat, headers: ClientHeaders, rounds: number): Promise<Outcome> {
    let greeting: Greeting | undefined
    const parts: CallParts = {
      ...this.#parts,
      parked: this.#parked,
      final: async (message, idText, text) => {
        const { status, text: written } = toModern(message, idText, readUpstream(text), greeting!)
        return { status, text: await this.#parts.asker.answered(message, written) }
      },
      round: (idText, inputRequests, state) => {
        const meta = greeting?.info === undefined ? '' : `,"_meta":{"io.modelcontextprotocol/serverInfo":${onOneLine(greeting.info)}}`
        return `{"jsonrpc":"2.0","id":${idText},"result":{"resultType":"input_required","inputRequests":${inputRequests},"requestState":"${state}"${meta}}}`
      },
    }
    const call = new Call(parts, seat, rounds)
    this.#calls.add(call)
    const level = logLevel(seat.message)
    const carry = () =>
      this.#using(seat.message, call.stop.signal, (session, known) => {
        greeting = known
        return session.carry(call, seat.permit, headers, level)
      })
    void this.#carry(call, carry)
      .then((text) => this.#finish(call, text))
      .catch((error: unknown) => call.finish({ error: toChaperoneError(error) }))
      .finally(() => this.#calls.delete(call))
    return seat.done
  }

  /** A session that the server had forgotten did not see the call: it is sent once more, in a new one. */
  async #carry(call: Call, carry: () => Promise<{ readonly text: string }>): Promise<string> {
    try {
      return (await carry()).text
    } catch (error) {
      if (!isForgotten(error) || call.touched || call.stop.signal.aborted) throw error
      return (await carry()).text
    }
  }

  async #finish(call: Call, text: string): Promise<void> {
    const urls = INTERACTIVE.has(call.message.method) ? urlsRequired(text) : undefined
    if (!urls) return call.finish({ text })
    const { limits, asker } = this.#parts
    const question = { mode: 'url' }
    if (!canBeAsked(declared(call.message), 'elicitation/create', question))
      throw new ProtocolError(MISSING_CAPABILITY, 'The server needs a person to open a page first, and the client cannot ask for it.', {
        code: 'unsupported',
        data: { requiredCapabilities: { elicitation: { url: {} } } },
      })
    if (urls.length > limits.asks) throw new ChaperoneError('too_many', `The server needs more than ${limits.asks} pages opened.`)
    const settles: ((outcome: Outcome) => void)[] = []
    const asked = urls.map(({ elicitationId: _, ...params }) => params)
    try {
      for (const params of asked) settles.push(await asker.may('elicitation/create', params))
    } catch (error) {
      for (const settle of settles) settle({ status: 'failed', facts: { why: toChaperoneError(error).code } })
      throw error
    }
    const questions = asked.map((params, i) => ({
      serverId: undefined,
      method: 'elicitation/create',
      params: JSON.stringify(params),
      settle: settles[i]!,
    }))
    call.again(text, questions)
  }

  /** Calls `act` with the session for what the client declares; the handshake is made when there is none. */
  async #using<T>(message: Request | Notification, signal: AbortSignal, act: (session: LegacySession, greeting: Greeting) => Promise<T>): Promise<T> {
    const session = this.#session(message)
    session.busy++
    try {
      return await act(session, await unlessAborted(session.ready(), signal))
    } finally {
      session.busy--
      session.lastUsed = this.#parts.clock.now()
    }
  }

  #session(message: Request | Notification): LegacySession {
    if (this.#over) throw this.#over
    const capabilities = legacyCapabilities(declared(message))
    const key = canonicalJson(capabilities)
    const known = this.#sessions.get(key)
    if (known) return known
    this.#makeRoom()
    const meta = message.params._meta
    const session = new LegacySession({
      ...this.#parts,
      capabilities,
      client: isObject(meta) ? meta[CLIENT_INFO] : undefined,
      gone: (one) => {
        if (this.#sessions.get(key) === one) this.#sessions.delete(key)
      },
      refused: (why) => {
        if (this.#sessions.size <= 1) this.#parts.ended(why)
      },
    })
    this.#sessions.set(key, session)
    this.#arm()
    return session
  }

  /** Whoever declares other capabilities with every request gets another session each time: the one that was idle longest goes. */
  #makeRoom(): void {
    if (this.#sessions.size < MAX_SESSIONS) return
    const idle = [...this.#sessions.values()].filter(({ busy }) => busy === 0).sort((a, b) => a.lastUsed - b.lastUsed)[0]
    if (!idle)
      throw new ChaperoneError('too_many', `More than ${MAX_SESSIONS} sets of capabilities are in use with the MCP server ${this.#parts.name}.`)
    this.#endSession(idle, 'The session made room for another.')
  }

  #endSession(session: LegacySession, why: string): void {
    void session
      .end(new ChaperoneError('session_ended', why))
      .catch((error: unknown) => this.#parts.log('mcp.session.end', { server: this.#parts.name, error: String(error) }))
  }

  #arm(): void {
    const { clock, limits } = this.#parts
    this.#sweep?.()
    this.#sweep = clock.at(clock.now() + limits.idleMs, () => {
      const idle = [...this.#sessions.values()].filter(({ busy, lastUsed }) => busy === 0 && clock.now() - lastUsed >= limits.idleMs)
      for (const session of idle) this.#endSession(session, 'The session was idle for too long.')
      this.#sweep = undefined
      if (this.#sessions.size > 0) this.#arm()
    })
  }
}

/** Notifications of the client that only the other era has, or that say what the closing of a stream says. */
const OURS: ReadonlySet<string> = new Set([
  ...['notifications/cancelled', 'notifications/initialized', 'notifications/progress'],
  ...['notifications/roots/list_changed', 'notifications/tasks/status'],
])

function declared(message: Request | Notification): Record<string, unknown> {
  const meta = message.params._meta
  const capabilities = isObject(meta) ? meta[META_CAPABILITIES] : undefined
  return isObject(capabilities) ? capabilities : {}
}

async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    promise.catch(() => {})
    throw signal.reason
  }
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const cut = () => reject(signal.reason)
  signal.addEventListener('abort', cut)
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', cut)
  }
}
