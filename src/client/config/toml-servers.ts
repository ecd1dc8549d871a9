import { isDeepStrictEqual } from 'node:util'
import { parse, stringify } from 'smol-toml'
import { ChaperoneError } from '../../errors.ts'
import { within } from './json-servers.ts'
import { inItsLineEnds } from './line-ends.ts'
import type { Format } from './types.ts'

/**
 * TOML: a table of servers. Lines are cut out and put in, so that comments, order and spacing stay; a real parser then reads
 * both texts, and unless they differ in exactly this one server, nothing is written.
 */
export function tomlServers(table: string): Format {
  return {
    list(text) {
      const servers = within(read(text), [table])
      if (typeof servers !== 'object' || servers === null || Array.isArray(servers)) return []
      return Object.entries(servers).map(([name, value]) => ({ at: [table, name], name, value: value as unknown }))
    },
    get: (text, at) => within(read(text), at),
    set(text, name, value) {
      const before = read(text)
      if (isDeepStrictEqual(plain(within(before, [table, name])), plain(value))) return text
      const written = stringify({ [table]: { [name]: value } })
      const lines = written.trim().split('\n')
      // The parser's own writer begins with the empty table of all servers, where it has one.
      const block = lines[0] === `[${table}]` ? lines.slice(1) : lines
      while (block[0] === '') block.shift()
      const after = inItsLineEnds(text, (whole) => placed(whole, table, name, block))
      return checked(before, after, table, name, value)
    },
    remove(text, name) {
      const before = read(text)
      if (within(before, [table, name]) === undefined) return text
      const after = inItsLineEnds(text, (whole) => placed(whole, table, name, []))
      return checked(before, after, table, name, undefined)
    },
  }
}

function read(text: string): Record<string, unknown> {
  try {
    return parse(text, { integersAsBigInt: 'asNeeded' })
  } catch (cause) {
    const { line, column } = cause as { line?: number; column?: number }
    const where = line === undefined ? '' : `: line ${line}, column ${column ?? 1}`
    throw new ChaperoneError('invalid_document', `The file is not TOML${where}.`, { fix: 'Mend it, or add the entry by hand.' })
  }
}

/** Whoever made it: what the parser makes has no prototype. */
const plain = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value ?? null, (_, one: unknown) => (typeof one === 'bigint' ? `${one}n` : one))) as unknown

function checked(before: Record<string, unknown>, after: string, table: string, name: string, value: unknown): string {
  const others = (within(before, [table]) ?? {}) as Record<string, unknown>
  const { [name]: _, ...rest } = others
  const servers = value === undefined ? rest : { ...rest, [name]: value }
  const expected = { ...before, [table]: servers }
  let seen: Record<string, unknown> | undefined
  try {
    seen = parse(after, { integersAsBigInt: 'asNeeded' })
  } catch {
    // Said below: what came out is no TOML, because the servers stand in the file in a way that lines do not show.
  }
  const same = seen && isDeepStrictEqual(plain({ [table]: {}, ...seen }), plain(sorted(expected, { [table]: {}, ...seen })))
  if (same) return after
  throw new ChaperoneError('invalid_document', `The table ${table} is written in a way that is not edited.`, {
    fix: 'Add what --print shows by hand.',
  })
}

/** The same keys in the order of `like`: order is no difference, a missing or further key is. */
function sorted(value: unknown, like: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || typeof like !== 'object' || like === null) return value
  const order = [...new Set([...Object.keys(like), ...Object.keys(value)])].filter((key) => Object.hasOwn(value, key))
  return Object.fromEntries(order.map((key) => [key, sorted((value as Record<string, unknown>)[key], (like as Record<string, unknown>)[key])]))
}

/** The path that a heading names, `[a."b.c".d]`; undefined for any other line. The parser reads it: quotes have their own rules. */
function heading(line: string): readonly string[] | undefined {
  if (!/^\s*\[/.test(line)) return undefined
  try {
    const path: string[] = []
    let here: unknown = parse(line.trimEnd())
    while (Array.isArray(here) || (typeof here === 'object' && here !== null && Object.keys(here).length > 0)) {
      if (Array.isArray(here)) here = here[0]
      else {
        const [key, value] = Object.entries(here)[0]!
        path.push(key)
        here = value
      }
    }
    return path
  } catch {
    return undefined
  }
}

/** The text with `block` in the place of the tables of this server, or at the end. */
function placed(text: string, table: string, name: string, block: readonly string[]): string {
  const lines = text.split('\n')
  const ours = (line: string) => {
    const path = heading(line)
    return path !== undefined && path[0] === table && path[1] === name
  }
  const kept: string[] = []
  let put = false
  for (let at = 0; at < lines.length; ) {
    if (!ours(lines[at]!)) {
      kept.push(lines[at]!)
      at++
      continue
    }
    let end = at + 1
    while (end < lines.length && heading(lines[end]!) === undefined) end++
    // Empty lines and remarks before the next heading belong to that.
    while (end > at + 1 && /^\s*(?:#.*)?$/.test(lines[end - 1]!) && end < lines.length) end--
    if (end === lines.length) while (end > at + 1 && lines[end - 1]!.trim() === '') end--
    if (!put) kept.push(...block)
    // Where a paragraph went without another in its place, one empty line is enough.
    const vanished = put || block.length === 0
    put = true
    at = end
    while (vanished && at < lines.length - 1 && lines[at]!.trim() === '' && (kept.at(-1) ?? '').trim() === '') at++
  }
  if (put || block.length === 0) return kept.join('\n')
  const start = text === '' || text.endsWith('\n') ? text : `${text}\n`
  return `${start}${text.trim() === '' ? '' : '\n'}${block.join('\n')}\n`
}
