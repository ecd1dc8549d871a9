import { type Document, isAlias, isMap, isScalar, isSeq, type Node, type Pair, type Scalar } from 'yaml'
import type { Path } from './types.ts'

/** A document is settings written by hand; what is larger than this is an attack or a mistake (rule 11). */
const NODE_LIMITS = { depth: 32, nodes: 20_000, aliases: 100 } as const

/** The tags that say no more than plain YAML does. Others (`!!binary`, `!!set`, our own) would make values JSON does not have. */
const HARMLESS_TAGS = new Set(['str', 'int', 'float', 'bool', 'null', 'map', 'seq'].map((name) => `tag:yaml.org,2002:${name}`))

export interface NodeFault {
  readonly offset: number
  readonly message: string
  readonly fix?: string
}

/**
 * The plain value of a parsed document. Aliases are followed here and not by the library, so that one budget holds for
 * depth, expansions and size: a "billion laughs" file stops at the budget, and the fault stands at the alias.
 */
export function plainValue(document: Document.Parsed): { readonly value: unknown; readonly faults: readonly NodeFault[] } {
  const faults: NodeFault[] = []
  let nodes = 0
  let aliases = 0
  const inside = new Set<unknown>()

  class OverBudget extends Error {}
  const stop = (node: Node, message: string): never => {
    faults.push({ offset: offsetOf(node), message })
    throw new OverBudget()
  }

  const plain = (node: unknown, depth: number): unknown => {
    if (node === null || node === undefined) return null
    const here = node as Node
    if (++nodes > NODE_LIMITS.nodes) stop(here, `The document has more than ${NODE_LIMITS.nodes} values, aliases counted each time they are used.`)
    if (depth > NODE_LIMITS.depth) stop(here, `The document is nested deeper than ${NODE_LIMITS.depth} levels.`)
    if (isAlias(here)) {
      if (++aliases > NODE_LIMITS.aliases) stop(here, `The document uses aliases more than ${NODE_LIMITS.aliases} times.`)
      const target = here.resolve(document)
      if (target === undefined) return stop(here, `There is no anchor \`&${here.source}\` before this alias.`)
      if (inside.has(target)) return stop(here, `The alias \`*${here.source}\` contains itself.`)
      return plain(target, depth)
    }
    if (here.tag !== undefined && !HARMLESS_TAGS.has(here.tag)) {
      faults.push({ offset: offsetOf(here), message: `The tag \`${here.tag.slice(0, 80)}\` is not supported.`, fix: 'Remove the tag.' })
      return null
    }
    if (isScalar(here)) return scalar(here, faults)
    inside.add(here)
    const value = isSeq(here) ? here.items.map((item) => plain(item, depth + 1)) : isMap(here) ? mapping(here.items as Pair[], depth) : null
    inside.delete(here)
    return value
  }

  const mapping = (pairs: readonly Pair[], depth: number) => {
    const value: Record<string, unknown> = {}
    const seen = new Set<string>()
    for (const { key, value: item } of pairs) {
      const text = keyText(key)
      if (text === undefined) {
        faults.push({ offset: offsetOf(key as Node), message: 'A key must be plain text.', fix: 'Write the key in quotes.' })
        continue
      }
      // Checked here and not by the library: its check compares every key with every other one (60,000 keys: minutes).
      if (seen.has(text)) {
        faults.push({ offset: offsetOf(key as Node), message: `The key \`${text}\` is there twice.`, fix: 'Keep one of them.' })
        continue
      }
      seen.add(text)
      if (text === '__proto__' || text.includes('\0') || !text.isWellFormed()) {
        faults.push({ offset: offsetOf(key as Node), message: 'This key is not allowed.' })
        continue
      }
      value[text] = plain(item, depth + 1)
    }
    return value
  }

  try {
    return { value: plain(document.contents, 0), faults }
  } catch (error) {
    if (error instanceof OverBudget) return { value: null, faults }
    throw error
  }
}

function scalar(node: Scalar, faults: NodeFault[]): unknown {
  const { value } = node
  const refuse = (message: string, fix: string) => {
    faults.push({ offset: offsetOf(node), message, fix })
    return null
  }
  if (typeof value === 'string') {
    if (value.includes('\0') || !value.isWellFormed()) return refuse('The text holds a NUL or half a character.', 'Remove it.')
    return value
  }
  if (typeof value === 'number') {
    const source = node.source ?? ''
    // YAML 1.1 reads 0123 as octal, 1.2 as decimal, people as either.
    if (/^[-+]?0[0-9]/.test(source))
      return refuse(`\`${source}\` can be read as octal or as decimal.`, 'Write it in quotes, or without the leading zero.')
    if (!Number.isFinite(value)) return refuse(`\`${source}\` is not a finite number.`, 'Write a finite number.')
    if (Math.abs(value) > Number.MAX_SAFE_INTEGER) return refuse(`\`${source}\` does not survive being read as a number.`, 'Write it in quotes.')
    return value
  }
  if (typeof value === 'boolean' || value === null) return value
  return refuse('This value is of a kind that JSON does not have.', 'Write it in quotes.')
}

const keyText = (key: unknown): string | undefined => (isScalar(key) && typeof key.value === 'string' ? key.value : undefined)

const offsetOf = (node: Node | null | undefined): number => node?.range?.[0] ?? 0

/** Offset of the value at `path` (of its key with `atKey`), or of the nearest part above it that exists. */
export function offsetAt(document: Document.Parsed, path: Path, atKey: boolean): number {
  let node: unknown = document.contents
  let offset = offsetOf(node as Node | null)
  for (const [i, step] of path.entries()) {
    while (isAlias(node)) node = node.resolve(document)
    if (isMap(node)) {
      const pair = (node.items as Pair[]).find(({ key }) => keyText(key) === String(step))
      if (!pair) return offset
      const last = i === path.length - 1
      offset = offsetOf((last && atKey ? pair.key : (pair.value ?? pair.key)) as Node)
      node = pair.value
    } else if (isSeq(node)) {
      const item = node.items[Number(step)]
      if (item === undefined) return offset
      offset = offsetOf(item as Node)
      node = item
    } else return offset
  }
  return offset
}
