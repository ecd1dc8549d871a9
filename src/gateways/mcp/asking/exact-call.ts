import type { ExactCall, Shown } from '../../../access/types.ts'
import { canonicalJson } from '../../../encoding/canonical-json.ts'
import type { Action } from '../../../policy/types.ts'
import { type Annotations, effectsOf, type Target } from '../describe.ts'
import { META_CAPABILITIES } from '../era.ts'
import { membersOf, type Span, spanAt } from '../text/json-text.ts'
import { META_CLIENT, META_LEVEL } from '../translation/modern-envelope.ts'
import { isObject, META_VERSION, type Request } from '../wire.ts'
import { boundForm, plainly, readableForm } from './written.ts'

/**
 * What is no part of the call: it is of the rounds in which a call is made, and the same call is sent again with and without
 * it. Which round an approval covers is not told by it but by the permit that it is sealed with (rounds.ts).
 */
const NOT_THE_CALL = new Set(['_meta', 'requestState', 'inputResponses'])

/**
 * What `_meta` says of the client and of one try: which version it speaks, where progress and traces go, under which id its model
 * asked. Everything else there goes to the server as it is, and a server may read a tenant or a dry run in it: so it is shown and
 * bound like an argument.
 */
const OF_THE_TRY = new Set([
  ...['progressToken', META_VERSION, META_CAPABILITIES, META_CLIENT, META_LEVEL, 'traceparent', 'tracestate'],
  // Claude Code gives each try another one.
  'claudecode/toolUseId',
])

/** The members of `_meta` that are part of the call, as one JSON text; undefined when there are none. */
function metaOfCall(text: string): string | undefined {
  const meta = spanAt(text, ['params', '_meta'])
  if (!meta || text[meta.start] !== '{') return undefined
  const kept = [...membersOf(text, meta.start)].filter(([key]) => !OF_THE_TRY.has(key))
  return kept.length === 0 ? undefined : `{${kept.map(([key, { start, end }]) => `${JSON.stringify(key)}:${text.slice(start, end)}`).join(',')}}`
}

const wholeOf = (text: string): Span => ({ start: 0, end: text.length })

/** All that makes the request this call and no other, in one form: method, name or URI, arguments, and every other parameter (`task` ...). */
export function boundCall({ method, text }: Request): string {
  const params = spanAt(text, ['params'])
  const members = params && text[params.start] === '{' ? [...membersOf(text, params.start)] : []
  const kept = members.filter(([key]) => !NOT_THE_CALL.has(key)).sort(([a], [b]) => (a < b ? -1 : 1))
  const written = kept.map(([key, span]) => `${JSON.stringify(key)}:${boundForm(text, span)}`)
  const meta = metaOfCall(text)
  const bound = meta === undefined ? '' : `,"_meta":${boundForm(meta, wholeOf(meta))}`
  return `{"method":${JSON.stringify(method)},"params":{${written.join(',')}}${bound}}`
}

/** What a server says of the thing that is called, if it says so in a definition. */
export interface Described {
  readonly title?: string
  readonly description?: string
}

/** The call as its approver is shown it. */
export function exactCall(server: Target, message: Request, action: Action, annotations: Annotations | undefined, described: Described): ExactCall {
  return { bound: boundCall(message), shown: shownCall(server, message, action, annotations, described) }
}

function shownCall(
  server: Target,
  message: Request,
  action: Action,
  annotations: Annotations | undefined,
  { title, description }: Described,
): Shown[] {
  const { method, params, text } = message
  const what = params.name ?? params.uri
  const lines = [
    `server: ${plainly(server.resource.name)}`,
    `${method}${typeof what === 'string' ? `: ${plainly(what)}` : ''}`,
    `effects: ${action.effects.join(', ')} (${whoseWord(server, params.name, annotations)})`,
  ]
  const others = Object.keys(params).filter((key) => !NOT_THE_CALL.has(key) && !['name', 'uri', 'arguments'].includes(key))
  const json = (key: string): Shown[] => {
    const span = spanAt(text, ['params', key])
    return span ? [{ title: key, text: readableForm(text, span), form: 'json' }] : []
  }
  const meta = metaOfCall(text)
  const says = [title, description].filter((part) => part !== undefined && part !== '').map((part) => plainly(part!))
  return [
    { title: 'call', text: lines.join('\n'), form: 'text' },
    ...json('arguments'),
    ...others.flatMap(json),
    ...(meta === undefined ? [] : [{ title: '_meta', text: readableForm(meta, wholeOf(meta)), form: 'json' as const }]),
    ...(says.length > 0 ? [{ title: 'what the server says of it', text: says.join('\n'), form: 'text' as const }] : []),
  ]
}

/** Effects are somebody's claim: an approver must know whose. */
function whoseWord({ spec }: Target, tool: unknown, annotations: Annotations | undefined): string {
  if (typeof tool !== 'string') return 'by the method'
  if (Object.hasOwn(spec.tools, tool)) return 'confirmed by an administrator'
  const own = spec.trusted && annotations !== undefined && canonicalJson(effectsOf(spec, tool, annotations))
  return own ? "the server's own word, which is trusted" : 'nobody vouches for it, so the worst is assumed'
}

/** The title and description in the definition of a tool or prompt, as its server listed it. */
export function describedBy(definition: string | null | undefined): Described {
  if (!definition) return {}
  let value: unknown
  try {
    value = JSON.parse(definition)
  } catch {
    return {}
  }
  if (!isObject(value)) return {}
  const { title, description } = value
  return { ...(typeof title === 'string' ? { title } : {}), ...(typeof description === 'string' ? { description } : {}) }
}
