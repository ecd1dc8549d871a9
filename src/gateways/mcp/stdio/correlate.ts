import { META_SUBSCRIPTION } from '../era.ts'
import { type Edit, edited, spanAt } from '../text/json-text.ts'
import { isRequestId, memberOf, type Notification, type Request, type UpstreamMessage } from '../wire.ts'

/** A request that went upstream under an id of ours and is not answered. */
export interface Waiting<T> {
  /** ours, upstream; never used twice in the life of a correlator */
  readonly id: number
  readonly message: Request
  /** the client's own id, as it wrote it */
  readonly idText: string
  /** its progress token, as it wrote it */
  readonly tokenText: string | undefined
  /** whose it is */
  readonly owner: T
}

/** What is remembered of requests that nobody waits for; an answer to an older one counts as one to nothing. */
const MOST_GIVEN_UP = 1_000

/**
 * Turns the ids of clients into ids of ours and back, where several clients, or several requests under one id, share one
 * channel to a server (stdio, HTTP+SSE). Our ids are never used twice, so an answer can reach only the request that it
 * belongs to, and a late or second one reaches nobody. Texts are edited in place: all but ids keeps its bytes (rule 10).
 */
export class Correlator<T> {
  /** By rising ids. No Map: each request passes through, and what left it would stay in memory (see src/bag.ts). */
  #waiting: Waiting<T>[] = []
  /** Ids of requests that went upstream and nobody waits for any more: many servers answer what was cancelled all the same. */
  readonly #givenUp = new Set<number>()
  #next = 1

  get size(): number {
    return this.#waiting.length
  }

