import type { Guard } from '../../access/types.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import { describeItem, describeMcp, type Target } from './describe.ts'
import type { Inquiries } from './inquiries.ts'
import type { McpLimits } from './limits.ts'
import { type Item, LIST_KEYS, readList } from './offers/filter.ts'
import type { Observer } from './offers/observer.ts'
import type { KnownTools } from './offers/tools.ts'
import { makeServerAsks } from './server-asks.ts'
import type { Asker } from './types.ts'
import { memberOf } from './wire.ts'

interface AskerParts {
  readonly guard: Guard
  readonly session: () => LiveSession
  readonly connection: Connection | undefined
  readonly target: () => Target
  readonly inquiries: Inquiries | undefined
  readonly tools: KnownTools
  readonly observer: Observer
  readonly limits: Pick<McpLimits, 'lineBytes' | 'listTtlMs'>
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

/** Judges what a server says by itself, and what it lists, for one MCP session. */
export function makeAsker({ guard, session, connection, target, inquiries, tools, observer, limits, log }: AskerParts): Asker {
  const { withdrawn, ...asks } = makeServerAsks({ guard, session, connection, target, inquiries, limits, log })
  return {
    ...asks,

    answered(message, text) {
      const { method } = message
      if (method === 'initialize' || method === 'server/discover') return mayInstruct(text) ? observer.instructions(text) : text
      if (LIST_KEYS[method] === undefined) return text
      const listing = readList(text, method, { bytes: limits.lineBytes, ttlMs: limits.listTtlMs })
      if (method === 'tools/list') tools.learn(listing.items.map((item) => item.value))
      const filtered = () => {
        const withheld: string[] = []
        const keep = (item: Item) => {
          const shown = mayShow(guard, session(), target(), method, item)
          if (shown === undefined) return false
          if (shown.quarantined || !observer.usable(method, item)) withheld.push(shown.name)
          else return true
          return false
        }
        return listing.text(keep, withheld)
      }
      // A definition that is new or different is stored before anybody sees the list.
      return observer.list(method, listing)?.then(filtered) ?? filtered()
    },

    told(message) {
      if (message.method === 'notifications/tools/list_changed') tools.forget()
      const changed = CHANGED[message.method ?? '']
      if (changed !== undefined) observer.changed(changed)
      if (message.method !== 'notifications/resources/updated' && message.method !== 'notifications/cancelled') return true
      try {
        if (message.method === 'notifications/cancelled') return withdrawn(message)
        const uri = memberOf(message, ['params', 'uri'])
        if (typeof uri !== 'string') return false
        return guard.judge(session(), describeMcp(target(), { method: 'resources/read', params: { uri } })).verdict === 'allow'
      } catch (error) {
        log('mcp.told', { error: String(error) })
        return false
      }
    },
  }
}

/** A server may write any letter of a key as an escape, or in a case that some decoders ignore: then only reading tells. */
const mayInstruct = (text: string) => /in[sſ]truction[sſ]/i.test(text) || text.includes('\\u')

const CHANGED: Readonly<Record<string, string>> = {
  'notifications/tools/list_changed': 'tools/list',
  'notifications/prompts/list_changed': 'prompts/list',
}

/**
 * What may be used, and what may be asked for, is shown. An item without a name is no item. Undefined: policy does not show
 * it; its name must not be said then either.
 */
function mayShow(
  guard: Guard,
  session: LiveSession,
  target: Target,
  method: string,
  { value }: Item,
): { name: string; quarantined: boolean } | undefined {
  const action = describeItem(target, method, value)
  if (!action) return undefined
  const { verdict, reason } = guard.judge(session, action)
  const quarantined = reason === 'quarantined'
  return verdict === 'deny' && reason !== 'approval_unavailable' && !quarantined ? undefined : { name: action.subject?.name ?? '', quarantined }
}
