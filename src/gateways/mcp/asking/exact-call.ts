import type { ExactCall, Shown } from '../../../access/types.ts'
import { canonicalJson } from '../../../encoding/canonical-json.ts'
import type { Action } from '../../../policy/types.ts'
import { type Annotations, effectsOf, type Target } from '../describe.ts'
import { membersOf, spanAt } from '../text/json-text.ts'
import { isObject, type Request } from '../wire.ts'
import { boundForm, plainly, readableForm } from './written.ts'

/**
 * What is no part of the call. `_meta` says who the client is and where progress goes, and differs with each try; the other two
 * are of the rounds in which a call is made, and the same call is sent again with and without them. Which round an approval
 * covers is not told by them but by the permit that they are sealed with (rounds.ts).
 */
const NOT_THE_CALL = new Set(['_meta', 'requestState', 'inputResponses'])

/** All that makes the request this call and no other, in one form: method, name or URI, arguments, and every other parameter (`task` ...). */
export function boundCall({ method, text }: Request): string {
  const params = spanAt(text, ['params'])
  const members = params && text[params.start] === '{' ? [...membersOf(text, params.start)] : []
  const kept = members.filter(([key]) => !NOT_THE_CALL.has(key)).sort(([a], [b]) => (a < b ? -1 : 1))
  const written = kept.map(([key, span]) => `${JSON.stringify(key)}:${boundForm(text, span)}`)
  return `{"method":${JSON.stringify(method)},"params":{${written.join(',')}}}`
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
  const says = [title, description].filter((part) => part !== undefined && part !== '').map((part) => plainly(part!))
  return [
    { title: 'call', text: lines.join('\n'), form: 'text' },
    ...json('arguments'),
    ...others.flatMap(json),
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
