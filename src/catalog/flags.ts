import { collisions, flagsOfName } from './flag-names.ts'
import { flagsOfSchema } from './flag-schema.ts'
import { flagsOfText } from './flag-text.ts'
import { type Flag, flag, MOST_FLAGS } from './flag-types.ts'
import type { PinKind } from './pins.ts'

export interface FlagContext {
  /** Names of tools of other servers: a description that names one may steer a model there (F8 of the threats). */
  readonly otherTools?: readonly string[]
}

/** A description over this is read by nobody; the longest of the reference servers has 2,800 characters. */
const LONG_DESCRIPTION = 4_000
const LONG_INSTRUCTIONS = 8_000
/** Texts of one definition that are looked at; each is bounded too. */
const MOST_TEXTS = 2_000
/** And characters of them: to look at these takes a fifth of a second, in which nobody else is served (rule 11). */
const MOST_CHARACTERS = 512 * 1024
/** Of one text; the rest is flagged as too long to be read. */
const LONGEST_LOOKED_AT = 64 * 1024
const DEEPEST = 40

/** Bytes, not words. */
const OPAQUE = new Set(['icons', 'data', 'blob'])

/**
 * What a person should look at in one definition as a server gave it: a tool, prompt or template (an object), or the
 * instructions (a text). Pure; never throws; the worst first. An empty list says only that nothing known was found.
 */
export function flagsOfDefinition(kind: PinKind, definition: unknown, { otherTools = [] }: FlagContext = {}): readonly Flag[] {
  const found: Flag[] = []
  let texts = 0
  let characters = 0
  let enough = false
  /** False when so much was looked at that the rest is not. */
  const may = (text: string): boolean => {
    texts++
    characters += Math.min(text.length, LONGEST_LOOKED_AT)
    enough ||= texts > MOST_TEXTS || characters > MOST_CHARACTERS
    return !enough
  }
  const walk = (value: unknown, where: string, depth: number): void => {
    if (enough) return
    if (depth > DEEPEST) {
      if (!found.some(({ code }) => code === 'very_long')) found.push(flag('very_long', where, 'more than can be looked at'))
      return
    }
    if (typeof value === 'string') {
      if (!may(value)) return
      found.push(...flagsOfText(value, where), ...others(value, where, otherTools))
      if (value.length > (kind === 'instructions' ? LONG_INSTRUCTIONS : LONG_DESCRIPTION))
        found.push(flag('very_long', where, `${value.length} characters: ${value}`))
      return
    }
    if (typeof value !== 'object' || value === null) return
    for (const [key, item] of Object.entries(value)) {
      if (enough) return
      if (OPAQUE.has(key)) continue
      const at = Array.isArray(value) ? `${where}[${key}]` : where === '' ? key : `${where}.${key}`
      if (!Array.isArray(value)) {
        if (!may(key)) return
        found.push(...flagsOfText(key, at), ...(where.endsWith('properties') ? flagsOfName(key, at, false) : []))
      }
      walk(item, at, depth + 1)
    }
  }
  walk(definition, kind === 'instructions' ? 'instructions' : '', 0)
  if (enough) found.push(flag('very_long', kind === 'instructions' ? 'instructions' : '', 'more than can be looked at'))
  if (typeof definition === 'object' && definition !== null) {
    const { name, inputSchema, outputSchema, arguments: args } = definition as Record<string, unknown>
    if (typeof name === 'string') found.push(...flagsOfName(name, 'name', kind === 'tool'))
    if (inputSchema !== undefined) found.push(...flagsOfSchema(inputSchema, 'inputSchema'))
    if (outputSchema !== undefined) found.push(...flagsOfSchema(outputSchema, 'outputSchema').filter(({ code }) => !code.startsWith('header_')))
    if (Array.isArray(args))
      for (const [i, arg] of args.entries()) if (typeof arg?.name === 'string') found.push(...flagsOfName(arg.name, `arguments[${i}].name`, false))
  }
  return worstFirst(found)
}

/** By name: tools (or prompts) of one server that can be taken for each other. */
export function flagsOfNames(names: readonly string[]): ReadonlyMap<string, Flag> {
  return new Map(
    [...collisions(names)].map(([name, other]) => [name, flag('name_collision', 'name', name === other ? `${name}, twice` : `${name} and ${other}`)]),
  )
}

/** Short words are in every text; a name with a seam in it is hardly there by chance. */
function others(text: string, where: string, names: readonly string[]): Flag[] {
  const looked = text.slice(0, LONGEST_LOOKED_AT)
  const named = names.find((name) => name.length >= 6 && /[_-]|[a-z][A-Z]/.test(name) && standsIn(looked, name))
  return named === undefined ? [] : [flag('names_other_tool', where, `${named}: ${text}`)]
}

function standsIn(text: string, name: string): boolean {
  for (let at = text.indexOf(name); at !== -1; at = text.indexOf(name, at + 1)) {
    if (!/[\w-]/.test(text[at - 1] ?? ' ') && !/[\w-]/.test(text[at + name.length] ?? ' ')) return true
  }
  return false
}

const ORDER = { danger: 0, warning: 1, note: 2 }

/** Without doubles, the worst first, bounded. */
export function worstFirst(flags: readonly Flag[]): readonly Flag[] {
  const seen = new Set<string>()
  const once = flags.filter(({ code, where, excerpt }) => {
    const key = `${code}\0${where}\0${excerpt}`
    return !seen.has(key) && seen.add(key)
  })
  return once.sort((a, b) => ORDER[a.severity] - ORDER[b.severity]).slice(0, MOST_FLAGS)
}
