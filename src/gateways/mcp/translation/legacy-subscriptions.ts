import type { Outcome, Permit } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import { META_SUBSCRIPTION } from '../era.ts'
import type { McpLimits } from '../limits.ts'
import { membersOf, onOneLine, spanAt, without } from '../text/json-text.ts'
import { sseEvent } from '../text/sse.ts'
import { INVALID_PARAMS, isObject, METHOD_NOT_FOUND, memberOf, ProtocolError, type UpstreamMessage } from '../wire.ts'
import type { ServerOffer } from './legacy-handshake.ts'

/** What `subscriptions/listen` may ask for. */
export type Filter = Readonly<Record<string, true | readonly string[]>>

interface SubscriptionsParts {
  readonly name: string
  /**
   * Opens one `subscriptions/listen`, until it ends or `stop` aborts. Resolves with the text of its answer, if it had one;
   * rejects when it could not be opened or broke.
   */
  readonly listen: (filter: Filter, told: (message: UpstreamMessage) => void, stop: AbortSignal) => Promise<string | undefined>
  /** Whether a notification may reach the client. */
  readonly told: (message: UpstreamMessage) => boolean
  /** Whether the client may hear of this resource. */
  readonly mayHear: (uri: string) => boolean
  readonly clock: Clock
  readonly limits: Pick<McpLimits, 'streams' | 'startMs' | 'backoffMs'>
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

/** One `subscriptions/listen` upstream. */
interface Listening {
  readonly filter: Filter
  readonly stop: AbortController
  readonly since: number
  /** resources that the server agreed to report */
  honoured: ReadonlySet<string>
}

/** Resources that one client may be subscribed to. */
const MAX_SUBSCRIBED = 1000
/** Kept of what came while no stream of the client was open: the newest of each kind. */
const MAX_KEPT = 64
/** One that lasted so long was healthy. */
const STEADY_MS = 60_000
const FIRST_WAIT_MS = 500

/**
 * A legacy client's subscriptions and standalone streams, over one `subscriptions/listen` of the modern era. A changed filter
 * is a new one: the old one is left only when the new one is acknowledged, so nothing is lost in between.
 */
export class LegacySubscriptions {
  readonly #parts: SubscriptionsParts
  #offer: ServerOffer = { logging: false, subscribe: false, lists: [] }
  readonly #uris = new Set<string>()
  readonly #streams: Answer[] = []
  readonly #ends = new Set<(why: ChaperoneError) => void>()
  /** by kind */
  readonly #kept = new Map<string, UpstreamMessage>()
  /** a client that once had a stream will have one again */
  #heard = false
  #live: Listening | undefined
  /** the change that is under way, and the one that waits for it */
  #turn: Promise<unknown> = Promise.resolve()
  #next: Promise<void> | undefined
  #falls = 0
  #disarm: (() => void) | undefined
  #over: ChaperoneError | undefined

  constructor(parts: SubscriptionsParts) {
    this.#parts = parts
  }

  /** What the server announced; nothing is listened for before. */
  offered(offer: ServerOffer): void {
    this.#offer = offer
  }

