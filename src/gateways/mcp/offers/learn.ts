import type { Outcome, Permit } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import type { Action } from '../../../policy/types.ts'
import { Collector } from '../answer.ts'
import { describeMcp } from '../describe.ts'
import { MODERN_VERSIONS } from '../era.ts'
import type { Lane, Server } from '../lanes.ts'
import type { McpLimits } from '../limits.ts'
import { isObject, type Request, readMessages } from '../wire.ts'

/** More pages than any server has. */
const MAX_PAGES = 50
let next = 1

interface LearnParts {
  readonly server: Server
  readonly lane: Lane
  /** what it is for */
  readonly call: Request
  readonly clock: Clock
  readonly limits: McpLimits
  readonly govern: (action: Action, act: (permit: Permit) => Promise<Outcome>) => Promise<Outcome>
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

/**
 * Asks the server for a list in the name of the caller, because the call rests on what it says: the definition must be the
 * approved one, and a trusted server's annotations decide. The answer passes the same filter as the client's own list would,
 * which learns and pins it all. Never rejects: where the list cannot be had in time, what is known already decides.
 */
export async function learnList(list: string, parts: LearnParts): Promise<void> {
  const { clock, limits, server, log } = parts
  const late = Promise.withResolvers<void>()
  const disarm = clock.at(clock.now() + limits.learnMs, () => {
    log('mcp.learn', { server: server.resource.name, list, error: 'it took too long' })
    late.resolve()
  })
  const learnt = pages(list, parts).catch((error: unknown) => log('mcp.learn', { server: server.resource.name, list, error: String(error) }))
  await Promise.race([learnt, late.promise])
  disarm()
}

async function pages(list: string, { server, lane, call, limits, govern }: LearnParts): Promise<void> {
  let cursor: string | undefined
  for (let page = 0; page < MAX_PAGES; page++) {
    const params = { ...(cursor === undefined ? {} : { cursor }), ...envelope(lane, call) }
    const text = JSON.stringify({ jsonrpc: '2.0', id: `chaperone-${next++}`, method: list, params })
    const message = readMessages(Buffer.from(text), limits) as Request
    const collector = new Collector(limits.lineBytes)
    const action = describeMcp(server, message)
    await govern({ ...action, summary: `${list} (to see what is called)` }, (permit) =>
      lane.upstream.request(permit, message, collector, headers(lane, list)),
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
  if (lane.of.era === 'legacy' || !isObject(call.params._meta)) return {}
  return { _meta: Object.fromEntries(Object.entries(call.params._meta).filter(([key]) => key.startsWith('io.modelcontextprotocol/'))) }
}

function headers(lane: Lane, list: string): Record<string, string> {
  const common = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
  return lane.of.era === 'legacy' ? common : { ...common, 'mcp-protocol-version': MODERN_VERSIONS[0]!, 'mcp-method': list }
}
