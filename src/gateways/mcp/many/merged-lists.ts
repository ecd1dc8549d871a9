import type { Clock } from '../../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import { Collector } from '../answer.ts'
import type { Builtin } from '../builtin/types.ts'
import type { Exchange, Turn } from '../exchange.ts'
import type { McpSession, Server } from '../lanes.ts'
import type { McpLimits } from '../limits.ts'
import { LIST_KEYS } from '../offers/filter.ts'
import { spanAt } from '../text/json-text.ts'
import { OUR_META } from '../text/meta.ts'
import { isObject, METHOD_NOT_FOUND, type Request, readMessages } from '../wire.ts'
import { exposedItems } from './exposed-names.ts'

interface MergedListsParts {
  readonly exchange: Exchange
  readonly clock: Clock
  readonly limits: McpLimits
  /** False while some rule reads the time or the session: then no list is served twice (design 3.5). */
  readonly mayKeep: () => boolean
  /** Rises with every change of rights. */
  readonly revision: () => number
  /** A server answered after a list had gone out without it; its part is at hand now. */
  readonly late: (of: McpSession, method: string) => void
}

/** One server's part of a list, for one MCP session. */
interface Part {
  readonly revision: number
  readonly changes: number
  /** on its way; several lists may wait for it */
  asking: Promise<readonly string[]> | undefined
  items: readonly string[] | undefined
  until: number
  /** A list has gone out without it: nobody waits for it again, until it has come. */
  late: boolean
}

export interface Merged {
  /** the items as texts, sorted by server; each server's in its own order */
  readonly items: readonly string[]
  /** who is missing, and why */
  readonly partial: Readonly<Record<string, string>>
  readonly kept: boolean
}

/** More pages than any server has. */
const MAX_PAGES = 50
let next = 1

/**
 * The lists of all servers as one. Each server is asked by an action of its own, all at once; whoever is slow or down is left
 * out and named, and a slow one is waited for once. Each part is kept for some seconds, for its MCP session alone.
 */
export function mergedLists({ exchange, clock, limits, mayKeep, revision, late }: MergedListsParts): {
  list(turn: Turn, servers: readonly (Server | Builtin)[], message: Request): Promise<Merged>
} {
  const kept = new WeakMap<McpSession, Map<string, Part>>()
  const partsOf = (of: McpSession): Map<string, Part> => {
    const mine = kept.get(of) ?? new Map<string, Part>()
    kept.set(of, mine)
    return mine
  }

  /** All pages of one server. Rejects when it cannot be asked; a server without such a list has an empty one. */
  const ask = async (turn: Turn, server: Server | Builtin, message: Request): Promise<string[]> => {
    const items: string[] = []
    let size = 0
    let cursor: string | undefined
    for (let page = 0; page < MAX_PAGES; page++) {
      const params = { ...(cursor === undefined ? {} : { cursor }), ...envelope(message) }
      const text = JSON.stringify({ jsonrpc: '2.0', id: `chaperone-list-${next++}`, method: message.method, params })
      const collector = new Collector(limits.lineBytes)
      const outcome = await exchange.send(turn, server, readMessages(Buffer.from(text), limits) as Request, collector)
      collector.end()
      const answer = collector.text ?? ''
      if (outcome.status !== 'ok') {
        if (outcome.facts?.error === METHOD_NOT_FOUND) return items
        throw new Error(`error ${outcome.facts?.error}`)
      }
      size += answer.length
      // Each page has its limit; many pages of many servers would still fill the memory.
      if (size > limits.lineBytes) throw new ChaperoneError('too_large', `The list of ${server.resource.name} is over ${limits.lineBytes} bytes.`)
      items.push(...exposedItems(server.resource.name, answer, LIST_KEYS[message.method]!))
      const more = spanAt(answer, ['result', 'nextCursor'])
      const value: unknown = more && JSON.parse(answer.slice(more.start, more.end))
      if (typeof value !== 'string') return items
      cursor = value
    }
    return items
  }

  const begin = (turn: Turn, server: Server | Builtin, message: Request): Part => {
    const of = turn.of()
    const parts = partsOf(of)
    const key = `${message.method} ${server.resource.id}`
    const part: Part = { revision: revision(), changes: of.changes, asking: undefined, items: undefined, until: 0, late: false }
    parts.set(key, part)
    part.asking = ask(turn, server, message)
    part.asking.then(
      (items) => {
        Object.assign(part, { asking: undefined, items, until: clock.now() + limits.mergedMs })
        if (part.late) late(of, message.method)
      },
      () => {
        if (parts.get(key) === part) parts.delete(key)
      },
    )
    return part
  }

  const partOf = async (
    turn: Turn,
    server: Server | Builtin,
    message: Request,
  ): Promise<{ items: readonly string[]; asked: boolean } | 'late' | ChaperoneError> => {
    const of = turn.of()
    const known = partsOf(of).get(`${message.method} ${server.resource.id}`)
    // Lateness is no right: who is not back yet is not asked a second time, whatever has changed since.
    if (known?.asking && known.late) return 'late'
    const same = known && known.revision === revision() && known.changes === of.changes && mayKeep()
    if (same && known.items && known.until > clock.now()) return { items: known.items, asked: false }
    const part = same && known.asking ? known : begin(turn, server, message)
    const { promise, resolve } = Promise.withResolvers<'late'>()
    const disarm = clock.at(clock.now() + limits.partMs, () => resolve('late'))
    try {
      const first = await Promise.race([part.asking!, promise])
      if (first !== 'late') return { items: first, asked: true }
      part.late = true
      return first
    } catch (error) {
      return toChaperoneError(error)
    } finally {
      disarm()
    }
  }

  return {
    async list(turn, servers, message) {
      const parts = await Promise.all(servers.map((server) => partOf(turn, server, message)))
      const items: string[] = []
      const partial: Record<string, string> = {}
      let asked = false
      for (const [i, part] of parts.entries()) {
        const { name } = servers[i]!.resource
        if (part === 'late') partial[name] = 'no answer yet'
        else if ('code' in part) partial[name] = part.code
        else {
          items.push(...part.items)
          asked ||= part.asked
        }
      }
      return { items, partial, kept: !asked && items.length > 0 }
    },
  }
}

/** What every request of the modern era must carry. A progress token is for one server, and `baggage` for none. */
function envelope({ params: { _meta: meta } }: Request): Record<string, unknown> {
  if (!isObject(meta)) return {}
  return { _meta: Object.fromEntries(Object.entries(meta).filter(([key]) => key.startsWith('io.modelcontextprotocol/'))) }
}

/** The answer to the client: one page, private to it. */
export function mergedAnswer(idText: string, method: string, modern: boolean, { items, partial }: Merged, ttlMs: number): string {
  const meta = Object.keys(partial).length === 0 ? '' : `,"_meta":${JSON.stringify({ [`${OUR_META}partial`]: partial })}`
  const head = modern ? `"resultType":"complete","ttlMs":${meta === '' ? ttlMs : 0},"cacheScope":"private",` : ''
  return `{"jsonrpc":"2.0","id":${idText},"result":{${head}${JSON.stringify(LIST_KEYS[method])}:[${items.join(',')}]${meta}}}`
}