  /** Resolves when the server has agreed to report the resource. Rejects when it does not. */
  async subscribe(uri: string): Promise<void> {
    const { name } = this.#parts
    if (!this.#offer.subscribe) throw new ProtocolError(METHOD_NOT_FOUND, `The MCP server ${name} has no subscriptions.`, { code: 'unsupported' })
    if (this.#uris.size >= MAX_SUBSCRIBED) throw new ChaperoneError('too_many', `This MCP session is subscribed to ${MAX_SUBSCRIBED} resources.`)
    const before = this.#uris.has(uri)
    this.#uris.add(uri)
    try {
      await this.#change()
      if (!this.#live?.honoured.has(uri)) {
        throw new ProtocolError(INVALID_PARAMS, `The MCP server ${name} does not report changes of this resource.`, { data: { uri } })
      }
    } catch (error) {
      if (!before) this.#uris.delete(uri)
      this.#fell(error)
      throw error
    }
  }

  /** Resolves when nothing of the resource is reported any more. */
  async unsubscribe(uri: string): Promise<void> {
    if (this.#uris.delete(uri)) await this.#change().catch((error: unknown) => this.#fell(error))
  }

  /** The client's standalone stream, until it closes it, the permit ends, or the session does. */
  async stream(permit: Permit, answer: Answer): Promise<Outcome> {
    if (this.#over) throw this.#over
    if (this.#streams.length >= this.#parts.limits.streams) throw new ChaperoneError('too_many', 'This MCP session has too many open streams.')
    const { promise, resolve, reject } = Promise.withResolvers<Outcome>()
    answer.open()
    this.#streams.push(answer)
    for (const message of [...this.#kept.values()]) this.#deliver(message)
    this.#kept.clear()
    this.#heard = true
    void this.#change().catch((error: unknown) => this.#fell(error))
    const cut = () => reject(permit.signal.reason)
    permit.signal.addEventListener('abort', cut)
    if (permit.signal.aborted) cut()
    answer.whenGone(() => resolve({ status: 'ok' }))
    this.#ends.add(reject)
    try {
      return await promise
    } finally {
      this.#ends.delete(reject)
      this.#streams.splice(this.#streams.indexOf(answer), 1)
      permit.signal.removeEventListener('abort', cut)
    }
  }

  end(why: ChaperoneError): void {
    if (this.#over) return
    this.#over = why
    this.#disarm?.()
    this.#live?.stop.abort(why)
    for (const end of [...this.#ends]) end(why)
  }

  #wanted(): Filter | undefined {
    const uris = [...this.#uris].filter((uri) => this.#parts.mayHear(uri))
    if (!this.#heard && this.#uris.size === 0) return undefined
    const lists = this.#offer.lists.map((list) => [`${list}ListChanged`, true] as const)
    const filter: Filter = { ...Object.fromEntries(lists), ...(uris.length > 0 ? { resourceSubscriptions: uris } : {}) }
    return Object.keys(filter).length > 0 ? filter : undefined
  }

  /** One change at a time; who comes while one is under way shares the next. */
  #change(): Promise<void> {
    this.#next ??= this.#turn.then(() => {
      this.#next = undefined
      return this.#apply()
    })
    this.#turn = this.#next.catch(() => {})
    return this.#next
  }

  async #apply(): Promise<void> {
    if (this.#over) throw this.#over
    const filter = this.#wanted()
    const before = this.#live
    if (before && JSON.stringify(before.filter) === JSON.stringify(filter)) return
    if (filter) await this.#open(filter)
    else if (before) {
      this.#live = undefined
      before.stop.abort(new ChaperoneError('conflict', 'Nobody needs the subscription any more.'))
    }
  }

  /** Resolves when the server has acknowledged the filter. */
  #open(filter: Filter): Promise<void> {
    const { clock, limits, name, listen } = this.#parts
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const listening: Listening = { filter, stop: new AbortController(), since: clock.now(), honoured: new Set() }
    const give = (why: ChaperoneError) => {
      reject(why)
      listening.stop.abort(why)
    }
    const disarm = clock.at(clock.now() + limits.startMs, () =>
      give(new ChaperoneError('upstream_timeout', `The MCP server ${name} does not acknowledge a subscription.`)),
    )
    this.#ends.add(give)
    const over = () => {
      disarm()
      this.#ends.delete(give)
    }
    const hear = (message: UpstreamMessage) => {
      if (message.method === 'notifications/subscriptions/acknowledged') {
        over()
        listening.honoured = honouredIn(message)
        // Taken here and not by whoever awaits: what follows in the same piece of the stream is the new one's already.
        if (!listening.stop.signal.aborted) this.#take(listening)
        resolve()
      } else if (message.method === 'notifications/cancelled') {
        // Where many requests share one channel, nothing else says that the server has ended this one.
        give(new ChaperoneError('upstream_unavailable', `The MCP server ${name} ended the subscription.`))
      } else if (this.#live === listening) this.#tell(message)
    }
    listen(filter, hear, listening.stop.signal).then(
      (text) => {
        over()
        this.#ended(listening, errorIn(name, text), reject)
      },
      (error: unknown) => {
        over()
        this.#ended(listening, toChaperoneError(error), reject)
      },
    )
    return promise
  }

  #take(listening: Listening): void {
    const before = this.#live
    if (before === listening) return
    this.#live = listening
    this.#disarm?.()
    before?.stop.abort(new ChaperoneError('conflict', 'Another subscription takes its place.'))
  }

  #ended(listening: Listening, why: ChaperoneError, reject: (why: ChaperoneError) => void): void {
    reject(why)
    if (this.#live !== listening) return
    this.#live = undefined
    if (this.#parts.clock.now() - listening.since >= STEADY_MS) this.#falls = 0
    this.#fell(why)
  }

  /** Nobody listens though somebody should: it is tried again, ever less often. */
  #fell(error: unknown): void {
    const { clock, limits, log, name } = this.#parts
    if (this.#over || this.#live || !this.#wanted()) return
    log('mcp.subscription', { server: name, error: toChaperoneError(error).message })
    // A server that does not know the method will not learn it.
    if (error instanceof ProtocolError && error.jsonrpc === METHOD_NOT_FOUND) return
    // At once after a healthy one: servers and what lies between end long streams, and what is said meanwhile is lost.
    const wait = this.#falls === 0 ? 0 : Math.min(limits.backoffMs, FIRST_WAIT_MS * 2 ** Math.min(this.#falls - 1, 20))
    this.#falls++
    this.#disarm?.()
    this.#disarm = clock.at(clock.now() + wait, () => void this.#change().catch((again: unknown) => this.#fell(again)))
  }

  #tell(message: UpstreamMessage): void {
    const { method } = message
    const list = /^notifications\/(tools|prompts|resources)\/list_changed$/.test(method ?? '')
    if (!list && !(method === 'notifications/resources/updated' && this.#uris.size > 0)) {
      this.#parts.log('mcp.subscription.stray', { server: this.#parts.name, method: method?.slice(0, 128) })
      return
    }
    if (this.#deliver(message)) return
    const kind = list ? method! : `${method} ${String(memberOf(message, ['params', 'uri']))}`
    this.#kept.delete(kind)
    this.#kept.set(kind, message)
    if (this.#kept.size > MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value!)
  }

  /** To one stream, never to two. False when there is none. */
  #deliver(message: UpstreamMessage): boolean {
    if (!this.#parts.told(message)) return true
    const stream = this.#streams.findLast((one) => !one.gone)
    if (!stream) return false
    void stream.write(sseEvent(onOneLine(withoutSubscription(message.text))))
    return true
  }
}

/** The legacy era knows no subscription ids. */
function withoutSubscription(text: string): string {
  const rest = without(text, ['params', '_meta', META_SUBSCRIPTION])
  const meta = spanAt(rest, ['params', '_meta'])
  return meta && membersOf(rest, meta.start).size === 0 ? without(rest, ['params', '_meta']) : rest
}

function honouredIn(message: UpstreamMessage): ReadonlySet<string> {
  const uris = memberOf(message, ['params', 'notifications', 'resourceSubscriptions'])
  return new Set(Array.isArray(uris) ? uris.map(String) : [])
}

function errorIn(name: string, text: string | undefined): ChaperoneError {
  const answer: unknown = text === undefined ? undefined : JSON.parse(text)
  const error = isObject(answer) && isObject(answer.error) ? answer.error : undefined
  if (!error) return new ChaperoneError('upstream_unavailable', `The MCP server ${name} ended the subscription.`)
  const why = `The MCP server ${name} refuses the subscription: ${String(error.message).slice(0, 500)}`
  return typeof error.code === 'number' && error.code === METHOD_NOT_FOUND
    ? new ProtocolError(METHOD_NOT_FOUND, why, { code: 'unsupported' })
    : new ChaperoneError('upstream_unavailable', why)
}
