import type { Effect } from '../../../policy/types.ts'
import { type Annotations, annotationsOf, effectsOf, UNKNOWN_EFFECTS } from '../describe.ts'
import { isObject } from '../wire.ts'

/** What a tool may do, as far as one can tell before anybody has looked: never more than a proposal to an administrator. */
export interface Proposal {
  readonly effects: readonly Effect[]
  /** `annotations`: what the server says; `name`: what its name suggests; `default`: nobody knows, so the worst */
  readonly from: 'annotations' | 'name' | 'default'
  /** one line, for the person */
  readonly why: string
  /** what the name says against it */
  readonly doubt?: string
}

const HINTS = ['readOnlyHint', 'destructiveHint', 'openWorldHint'] as const

const READS = new Set(
  'get list read search find show describe count view lookup look peek check stat status inspect browse explain compare diff'.split(' '),
)
const WRITES = new Set(
  'create add write update set edit insert append put save store move rename copy upload post send publish commit push merge assign start stop toggle enable disable'.split(
    ' ',
  ),
)
const DESTROYS = new Set(
  'delete remove drop purge destroy erase truncate clear reset wipe kill terminate revoke uninstall overwrite force'.split(' '),
)
const LEAVES = new Set('fetch download upload send post publish email mail notify share http request browse webhook push crawl scrape'.split(' '))
const ADMINISTERS = new Set('grant revoke invite permission permissions role roles admin user users member members policy'.split(' '))
/** What such a tool does is up to whoever calls it. */
const RUNS = new Set('run exec execute eval query sql shell command script invoke call'.split(' '))

/** Arguments that hold a program, and those that lead elsewhere. */
const PROGRAM = /^(?:sql|command|cmd|code|script|shell|expression|statement|program)$/i
const ELSEWHERE = /^(?:url|urls|uri|endpoint|host|hostname|webhook|recipient|recipients|email|to|destination_url)$/i

/** Effects to propose for one tool, as the server describes it. Pure. */
export function proposeEffects(tool: unknown): Proposal {
  const definition = isObject(tool) ? tool : {}
  const name = typeof definition.name === 'string' ? definition.name : ''
  const annotations = annotationsOf(definition)
  const words = wordsOf(name)
  if (HINTS.some((hint) => typeof annotations[hint] === 'boolean')) {
    const effects = effectsOf({ tools: {}, trusted: true }, name, annotations)
    const doubt = contradiction(words, annotations)
    return { effects, from: 'annotations', why: said(annotations), ...(doubt === undefined ? {} : { doubt }) }
  }
  const args = argumentsOf(definition)
  const program = args.find((arg) => PROGRAM.test(arg))
  const runs = words.find((word) => RUNS.has(word))
  if (program !== undefined || runs !== undefined) {
    const because = program === undefined ? `\`${runs}\` in its name` : `its argument \`${program}\``
    return { effects: UNKNOWN_EFFECTS, from: 'default', why: `what it does depends on what it is given (${because})` }
  }
  const [first = ''] = words
  const destroys = words.find((word) => DESTROYS.has(word))
  const administers =
    words.length > 1 && (WRITES.has(first) || DESTROYS.has(first) || ADMINISTERS.has(first)) ? words.find((word) => ADMINISTERS.has(word)) : undefined
  const leaves = words.find((word) => LEAVES.has(word)) ?? args.find((arg) => ELSEWHERE.test(arg))
  const out: Effect[] = leaves === undefined ? [] : ['egress']
  if (destroys !== undefined) return named(administers ? ['write', 'destroy', 'admin', ...out] : ['write', 'destroy', ...out], destroys, leaves)
  if (administers !== undefined) return named(['write', 'admin', ...out], administers, leaves)
  if (WRITES.has(first)) return named(['write', ...out], first, leaves)
  // Only the first word: `get_and_mark_read` begins as a read, and a later word would have told of a write.
  if ((READS.has(first) || first === 'fetch' || first === 'download') && !words.some((word) => WRITES.has(word)))
    return named(['read', ...out], first, leaves)
  return { effects: UNKNOWN_EFFECTS, from: 'default', why: 'neither the server nor its name says what it does' }
}

const named = (effects: readonly Effect[], word: string, leaves: string | undefined): Proposal => ({
  effects,
  from: 'name',
  why: `\`${word}\` in its name${leaves === undefined || leaves === word ? '' : `, and \`${leaves}\` leads out`}`,
})

/** `readTextFile`, `read-text-file`, `files.read_text`: the same words, in lower case. */
function wordsOf(name: string): string[] {
  return name
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .split(/[^a-z]+/)
    .filter((word) => word !== '')
}

function argumentsOf({ inputSchema }: Record<string, unknown>): readonly string[] {
  return isObject(inputSchema) && isObject(inputSchema.properties) ? Object.keys(inputSchema.properties) : []
}

function said({ readOnlyHint, destructiveHint, openWorldHint }: Annotations): string {
  const words = [
    readOnlyHint === true ? 'it only reads' : destructiveHint === false ? 'it writes, and destroys nothing' : 'it may destroy',
    openWorldHint === false ? 'stays where it is' : 'may reach out',
  ]
  return words.join(', ')
}

/** A hint that the name speaks against: a slip of the author, or a lie. */
function contradiction(words: readonly string[], { readOnlyHint, destructiveHint }: Annotations): string | undefined {
  const destroys = words.find((word) => DESTROYS.has(word))
  const writes = words.length > 0 && (WRITES.has(words[0]!) || RUNS.has(words[0]!)) ? words[0] : undefined
  if (readOnlyHint === true && (destroys ?? writes) !== undefined) return `it is said to only read, and is called \`${destroys ?? writes}\``
  if (readOnlyHint !== true && destructiveHint === false && destroys !== undefined)
    return `it is said to destroy nothing, and is called \`${destroys}\``
  return undefined
}
