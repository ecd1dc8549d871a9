import type { Envelope, RecordType } from '../audit/record.ts'
import { formatDuration } from '../encoding/duration.ts'
import { endWords } from '../identity/end-reasons.ts'
import type { AuditRow } from './audit-contract.ts'

/** `mcp/files` of the id of a resource that is still there. */
export type ResourceNames = (id: string) => string | undefined

type Data = Readonly<Record<string, unknown>>
type Story = Pick<AuditRow, 'resource' | 'action'>

/** Names in one line; the record has them all. */
const MOST_NAMES = 3
/** Characters of one field. */
const LONGEST = 300

/**
 * What a record that is not about an action tells in a line: which resource it is about, and what happened. The data of a
 * record may have been cut or masked: nothing is taken for granted in it.
 */
export function storyOf({ type, data = {} }: Pick<Envelope, 'type' | 'data'>, nameOf: ResourceNames): Story {
  const resource = resourceIn(data, nameOf)
  const told = (TELL[type] ?? because)(data)
  return { ...(resource === undefined ? {} : { resource }), ...(told === '' ? {} : { action: short(told) }) }
}

function resourceIn(data: Data, nameOf: ResourceNames): string | undefined {
  const server = isData(data.server) ? text(data.server.name) : text(data.server)
  if (server !== '') return `mcp/${server.slice(0, LONGEST)}`
  const id = text(data.resource)
  if (id === '') return undefined
  return nameOf(id) ?? (id === '*' ? 'mcp' : id.slice(0, LONGEST))
}

const TELL: Partial<Record<RecordType, (data: Data) => string>> = {
  'server.started': ({ command, isolation, share }) =>
    joined(', ', text(command), word('isolation', text(isolation)), word('shared by', text(share))),
  'server.stopped': ({ reason, message, code, signal }) => {
    const exit = typeof code === 'number' ? `exit ${code}` : word('signal', text(signal))
    return joined(': ', text(reason), reason === 'crashed' && exit !== '' ? exit : text(message) || exit)
  },
  'server.listed': ({ list, again, servers, tools, prompts, templates }) =>
    joined(
      ', ',
      joined(' of ', text(list), several(servers, text)),
      again === true ? 'from a list that was kept' : '',
      ...[count(tools, 'tool'), count(prompts, 'prompt'), count(templates, 'template')],
    ),
  'pin.seen': pins,
  'pin.changed': pins,
  'pin.approved': pins,
  'pin.kept': pins,
  'upstream.login': ({ what }) => text(what),
  'documents.applied': ({ changes, created, updated, deleted }) =>
    several(
      changes,
      text,
      [created, updated, deleted].reduce<number>((sum, one) => sum + (typeof one === 'number' ? one : 0), 0),
    ),
  'session.started': ({ how, joined: by }) => joined(' ', text(how), isData(by) ? word('by', joined(': ', text(by.document), text(by.subject))) : ''),
  'credential.refused': ({ how, document, why, claim, value, rule, ...data }) =>
    joined(
      ': ',
      joined(' ', text(how), text(document)),
      joined(', ', text(why), text(claim) === '' ? '' : joined(' ', text(claim), text(value), word('and not', text(rule)))) || because(data),
    ),
  'connection.opened': ({ protocol, database, user }) => joined(' ', text(protocol), text(database), word('as', text(user))),
  'connection.closed': (data) => joined(': ', text(data.how), because(data)) || text(data.protocol),
  'request.made': (data) => joined(': ', joined(' ', text(data.kind), wished(data)), text(data.reason)),
  'request.voted': ({ verdict, kind, confirmation, reason }) =>
    joined(': ', joined(' ', text(verdict), text(kind), confirmation === true ? '(confirmation)' : ''), text(reason)),
  'request.decided': (data) => {
    const how = data.confirmation === true ? '(confirmation)' : word('by', text(data.by))
    return joined(': ', joined(' ', text(data.state), text(data.kind), wished(data), how), text(data.reason))
  },
  'request.ended': ({ state, kind, reason }) => joined(': ', joined(' ', text(state), text(kind)), text(reason)),
  'request.reviewed': ({ note }) => text(note),
  'agent.reviewed': ({ decision, agent, reason }) => joined(': ', joined(' ', text(decision), isData(agent) ? text(agent.name) : ''), text(reason)),
  'session.ended': ({ reason, by }) => joined(' by ', endWords(text(reason)), text(by)),
  'delegation.ended': ({ reason }) => endWords(text(reason)),
  'agent.stopped': ({ why }) => text(why),
}

/** What a request is for: a server by its name, or a role, for a while. */
function wished({ name, role, forMs, breakGlass }: Data): string {
  if (text(role) === '') return text(name)
  return joined(
    ' ',
    `role ${text(role)}`,
    typeof forMs === 'number' ? `for ${formatDuration(forMs)}` : '',
    breakGlass === true ? '(break-glass)' : '',
  )
}

function because({ reason, message }: Data): string {
  return joined(': ', text(reason), text(message))
}

function pins({ pins, count }: Data): string {
  const title = (pin: unknown) => (isData(pin) ? joined(' ', text(pin.kind), text(pin.name)) : '')
  return several(pins, title, typeof count === 'number' ? count : undefined)
}

function several(list: unknown, title: (one: unknown) => string, all?: number): string {
  const titles = Array.isArray(list) ? list.map(title).filter((each) => each !== '') : []
  const shown = titles.slice(0, MOST_NAMES)
  const more = Math.max(all ?? 0, titles.length) - shown.length
  return shown.length === 0 ? '' : `${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

const isData = (value: unknown): value is Data => typeof value === 'object' && value !== null && !Array.isArray(value)
const text = (value: unknown): string => (typeof value === 'string' ? value : '')
const joined = (by: string, ...parts: readonly string[]): string => parts.filter((part) => part !== '').join(by)
const word = (before: string, value: string): string => (value === '' ? '' : `${before} ${value}`)
const count = (value: unknown, of: string): string => (typeof value === 'number' ? `${value} ${of}${value === 1 ? '' : 's'}` : '')
const short = (told: string): string => (told.length > LONGEST ? `${told.slice(0, LONGEST)}…` : told)
