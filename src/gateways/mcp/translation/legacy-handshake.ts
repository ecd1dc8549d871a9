import { ChaperoneError } from '../../../errors.ts'
import { LEGACY_VERSIONS } from '../era.ts'
import { membersOf, spanAt, without } from '../text/json-text.ts'
import { isObject, type Request } from '../wire.ts'
import { META_SERVER, MODERN_VERSION } from './modern-envelope.ts'

/** The extension that turns answers into tasks, which a client with a handshake cannot follow. */
const TASKS = 'io.modelcontextprotocol/tasks'

/** What a legacy client said of itself in `initialize`, for every request of its session. */
export interface LegacyClient {
  /** what it may be asked, as the modern era says it: JSON text */
  readonly capabilities: string
  /** the same without what a server would have to ask for */
  readonly silent: string
  /** `capabilities`, parsed */
  readonly offers: Readonly<Record<string, unknown>>
  readonly info: string | undefined
}

/** Tasks are of another make in each era: not said, the server answers as ever. */
function withoutTasks(capabilities: string): string {
  const rest = without(without(capabilities, ['tasks']), ['extensions', TASKS])
  const extensions = spanAt(rest, ['extensions'])
  return extensions && rest[extensions.start] === '{' && membersOf(rest, extensions.start).size === 0 ? without(rest, ['extensions']) : rest
}

export function readClient(message: Request): LegacyClient {
  const { capabilities, clientInfo } = message.params
  const said = spanAt(message.text, ['params', 'capabilities'])
  const info = spanAt(message.text, ['params', 'clientInfo'])
  const text = said && isObject(capabilities) ? withoutTasks(message.text.slice(said.start, said.end)) : '{}'
  return {
    capabilities: text,
    silent: ['sampling', 'elicitation', 'roots'].reduce((rest, key) => without(rest, [key]), text),
    offers: JSON.parse(text) as Record<string, unknown>,
    info: info && isObject(clientInfo) ? message.text.slice(info.start, info.end) : undefined,
  }
}

/** Whether the client said that it can be asked this. Form elicitation is what an empty `elicitation` means (2025-06-18). */
export function mayAsk({ offers }: Pick<LegacyClient, 'offers'>, method: string, params: Readonly<Record<string, unknown>>): boolean {
  const { sampling, elicitation, roots } = offers
  switch (method) {
    case 'sampling/createMessage':
      return isObject(sampling) && (params.tools === undefined || 'tools' in sampling)
    case 'elicitation/create':
      if (!isObject(elicitation)) return false
      return params.mode === 'url' ? 'url' in elicitation : 'form' in elicitation || !('url' in elicitation)
    case 'roots/list':
      return isObject(roots)
    default:
      return false
  }
}

/** What a server offers, as far as a legacy client can use it. */
export interface ServerOffer {
  readonly logging: boolean
  readonly subscribe: boolean
  /** the lists whose changes it announces */
  readonly lists: readonly ('tools' | 'prompts' | 'resources')[]
}

/**
 * The answer to `initialize` from the answer to `server/discover`: the server's own texts, in the places where the legacy era
 * has them. Throws when it names no version of ours, or is no such answer.
 */
export function handshake(name: string, message: Request, discovered: string): { readonly result: string; readonly offer: ServerOffer } {
  const value: unknown = JSON.parse(discovered)
  const found = isObject(value) && isObject(value.result) ? value.result : undefined
  if (!found || (found.resultType ?? 'complete') !== 'complete' || !isObject(found.capabilities))
    throw new ChaperoneError('upstream_unavailable', `The MCP server ${name} did not answer server/discover.`)
  if (!Array.isArray(found.supportedVersions) || !found.supportedVersions.includes(MODERN_VERSION))
    throw new ChaperoneError('unsupported', `The MCP server ${name} speaks no version that Chaperone does.`)
  const at = (...path: string[]) => {
    const span = spanAt(discovered, ['result', ...path])
    return span && discovered.slice(span.start, span.end)
  }
  const asked = message.params.protocolVersion
  const version = typeof asked === 'string' && LEGACY_VERSIONS.includes(asked) ? asked : LEGACY_VERSIONS.at(-1)!
  const info = isObject(found._meta) ? found._meta[META_SERVER] : undefined
  const named = isObject(info) && typeof info.name === 'string' && typeof info.version === 'string'
  const meta = isObject(found._meta) ? without(at('_meta')!, [META_SERVER]) : '{}'
  const members = [
    `"protocolVersion":${JSON.stringify(version)}`,
    `"capabilities":${withoutTasks(at('capabilities')!)}`,
    // The field is required; what a server does not say of itself, its entry in the catalog does.
    `"serverInfo":${named ? at('_meta', META_SERVER) : JSON.stringify({ name, version: 'unknown' })}`,
    ...(typeof found.instructions === 'string' ? [`"instructions":${at('instructions')}`] : []),
    ...(membersOf(meta).size > 0 ? [`"_meta":${meta}`] : []),
  ]
  return { result: `{${members.join(',')}}`, offer: offerOf(found.capabilities) }
}

function offerOf(capabilities: Readonly<Record<string, unknown>>): ServerOffer {
  const says = (what: string, flag: string) => isObject(capabilities[what]) && capabilities[what][flag] === true
  return {
    logging: isObject(capabilities.logging),
    subscribe: says('resources', 'subscribe'),
    lists: (['tools', 'prompts', 'resources'] as const).filter((list) => says(list, 'listChanged')),
  }
}

/** A server that needs what the envelope did not offer says so in words about our hop (-32021): this says it about the client. */
export function missingCapability(name: string, data: unknown): string {
  const required = isObject(data) && isObject(data.requiredCapabilities) ? data.requiredCapabilities : {}
  const names = Object.entries(required).flatMap(([key, value]) =>
    key === 'extensions' && isObject(value) ? Object.keys(value).map((extension) => `the extension ${extension}`) : [key],
  )
  const what = names.length > 0 ? names.join(' and ').slice(0, 500) : 'a capability that it does not name'
  return `The MCP server ${name} needs ${what} from the client, which this client does not offer here.`
}
