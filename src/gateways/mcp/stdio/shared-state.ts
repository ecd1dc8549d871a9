import { memberOf, type Request, type RequestId, type UpstreamMessage } from '../wire.ts'
import type { Member } from './flight.ts'

/** Log levels of MCP, the least urgent first. */
const LEVELS = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency']

/** What each session told a server of the legacy era that they share: which resources it watches, how much it wants to hear. */
export class SharedState {
  readonly #share: 'session' | 'identity' | 'everybody'
  readonly #uris = new Map<Member, Set<string>>()
  readonly #levels = new Map<Member, number>()
  /** of requests that we made ourselves */
  readonly #ours = new Set<RequestId>()
  /** the lowest level that the server was told */
  #lowest = LEVELS.length

  constructor(share: 'session' | 'identity' | 'everybody') {
    this.#share = share
  }

  /** Notes what the member asks for. True: another session needs it to stay as it is, so it is not sent, and its answer is an empty result. */
  asked(member: Member, message: Request): boolean {
    const { uri, level } = message.params
    if (message.method === 'resources/subscribe' && typeof uri === 'string') {
      const mine = this.#uris.get(member) ?? new Set()
      this.#uris.set(member, mine.add(uri))
    } else if (message.method === 'resources/unsubscribe' && typeof uri === 'string') {
      this.#uris.get(member)?.delete(uri)
      return this.#isWatched(uri)
    } else if (message.method === 'logging/setLevel' && LEVELS.includes(level as string)) {
      const wanted = LEVELS.indexOf(level as string)
      this.#levels.set(member, wanted)
      // Another session wants to hear more: what this one does not want is left out on its way.
      if ([...this.#levels].some(([other, its]) => other !== member && its < wanted)) return wanted >= this.#lowest
      this.#lowest = wanted
    }
    return false
  }

  /** The answer to what was noted; what failed does not hold. */
  answered(member: Member, message: Request, failed: boolean): void {
    if (failed && message.method === 'resources/subscribe') this.#uris.get(member)?.delete(message.params.uri as string)
  }

  /** Forgets the member. Returns what to tell the server so that it stops watching for it. */
  left(member: Member, nextId: () => number): string[] {
    const mine = this.#uris.get(member) ?? []
    this.#uris.delete(member)
    this.#levels.delete(member)
    return [...mine].flatMap((uri) => {
      if (this.#isWatched(uri)) return []
      const id = nextId()
      this.#ours.add(id)
      return [JSON.stringify({ jsonrpc: '2.0', id, method: 'resources/unsubscribe', params: { uri } })]
    })
  }

  /** Whether this is the answer to a request of our own. */
  expects(id: RequestId | undefined): boolean {
    return id !== undefined && this.#ours.delete(id)
  }

  /** Who may hear what belongs to no request. */
  audience(message: UpstreamMessage, members: readonly Member[]): readonly Member[] {
    const { method = '' } = message
    if (this.#share !== 'everybody' && members.length === 1) return members
    if (method === 'notifications/resources/updated') {
      const uri = textAt(message, 'uri')
      return members.filter((member) => this.#watches(member, uri))
    }
    if (method.endsWith('/list_changed')) return members
    // Of different people nobody learns what the work of another makes a server say.
    if (this.#share === 'everybody') return []
    // What a server withdraws it had asked of a session that was alone then.
    if (method === 'notifications/cancelled') return []
    if (method !== 'notifications/message') return members
    const level = LEVELS.indexOf(textAt(message, 'level'))
    // Who never said how much, hears what servers say by themselves, not what another session asked for.
    const usual = this.#levels.size === 0 ? 0 : 1
    return members.filter((member) => level === -1 || level >= (this.#levels.get(member) ?? usual))
  }

  #isWatched(uri: string): boolean {
    return [...this.#uris.values()].some((uris) => uris.has(uri))
  }

  /** A server may also name a part of what is watched. */
  #watches(member: Member, uri: string): boolean {
    const mine = this.#uris.get(member)
    return mine !== undefined && (mine.has(uri) || [...mine].some((watched) => uri.startsWith(watched.endsWith('/') ? watched : `${watched}/`)))
  }
}

function textAt(message: UpstreamMessage, key: string): string {
  try {
    return String(memberOf(message, ['params', key]))
  } catch {
    // Two readings: it speaks of nothing.
    return ''
  }
}