  all(): Waiting<T>[] {
    return [...this.#waiting]
  }

  /** The request as it goes upstream: our id for its id and, when it has one, for its progress token. */
  add(message: Request, owner: T): { readonly waiting: Waiting<T>; readonly text: string } {
    const id = this.#next++
    const { text } = message
    const idSpan = spanAt(text, ['id'])!
    const token = spanAt(text, ['params', '_meta', 'progressToken'])
    const waiting = {
      id,
      message,
      idText: text.slice(idSpan.start, idSpan.end),
      tokenText: token && text.slice(token.start, token.end),
      owner,
    }
    this.#waiting.push(waiting)
    return { waiting, text: edited(text, [{ ...idSpan, text: String(id) }, ...(token ? [{ ...token, text: String(id) }] : [])]) }
  }

  /** An id of ours for a request that we make ourselves; nobody waits for its answer. */
  nextId(): number {
    return this.#next++
  }

  /** Nobody waits for it any more. False when it is answered or dropped already. */
  drop(waiting: Waiting<T>): boolean {
    const at = this.#placeOf(waiting.id)
    if (this.#waiting[at] !== waiting) return false
    this.#waiting.splice(at, 1)
    return true
  }

  /** As {@link drop}, of what the server was asked: its answer may come yet. */
  giveUp(waiting: Waiting<T>): boolean {
    if (!this.drop(waiting)) return false
    this.#givenUp.add(waiting.id)
    if (this.#givenUp.size > MOST_GIVEN_UP) this.#givenUp.delete(this.#givenUp.values().next().value!)
    return true
  }

  /** Whether a response that answers nobody is only late: the one to a request that was given up. A second one is not. */
  late({ id }: UpstreamMessage): boolean {
    return typeof id === 'number' && this.#givenUp.delete(id)
  }

  /** A response: the request that it answers, which from now on is answered, and its text under the client's id. Undefined: it answers nobody. */
  take(response: UpstreamMessage): { readonly waiting: Waiting<T>; readonly text: string } | undefined {
    const waiting = typeof response.id === 'number' ? this.#of(response.id) : undefined
    if (!waiting) return undefined
    this.drop(waiting)
    return { waiting, text: answerFor(response, waiting.idText) }
  }

  /**
   * The request that a notification of the server belongs to: by progress token, by subscription, or (`cancelled`) by id.
   * In the legacy era a server cancels only what it asked itself: leave `cancelled` out there.
   */
  about(message: UpstreamMessage, cancelled: boolean): Waiting<T> | undefined {
    const waiting = this.#named(message, cancelled)
    try {
      // What cannot be told is about nobody.
      if (waiting) this.told(message, waiting)
      return waiting
    } catch {
      return undefined
    }
  }

  #named(message: UpstreamMessage, cancelled: boolean): Waiting<T> | undefined {
    const path =
      message.method === 'notifications/progress'
        ? ['params', 'progressToken']
        : cancelled && message.method === 'notifications/cancelled'
          ? ['params', 'requestId']
          : ['params', '_meta', META_SUBSCRIPTION]
    let id: unknown
    try {
      id = memberOf(message, path)
    } catch {
      // Two readings of who it is for: it is for nobody.
      return undefined
    }
    return typeof id === 'number' ? this.#of(id) : undefined
  }

  /** The notification with the client's own id and token in it. */
  told(message: UpstreamMessage, { idText, tokenText }: Waiting<T>): string {
    const { text, method } = message
    return edited(text, [
      ...subscriptionEdits(text, ['params'], idText),
      ...(method === 'notifications/progress' && tokenText !== undefined ? replaceAt(text, ['params', 'progressToken'], tokenText) : []),
      ...(method === 'notifications/cancelled' ? replaceAt(text, ['params', 'requestId'], idText) : []),
    ])
  }

  /** The client's `notifications/cancelled` under our id, among the requests that are its own. Undefined: what it cancels is answered already. */
  cancelled(message: Notification, own: (waiting: Waiting<T>) => boolean): { readonly waiting: Waiting<T>; readonly text: string } | undefined {
    const span = spanAt(message.text, ['params', 'requestId'])
    const id = message.params.requestId
    if (!span || !isRequestId(id)) return undefined
    for (const waiting of this.#waiting) {
      if (waiting.message.id === id && own(waiting)) return { waiting, text: edited(message.text, [{ ...span, text: String(waiting.id) }]) }
    }
    return undefined
  }

  /** Whom a text may be meant for that could not be read as a message. */
  meant(text: string): Waiting<T>[] {
    const ids = new Set([...text.matchAll(/"id"\s*:\s*(\d{1,15})/gi)].map(([, id]) => Number(id)))
    return [...ids].flatMap((id) => this.#of(id) ?? [])
  }

  /** The channel is over: all who wait, who then wait no more. */
  clear(): Waiting<T>[] {
    const all = this.#waiting
    this.#waiting = []
    return all
  }

  #of(id: number): Waiting<T> | undefined {
    const waiting = this.#waiting[this.#placeOf(id)]
    return waiting?.id === id ? waiting : undefined
  }

  /** Of the first whose id is not lower. */
  #placeOf(id: number): number {
    let [from, to] = [0, this.#waiting.length]
    while (from < to) {
      const middle = (from + to) >>> 1
      if (this.#waiting[middle]!.id < id) from = middle + 1
      else to = middle
    }
    return from
  }
}

/**
 * An answer of the server under the id of this client, written as the client wrote it. Never throws: whoever reads a server
 * has nobody to throw to. One that can be read in two ways becomes an error, so that its request ends.
 */
export function answerFor(response: UpstreamMessage, idText: string): string {
  try {
    const edits: Edit[] = [{ ...response.members.get('id')!, text: idText }, ...subscriptionEdits(response.text, ['result'], idText)]
    return edited(response.text, edits)
  } catch {
    const error = { code: -32603, message: 'The answer of the server could be read in two ways, so it is not passed on.', data: { origin: 'proxy' } }
    return `{"jsonrpc":"2.0","id":${idText},"error":${JSON.stringify(error)}}`
  }
}

/** Tells the server that nobody waits any more for the request of this id. */
export const cancellation = (id: number, reason: string) =>
  JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id, reason } })

function replaceAt(text: string, path: readonly string[], by: string): Edit[] {
  const span = spanAt(text, path)
  return span ? [{ ...span, text: by }] : []
}

/** The modern era tags what belongs to a subscription with the id of its request, which we changed. */
function subscriptionEdits(text: string, path: readonly string[], idText: string): Edit[] {
  // A server may write any letter as an escape: then only reading tells.
  return text.includes(META_SUBSCRIPTION) || text.includes('\\u') ? replaceAt(text, [...path, '_meta', META_SUBSCRIPTION], idText) : []
}
