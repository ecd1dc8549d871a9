import { createHash } from 'node:crypto'
import { type Edit, edited, itemsOf, membersOf, type Span, spanAt } from '../text/json-text.ts'
import { isObject, type Notification, type Request } from '../wire.ts'

/**
 * Names at the endpoint of all servers. A thing of a server is shown as `<server>__<name>` (models take letters, digits, `_`
 * and `-`), and what is found by URI or task id as `<server>+<uri>`, which is a URI, or a template of one, where it was.
 *
 * The first part never holds `__` or `+`, so both are cut at the first one in exactly one way (peers R92), and it depends on
 * nothing but the server's own name: what somebody else adds or may see changes no name (peers R91). A built-in server is
 * `resource/database`: its slash becomes a single `_`, which no other server's prefix has, so neither is taken for the other.
 */
export function prefixOf(server: string): string {
  const slash = server.indexOf('/')
  if (slash >= 0) return `${prefixOf(server.slice(0, slash))}_${databasePart(server.slice(slash + 1))}`
  return plainOr(server, /^[a-z0-9-]+$/)
}

/** Names of databases often have an underscore; two of them, or one at an end, would be a cut. */
const databasePart = (database: string): string => plainOr(database, /^[a-z0-9-]+(_[a-z0-9-]+)*$/)

function plainOr(server: string, form: RegExp): string {
  if (form.test(server)) return server
  const plain = server.toLowerCase().replace(/[^a-z0-9]+/g, '-')
  return `${plain}-${createHash('sha256').update(server).digest('hex').slice(0, 8)}`
}

const NAME_CUT = '__'
const URI_CUT = '+'

export const exposedName = (server: string, name: string): string => `${prefixOf(server)}${NAME_CUT}${name}`
export const exposedUri = (server: string, uri: string): string => `${prefixOf(server)}${URI_CUT}${uri}`

/** The prefix and the server's own word, or undefined when it has none. */
export function cutName(exposed: string): { readonly prefix: string; readonly own: string } | undefined {
  return cut(exposed, NAME_CUT)
}
export function cutUri(exposed: string): { readonly prefix: string; readonly own: string } | undefined {
  return cut(exposed, URI_CUT)
}

function cut(exposed: string, at: string) {
  const i = exposed.indexOf(at)
  const prefix = exposed.slice(0, i)
  return i > 0 && /^[a-z0-9-]+(_[a-z0-9-]+)*$/.test(prefix) ? { prefix, own: exposed.slice(i + at.length) } : undefined
}

type Path = readonly string[]

/** Where a message says what it is about: the path of the word, and whether it is a name or a URI. */
function targetOf(message: Request | Notification): { readonly path: Path; readonly kind: 'name' | 'uri'; readonly word: string } | undefined {
  const { method, params } = message
  const at = (path: Path, kind: 'name' | 'uri', word: unknown) => (typeof word === 'string' ? { path: ['params', ...path], kind, word } : undefined)
  if (method === 'tools/call' || method === 'prompts/get') return at(['name'], 'name', params.name)
  if (method === 'resources/read' || method === 'resources/subscribe' || method === 'resources/unsubscribe') return at(['uri'], 'uri', params.uri)
  if (method.startsWith('tasks/')) return at(['taskId'], 'uri', params.taskId)
  if (method === 'completion/complete' && isObject(params.ref))
    return params.ref.type === 'ref/prompt' ? at(['ref', 'name'], 'name', params.ref.name) : at(['ref', 'uri'], 'uri', params.ref.uri)
  return undefined
}

/** The server's prefix and the text of the message as that server knows it; undefined when the message names nothing of a server. */
export function routed(message: Request | Notification): { readonly prefix: string; readonly own: string; readonly text: string } | undefined {
  const target = targetOf(message)
  const parts = target && (target.kind === 'name' ? cutName(target.word) : cutUri(target.word))
  const span = target && spanAt(message.text, target.path)
  if (!parts || !span) return undefined
  return { ...parts, text: edited(message.text, [{ ...span, text: JSON.stringify(parts.own) }]) }
}

/** The items of a list as they stand there, each under its exposed name. */
export function exposedItems(server: string, text: string, key: string): string[] {
  const list = spanAt(text, ['result', key])
  if (!list || text[list.start] !== '[') return []
  return itemsOf(text, list.start).map((item) => {
    const members = membersOf(text, item.start)
    const edits: Edit[] = []
    const rename = (member: string, as: (server: string, word: string) => string) => {
      const span = members.get(member)
      if (span) edits.push({ start: span.start - item.start, end: span.end - item.start, text: quoted(text, span, (word) => as(server, word)) })
    }
    if (key === 'tools' || key === 'prompts') rename('name', exposedName)
    if (key === 'resources') rename('uri', exposedUri)
    if (key === 'resourceTemplates') rename('uriTemplate', exposedUri)
    return edited(text.slice(item.start, item.end), edits)
  })
}

function quoted(text: string, span: Span, change: (word: string) => string): string {
  const value: unknown = JSON.parse(text.slice(span.start, span.end))
  return typeof value === 'string' ? JSON.stringify(change(value)) : text.slice(span.start, span.end)
}

/** A response of a server with its URIs and task ids as this endpoint shows them, so that what it links to can be read here. */
export function exposedResponse(server: string, text: string): string {
  // A server may write any letter as an escape: then only reading tells.
  if (!/"(uri|taskId)"|\\u/.test(text)) return text
  const edits: Edit[] = []
  const expose = (path: Path, from = 0) => {
    const span = spanAt(text, path, from)
    if (span) edits.push({ ...span, text: quoted(text, span, (word) => exposedUri(server, word)) })
  }
  const each = (path: Path, inside: (start: number) => void) => {
    const list = spanAt(text, path)
    if (list && text[list.start] === '[') for (const item of itemsOf(text, list.start)) if (text[item.start] === '{') inside(item.start)
  }
  const block = (start: number, below: Path) => {
    const type = spanAt(text, [...below, 'type'], start)
    const word: unknown = type && JSON.parse(text.slice(type.start, type.end))
    if (word === 'resource_link') expose([...below, 'uri'], start)
    if (word === 'resource') expose([...below, 'resource', 'uri'], start)
  }
  each(['result', 'content'], (start) => block(start, []))
  each(['result', 'messages'], (start) => block(start, ['content']))
  each(['result', 'contents'], (start) => expose(['uri'], start))
  expose(['result', 'taskId'])
  expose(['result', 'task', 'taskId'])
  return edited(text, edits)
}

/** A notification of a server, likewise. */
export function exposedNotification(server: string, text: string): string {
  const edits: Edit[] = []
  for (const path of [
    ['params', 'uri'],
    ['params', 'taskId'],
  ]) {
    const span = spanAt(text, path)
    if (span) edits.push({ ...span, text: quoted(text, span, (word) => exposedUri(server, word)) })
  }
  return edited(text, edits)
}
