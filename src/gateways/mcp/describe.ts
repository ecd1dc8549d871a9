import type { McpServerSpec } from '../../catalog/mcp-server.ts'
import { lossyBelow } from '../../encoding/lossy-numbers.ts'
import type { Action, Effect, Resource } from '../../policy/types.ts'
import { isObject, type Params } from './wire.ts'

/**
 * What a rule may look at (`Action.facts`).
 *
 * `about` says which words of a rule speak of the action: `tools` only ever speaks of tools, so a rule about tools can
 * neither grant nor block the reading of a resource.
 */
export interface McpFacts {
  /** `session`: what every client must do before it can do anything: handshake, lists, ping, notifications */
  readonly about: 'session' | 'tool' | 'prompt' | 'resource' | 'other'
  /** who asks: the client, or the server (sampling, elicitation, roots) */
  readonly from: 'client' | 'server'
  readonly tool?: string
  readonly prompt?: string
  /** the resources it is about: one, but any number in `subscriptions/listen` */
  readonly uris?: readonly string[]
  /** arguments of a tool or prompt, or the parameters of what a server asks; absent when it is asked whether the tool may be listed */
  readonly args?: Readonly<Record<string, unknown>>
  /** JSON pointers into `args` of numbers that a double does not keep */
  readonly lossy: ReadonlySet<string>
  /** true when the question is only whether it may be shown: conditions on arguments cannot be judged yet */
  readonly listing: boolean
}

/** A tool's own claims about itself; hints, never believed unless the catalog says so. */
export interface Annotations {
  readonly readOnlyHint?: unknown
  readonly destructiveHint?: unknown
  readonly openWorldHint?: unknown
}

/** The server that is asked, as it is applied. */
export interface Target {
  readonly resource: Resource
  readonly spec: Pick<McpServerSpec, 'tools' | 'trusted'>
}

/** The part of a message that decides what it does. */
export interface Call {
  readonly method: string
  readonly params: Params
  /** pointers into the whole message */
  readonly lossy?: ReadonlySet<string>
  /** of a task: the tool whose call made it */
  readonly tool?: string
}

/** What nobody vouches for may do anything but administer. */
export const UNKNOWN_EFFECTS: readonly Effect[] = ['write', 'destroy', 'egress']

const SESSION_METHODS = new Set([
  ...['initialize', 'server/discover', 'ping', 'logging/setLevel'],
  ...['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list'],
  // Not methods of MCP: the two other HTTP verbs of its endpoint.
  ...['stream', 'session/end'],
])

const NONE: ReadonlySet<string> = new Set()

/** No arguments yet: the handshake, or an entry of a list that is filtered. */
const PARTIAL = { partial: true } as const

/** The action that a message of a client is. */
export function describeMcp(target: Target, call: Call, annotations?: Annotations): Action {
  const { method, params } = call
  if (method === 'tools/call') {
    const tool = params.name as string
    const args = isObject(params.arguments) ? params.arguments : {}
    return toolAction(target, tool, annotations, {
      args,
      lossy: call.lossy?.size ? lossyBelow(call.lossy, '/params/arguments') : NONE,
      listing: false,
    })
  }
  if (call.tool !== undefined) {
    // Its arguments were judged when it was called; later its name is what can be.
    const action = toolAction(target, call.tool, annotations, { lossy: NONE, listing: true })
    return { ...action, operation: method, summary: `${method} of ${oneLine(call.tool)}` }
  }
  const facts = factsOf(method, params, call.lossy)
  const known = facts.about !== 'other'
  const subject = subjectOf(facts, method === 'completion/complete')
  return {
    kind: 'mcp',
    resource: target.resource,
    operation: method,
    effects: known ? ['read'] : UNKNOWN_EFFECTS,
    facts: { ...facts },
    summary: summaryOf(method, facts),
    ...(subject ? { subject } : {}),
    ...(facts.about === 'session' ? PARTIAL : {}),
  }
}

/** What of it has a definition that must be approved. A URI alone names no template: reading one is judged as a resource. */
function subjectOf({ prompt, uris }: McpFacts, template: boolean): Action['subject'] {
  if (prompt !== undefined) return { kind: 'prompt', name: prompt }
  return template && uris?.length === 1 ? { kind: 'template', name: uris[0]! } : undefined
}

