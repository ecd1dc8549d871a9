import type { IncomingMessage } from 'node:http'
import { type Clock, systemClock } from '../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import { type DataPlane, mcpPath } from '../data-plane.ts'
import { EventStreamReader } from '../event-stream.ts'
import type { Message } from '../mcp-headers.ts'
import { isResponse, parseOrNothing, readBody, refusalOf } from '../mcp-messages.ts'

/**
 * What a server offers is known to Chaperone once somebody has listed it. So that the first screen of the first run is true as
 * well, the runner lists what nobody has listed yet: through Chaperone, with the session of the run, so that nothing is seen
 * that it may not see. A program waits for this, so all of it has one small end.
 */
export const LISTING = { ms: 3_000, servers: 20, pages: 10, answerBytes: 4 * 1024 * 1024 } as const

/** Server -> why its tools are not known. Those that answered are not in it. */
export async function listTools(
  plane: Pick<DataPlane, 'send'>,
  servers: readonly string[],
  clock: Clock = systemClock,
): Promise<ReadonlyMap<string, ChaperoneError>> {
  const over = new AbortController()
  const late = new ChaperoneError('upstream_unavailable', `It did not answer within ${LISTING.ms / 1000} s.`)
  const forget = clock.at(clock.now() + LISTING.ms, () => over.abort(late))
  const unknown = new Map<string, ChaperoneError>()
  const most = new ChaperoneError('too_many', `At a start at most ${LISTING.servers} servers are asked.`)
  for (const name of servers.slice(LISTING.servers)) unknown.set(name, most)
  try {
    await Promise.all(
      servers.slice(0, LISTING.servers).map((name) =>
        listAll(plane, name, over.signal).catch((cause: unknown) => {
          unknown.set(name, over.signal.aborted ? late : toChaperoneError(cause))
        }),
      ),
    )
  } finally {
    forget()
  }
  return unknown
}

/** Page by page: what is on the second is of no less use. */
async function listAll(plane: Pick<DataPlane, 'send'>, server: string, signal: AbortSignal): Promise<void> {
  let cursor: string | undefined
  for (let page = 0; page < LISTING.pages; page++) {
    const answer = await plane.send({ method: 'POST', path: mcpPath(server), headers: HEADERS, body: ask(cursor), signal })
    const { result, error } = await responseOf(answer)
    const message = (error as Message | undefined)?.message
    if (error !== undefined) throw new ChaperoneError('upstream_unavailable', typeof message === 'string' ? message.slice(0, 300) : 'It refused.')
    const next = (result as Message | undefined)?.nextCursor
    if (typeof next !== 'string') return
    cursor = next
  }
}

/** One request by itself, without a session to open and to end; Chaperone speaks to older servers as they need it. */
const VERSION = '2026-07-28'
const HEADERS = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  'mcp-protocol-version': VERSION,
  'mcp-method': 'tools/list',
}
const META = {
  'io.modelcontextprotocol/protocolVersion': VERSION,
  'io.modelcontextprotocol/clientInfo': { name: 'chaperone-run', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
}
const ask = (cursor: string | undefined) =>
  Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: { _meta: META, ...(cursor === undefined ? {} : { cursor }) } }))

async function responseOf(answer: IncomingMessage): Promise<Message> {
  const streamed = (answer.headers['content-type'] ?? '').startsWith('text/event-stream')
  const body = await readBody(answer, LISTING.answerBytes)
  const texts = streamed ? new EventStreamReader().push(Buffer.concat([body, Buffer.from('\n\n')])).map(({ data }) => data) : [body]
  const values = texts.map(parseOrNothing)
  const response = values.find(isResponse)
  if (response) return response
  throw refusalOf(answer.statusCode ?? 502, values[0])
}
