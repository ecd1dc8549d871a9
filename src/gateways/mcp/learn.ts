import type { Outcome, Permit } from '../../access/types.ts'
import type { Action } from '../../policy/types.ts'
import { Collector } from './answer.ts'
import { describeMcp } from './describe.ts'
import { MODERN_VERSIONS } from './era.ts'
import type { Lane, Server } from './lanes.ts'
import type { McpLimits } from './limits.ts'
import { isObject, type Request, readMessages } from './wire.ts'

/** More pages than any server has. */
const MAX_PAGES = 50
let next = 1

/**
 * Asks the server for its tools in the name of the caller, because a trusted server's annotations decide on a call and its
 * list was not seen yet. The answer passes the same filter as the client's own list would, which learns them all.
 */
export async function learnTools(
  server: Server,
  lane: Lane,
  call: Request,
  limits: McpLimits,
  govern: (action: Action, act: (permit: Permit) => Promise<Outcome>) => Promise<Outcome>,
): Promise<void> {
  let cursor: string | undefined
  for (let page = 0; page < MAX_PAGES; page++) {
    const params = { ...(cursor === undefined ? {} : { cursor }), ...envelope(lane, call) }
    const text = JSON.stringify({ jsonrpc: '2.0', id: `chaperone-${next++}`, method: 'tools/list', params })
    const message = readMessages(Buffer.from(text), limits) as Request
    const collector = new Collector(limits.lineBytes)
    const action = describeMcp(server, message)
    await govern({ ...action, summary: 'tools/list (to learn what the tools do)' }, (permit) =>
      lane.upstream.request(permit, message, collector, headers(lane)),
    )
    collector.end()
    const answer: unknown = JSON.parse(collector.text ?? 'null')
    const result = isObject(answer) && isObject(answer.result) ? answer.result : {}
    if (typeof result.nextCursor !== 'string') return
    cursor = result.nextCursor
  }
}

/** The modern era needs version and capabilities in each request: those of the call it is for. */
function envelope(lane: Lane, call: Request): Record<string, unknown> {
  if (lane.era === 'legacy' || !isObject(call.params._meta)) return {}
  return { _meta: Object.fromEntries(Object.entries(call.params._meta).filter(([key]) => key.startsWith('io.modelcontextprotocol/'))) }
}

function headers(lane: Lane): Record<string, string> {
  const common = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
  return lane.era === 'legacy' ? common : { ...common, 'mcp-protocol-version': MODERN_VERSIONS[0]!, 'mcp-method': 'tools/list' }
}
