import { nameGivesAway } from '../audit/detectors.ts'
import { type Flag, flag } from './flag-types.ts'

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Deeper or larger schemas are no schemas of a tool (rule 11). */
const DEEPEST = 40
const MOST_NODES = 20_000

const VALUES = new Set(['default', 'const', 'examples', 'enum'])

/** A shell, a browser or a path would do something with it that nobody typed. */
const PAYLOAD =
  /\$\(|`[^`\n]{1,200}`|[;&|]\s{0,4}(?:rm|curl|wget|bash|sh|nc|python3?|node|powershell)\b|\b(?:curl|wget)\s[^\n]{0,80}https?:|\bbase64\s+-{1,2}d|\brm\s+-[a-z]{0,4}r|<script\b|javascript:|data:text\/html|(?:\.\.[/\\]){2}|\bunion\s+select\b|'\s{0,4}or\s+'?1'?\s{0,4}=|\bdrop\s+(?:table|database)\b/i
const LONGEST_DEFAULT = 500

/**
 * Flags of a JSON Schema as a schema: what it points to, what it fills in by itself, and the `x-mcp-header` rules of
 * 2026-07-28. Its texts are looked at as all texts are.
 */
export function flagsOfSchema(schema: unknown, where: string): readonly Flag[] {
  const found: Flag[] = []
  const headers = new Map<string, string>()
  let nodes = 0

  /** `direct`: reached from the root through `properties` only, where alone a header may be marked. */
  const walk = (node: unknown, at: string, direct: boolean, depth: number): void => {
    if (++nodes > MOST_NODES || depth > DEEPEST) {
      if (!found.some(({ code }) => code === 'very_long')) found.push(flag('very_long', at, 'a schema too deep or too large to be looked at whole'))
      return
    }
    if (Array.isArray(node)) {
      for (const [i, item] of node.entries()) walk(item, `${at}[${i}]`, false, depth + 1)
      return
    }
    if (!isRecord(node)) return
    for (const key of ['$ref', '$dynamicRef', '$recursiveRef']) {
      const target = node[key]
      if (typeof target === 'string' && !target.startsWith('#')) found.push(flag('network_reference', `${at}.${key}`, target))
    }
    for (const key of VALUES) if (key in node) for (const text of textsOf(node[key])) filledIn(text, `${at}.${key}`, key, found)
    if ('x-mcp-header' in node) header(node, at, direct)
    for (const [key, value] of Object.entries(node)) {
      if (VALUES.has(key)) continue
      if (key === 'properties' && isRecord(value)) {
        for (const [name, property] of Object.entries(value)) walk(property, `${at}.properties.${name}`, direct, depth + 1)
      } else walk(value, `${at}.${key}`, false, depth + 1)
    }
  }

  const header = (node: Record<string, unknown>, at: string, direct: boolean): void => {
    const name = node['x-mcp-header']
    const broken = (why: string) => found.push(flag('header_rule', at, `x-mcp-header ${JSON.stringify(name)}: ${why}`))
    if (typeof name !== 'string' || !/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) return void broken('it is no name of a header')
    const twin = headers.get(name.toLowerCase())
    if (twin !== undefined) broken(`${twin} has it too`)
    headers.set(name.toLowerCase(), at)
    if (!direct) broken('it stands where a client does not look: below items, a choice or a reference')
    const types = Array.isArray(node.type) ? node.type.filter((type) => type !== 'null') : [node.type]
    if (types.length !== 1 || !['string', 'integer', 'boolean'].includes(String(types[0])))
      broken('only strings, integers and booleans may be headers')
    else if (types[0] === 'integer' && ![node.minimum, node.maximum].every((end) => end === undefined || Number.isSafeInteger(end)))
      broken('its range is beyond what a double keeps')
    const property = at.split('.').at(-1) ?? ''
    if (nameGivesAway(property) || nameGivesAway(name) || node.format === 'password' || node.writeOnly === true)
      found.push(flag('header_secret', at, name))
  }

  walk(schema, where, true, 0)
  return found
}

function filledIn(text: string, where: string, key: string, found: Flag[]): void {
  if (PAYLOAD.test(text.slice(0, 10_000))) found.push(flag('payload_default', where, text))
  else if (key !== 'enum' && key !== 'examples') {
    if (text.length > LONGEST_DEFAULT) found.push(flag('payload_default', where, text, 'warning'))
    else if (/\bhttps?:\/\/(?!localhost|127\.)/i.test(text)) found.push(flag('url_default', where, text))
  }
}

function textsOf(value: unknown, depth = 0): readonly string[] {
  if (typeof value === 'string') return [value]
  if (depth > 8 || typeof value !== 'object' || value === null) return []
  return Object.values(value)
    .slice(0, 1000)
    .flatMap((item) => textsOf(item, depth + 1))
}