function factsOf(method: string, params: Params, lossy: ReadonlySet<string> | undefined): McpFacts {
  const base = { from: 'client', lossy: NONE, listing: false } as const
  if (SESSION_METHODS.has(method) || method.startsWith('notifications/')) return { ...base, about: 'session' }
  switch (method) {
    case 'prompts/get':
      return {
        ...base,
        about: 'prompt',
        prompt: params.name as string,
        args: isObject(params.arguments) ? params.arguments : {},
        lossy: lossy?.size ? lossyBelow(lossy, '/params/arguments') : NONE,
      }
    case 'resources/read':
    case 'resources/subscribe':
    case 'resources/unsubscribe':
      return { ...base, about: 'resource', uris: [params.uri as string] }
    case 'subscriptions/listen': {
      const asked = isObject(params.notifications) ? params.notifications : {}
      const uris = Array.isArray(asked.resourceSubscriptions) ? asked.resourceSubscriptions.map(String) : []
      // Tasks of others could be watched by their id: that must be granted by its name.
      if (asked.taskIds !== undefined) return { ...base, about: 'other' }
      return uris.length > 0 ? { ...base, about: 'resource', uris } : { ...base, about: 'session' }
    }
    case 'completion/complete': {
      const ref = isObject(params.ref) ? params.ref : {}
      if (ref.type === 'ref/prompt' && typeof ref.name === 'string') return { ...base, about: 'prompt', prompt: ref.name, args: {} }
      if (ref.type === 'ref/resource' && typeof ref.uri === 'string') return { ...base, about: 'resource', uris: [ref.uri] }
      return { ...base, about: 'other' }
    }
    default:
      return { ...base, about: 'other' }
  }
}

function summaryOf(method: string, facts: McpFacts): string {
  const about = facts.prompt ?? facts.uris?.join(' ')
  return about === undefined ? method : `${method} ${oneLine(about)}`
}

/** A summary stands in tables and logs: no line breaks, no escape sequences of terminals. */
const oneLine = (text: string) => text.slice(0, 200).replace(/[\u0000-\u001f\u007f-\u009f]/g, '?')

function toolAction(target: Target, tool: string, annotations: Annotations | undefined, more: Pick<McpFacts, 'args' | 'lossy' | 'listing'>): Action {
  const facts: McpFacts = { about: 'tool', from: 'client', tool, ...more }
  return {
    kind: 'mcp',
    resource: target.resource,
    operation: 'tools/call',
    effects: effectsOf(target.spec, tool, annotations),
    facts: { ...facts },
    summary: `tools/call ${oneLine(tool)}`,
    subject: { kind: 'tool', name: tool },
    ...(more.listing ? PARTIAL : {}),
  }
}

/** The call as `chaperone explain` asks about it: with these arguments, effects as far as the catalog knows them. */
export function describeCall(
  call: Target & { readonly tool: string; readonly args?: Readonly<Record<string, unknown>>; readonly annotations?: Annotations },
): Action {
  return toolAction(call, call.tool, call.annotations, { args: call.args ?? {}, lossy: NONE, listing: false })
}

/** The question whether an item of a list may be shown; undefined when the item is none. */
export function describeItem(target: Target, method: string, item: unknown): Action | undefined {
  if (!isObject(item)) return undefined
  const listing = { lossy: NONE, listing: true }
  if (method === 'tools/list') return typeof item.name === 'string' ? toolAction(target, item.name, annotationsOf(item), listing) : undefined
  const prompt = method === 'prompts/list' && typeof item.name === 'string' ? item.name : undefined
  const template = method === 'resources/templates/list' && typeof item.uriTemplate === 'string' ? item.uriTemplate : undefined
  const uri = method === 'resources/list' && typeof item.uri === 'string' ? item.uri : template
  if (prompt === undefined && uri === undefined) return undefined
  const facts: McpFacts =
    prompt === undefined ? { about: 'resource', from: 'client', uris: [uri!], ...listing } : { about: 'prompt', from: 'client', prompt, ...listing }
  const operation = prompt === undefined ? 'resources/read' : 'prompts/get'
  const subject = subjectOf(facts, template !== undefined)
  return {
    kind: 'mcp',
    resource: target.resource,
    operation,
    effects: ['read'],
    facts: { ...facts },
    summary: summaryOf(operation, facts),
    ...(subject ? { subject } : {}),
    ...PARTIAL,
  }
}

/** What a server asks of the client: data or consent of the person leaves with the answer. */
export function describeServerRequest(target: Target, method: string, params: Params = {}, lossy: ReadonlySet<string> = NONE): Action {
  const facts: McpFacts = { about: 'other', from: 'server', args: params, lossy, listing: false }
  return {
    kind: 'mcp',
    resource: target.resource,
    operation: method,
    effects: ['egress'],
    facts: { ...facts },
    summary: `${oneLine(method)} asked by the server`,
  }
}

export function annotationsOf(tool: Record<string, unknown>): Annotations {
  return isObject(tool.annotations) ? tool.annotations : {}
}

/**
 * An administrator's word first; then the server's own, if it is trusted; else the worst. The defaults of absent hints
 * are those of the specification: not read-only, destructive, open world.
 */
export function effectsOf(spec: Target['spec'], tool: string, annotations: Annotations | undefined): readonly Effect[] {
  const confirmed = Object.hasOwn(spec.tools, tool) ? spec.tools[tool] : undefined
  if (confirmed) return confirmed.effects
  if (!spec.trusted || !annotations) return UNKNOWN_EFFECTS
  const effects: Effect[] = annotations.readOnlyHint === true ? ['read'] : annotations.destructiveHint === false ? ['write'] : ['write', 'destroy']
  return annotations.openWorldHint === false ? effects : [...effects, 'egress']
}
