import { parseStrict } from '../../encoding/strict-json.ts'
import type { Action, RecordedAction } from '../../policy/types.ts'
import type { McpFacts } from './describe.ts'

/** URIs of one leaf: a subscription may name any number. */
const MOST_URIS = 20
const LONGEST = 512

/** What a leaf has of a message: what its arguments, which lie beside it, do not say. Every byte is written once a call. */
export interface RecordedFacts {
  readonly tool?: string
  readonly prompt?: string
  readonly uris?: readonly string[]
  readonly about?: McpFacts['about']
  readonly from?: 'server'
  readonly listing?: true
  /** The body `arguments` holds all parameters, because the call had no arguments. */
  readonly bare?: true
  readonly more?: number
}

/** For docs/reference/audit-events.md; `satisfies` keeps it whole when a fact is added. */
export const MESSAGE_FACTS = {
  tool: 'The tool that is called.',
  prompt: 'The prompt that is asked for.',
  uris: 'The resources that it is about.',
  about: 'What it is about when it is none of these: `session` (handshake, lists, ping), `other`.',
  from: '`server`: the server asks, not the client.',
  listing: '`true`: it is about a thing that was called before, without its arguments.',
  bare: '`true`: the call had no arguments; the body `arguments` then holds all its parameters.',
  more: 'How many of the resources are left out.',
} as const satisfies Record<keyof RecordedFacts, string>

export function recordedFacts({ facts: raw }: Action): { readonly facts: Readonly<Record<string, unknown>> } {
  const { about, from, tool, prompt, uris, args, listing } = raw as unknown as McpFacts
  const bare = args !== undefined && from === 'client' && Object.keys(args).length === 0
  return {
    facts: {
      ...(tool !== undefined ? { tool: short(tool) } : {}),
      ...(prompt !== undefined ? { prompt: short(prompt) } : {}),
      ...(uris ? { uris: uris.slice(0, MOST_URIS).map(short) } : {}),
      ...(tool === undefined && prompt === undefined && uris === undefined ? { about } : {}),
      ...(from === 'server' ? { from } : {}),
      ...(listing ? { listing } : {}),
      ...(bare ? { bare } : {}),
      ...((uris?.length ?? 0) > MOST_URIS ? { more: uris!.length - MOST_URIS } : {}),
    },
  }
}

const short = (text: string) => (text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text)

/** The facts of a recorded message; undefined when the record does not hold them all. */
export function recalledFacts({ facts: recorded, texts }: RecordedAction): Readonly<Record<string, unknown>> | undefined {
  const { tool, prompt, uris, about, from = 'client', listing = false, bare, ...rest } = recorded as RecordedFacts
  const names = [tool, prompt, ...(uris ?? [])].filter((name) => name !== undefined)
  if ('cut' in rest || 'more' in rest || names.some((name) => name.length > LONGEST)) return undefined
  const of = about ?? (tool !== undefined ? 'tool' : prompt !== undefined ? 'prompt' : uris ? 'resource' : undefined)
  if (of === undefined) return undefined
  const facts = {
    about: of,
    from,
    listing,
    lossy: new Set<string>() as ReadonlySet<string>,
    ...(tool === undefined ? {} : { tool }),
    ...(prompt === undefined ? {} : { prompt }),
    ...(uris ? { uris } : {}),
  }
  if (bare) return { ...facts, args: {} }
  if (listing || (of !== 'tool' && of !== 'prompt' && from === 'client')) return facts
  const text = texts.get('arguments')
  if (text === undefined) return undefined
  try {
    const { value, lossy } = parseStrict(text)
    return typeof value === 'object' && value !== null ? { ...facts, args: value, lossy } : undefined
  } catch {
    // What was cut or masked is not the call any more.
    return undefined
  }
}

/** A folder says more about what was meant than one file in it, and less than any. */
const PATH = /^\/(?:[^/]+\/)*[^/]+$/

/** Rules about this call, the narrowest first: its tool, with the paths it was given; then its tool alone. */
export function proposeRules({ operation, facts: raw }: Action): readonly Readonly<Record<string, unknown>>[] {
  const { about, tool, prompt, uris, args } = raw as unknown as McpFacts
  const what =
    about === 'tool' ? { tools: [tool] } : about === 'prompt' ? { prompts: [prompt] } : about === 'resource' ? { resources: uris } : undefined
  if (!what) return [{ operations: [operation] }]
  const paths = Object.entries(args ?? {}).flatMap(([name, value]) =>
    typeof value === 'string' && PATH.test(value) && !name.includes('.') ? [[name, { under: folderOf(value) }]] : [],
  )
  const narrow = about === 'tool' && paths.length > 0 ? [{ ...what, args: Object.fromEntries(paths) }] : []
  return [...narrow, what]
}

const folderOf = (path: string) => path.slice(0, path.lastIndexOf('/')) || '/'
