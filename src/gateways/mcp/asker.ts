import type { Guard } from '../../access/types.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import { describeItem, describeMcp, describeServerRequest, type Target } from './describe.ts'
import { filterList, LIST_KEYS } from './filter.ts'
import type { McpLimits } from './limits.ts'
import { replyToServer } from './refuse.ts'
import type { KnownTools } from './tools.ts'
import type { Asker } from './types.ts'
import { memberOf } from './wire.ts'

export interface AskerParts {
  readonly guard: Guard
  readonly session: () => LiveSession
  readonly connection: Connection | undefined
  readonly target: () => Target
  readonly tools: KnownTools
  readonly limits: Pick<McpLimits, 'lineBytes' | 'listTtlMs'>
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

/** Judges what a server says by itself, and what it lists, for one MCP session. */
export function makeAsker({ guard, session, connection, target, tools, limits, log }: AskerParts): Asker {
  const admission = connection ? { connection } : {}

  return {
    answered(message, text) {
      if (LIST_KEYS[message.method] === undefined) return text
      const { text: out, items } = filterList(text, message.method, (item) => mayShow(guard, session(), target(), message.method, item), {
        bytes: limits.lineBytes,
        ttlMs: limits.listTtlMs,
      })
      if (message.method === 'tools/list') tools.learn(items)
      return out
    },

    async asked(message) {
      const id = message.id!
      const method = message.method!
      // A ping carries nothing and asks only whether the line is alive; we are its other end.
      if (method === 'ping') return JSON.stringify({ jsonrpc: '2.0', id, result: {} })
      try {
        const permit = await guard.admit(session(), describeServerRequest(target(), method), admission)
        guard.settle(permit, { status: 'failed', facts: { why: 'requests of servers are not relayed to clients' } })
        throw new ChaperoneError('unsupported', `Chaperone does not relay ${method.slice(0, 128)} to clients.`)
      } catch (error) {
        return JSON.stringify(replyToServer(id, toChaperoneError(error)))
      }
    },

    told(message) {
      if (message.method === 'notifications/tools/list_changed') tools.forget()
      if (message.method !== 'notifications/resources/updated') return true
      try {
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

/** What may be used, and what may be asked for, is shown. An item without a name is no item. */
function mayShow(guard: Guard, session: LiveSession, target: Target, method: string, item: unknown): boolean {
  const action = describeItem(target, method, item)
  if (!action) return false
  const { verdict, reason } = guard.judge(session, action)
  return verdict !== 'deny' || reason === 'approval_unavailable'
}
