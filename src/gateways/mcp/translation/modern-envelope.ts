import { META_CAPABILITIES, MODERN_VERSIONS } from '../era.ts'
import { appending, type Edit, edited, membersOf, spanAt, without } from '../text/json-text.ts'
import type { ClientHeaders } from '../types.ts'
import { isObject, META_VERSION, type Request } from '../wire.ts'

export const META_CLIENT = 'io.modelcontextprotocol/clientInfo'
export const META_LEVEL = 'io.modelcontextprotocol/logLevel'
export const META_SERVER = 'io.modelcontextprotocol/serverInfo'
export const MODERN_VERSION = MODERN_VERSIONS[0]!

const ENVELOPE = [META_VERSION, META_CAPABILITIES, META_CLIENT, META_LEVEL]

/** What every request of the modern era says of its client; JSON texts as the client wrote them. */
export interface ClientFacts {
  readonly capabilities: string
  readonly info: string | undefined
  readonly level: string | undefined
}

/** Key → JSON text. */
export type Members = readonly (readonly [key: string, value: string])[]

const joined = (members: Members) => members.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')

/** The members of `_meta` that the modern era wants in every request. */
export function envelope({ capabilities, info, level }: ClientFacts): Members {
  const all: [string, string | undefined][] = [
    [META_VERSION, JSON.stringify(MODERN_VERSION)],
    [META_CAPABILITIES, capabilities],
    [META_CLIENT, info],
    [META_LEVEL, level === undefined ? undefined : JSON.stringify(level)],
  ]
  return all.filter((one): one is [string, string] => one[1] !== undefined)
}

/**
 * The text of a legacy request as one of the modern era: under another id, with the envelope in `params._meta` and `further`
 * members of params, which must not be there yet. All else keeps its bytes. What the client wrote under the envelope's keys
 * goes: in its era they mean nothing, and passed on they would let it speak as another client.
 */
export function enveloped(message: Request, id: string, facts: ClientFacts, further: Members = []): string {
  const meta = envelope(facts)
  let { text } = message
  for (const key of ENVELOPE) if (isObject(message.params._meta) && key in message.params._meta) text = without(text, ['params', '_meta', key])
  const whole = spanAt(text, [])!
  const edits: Edit[] = [{ ...membersOf(text).get('id')!, text: JSON.stringify(id) }]
  const params = spanAt(text, ['params'])
  const there = params && spanAt(text, ['_meta'], params.start)
  const more: Members = there ? further : [...further, ['_meta', `{${joined(meta)}}`]]
  if (there) edits.push(appending(text, there, joined(meta)))
  if (!params) edits.push(appending(text, { ...whole, end: text.lastIndexOf('}') + 1 }, `"params":{${joined(more)}}`))
  else if (more.length > 0) edits.push(appending(text, params, joined(more)))
  return edited(text, edits)
}

/** What of a legacy client's headers goes to a modern server. Its `Mcp-*` are about another message than the one that is sent. */
export function plainHeaders(headers: ClientHeaders): Record<string, string> {
  const kept = Object.entries(headers).filter(([name]) => !name.startsWith('mcp-') && name !== 'last-event-id')
  return { ...Object.fromEntries(kept), 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
}
