import { z } from 'zod'
import { compileGlob, isGlob } from '../encoding/glob.ts'
import { ChaperoneError } from '../errors.ts'
import { assertLight } from './light-where.ts'
import { type Action, EFFECTS, type Limits, type Resource, type Vocabulary } from './types.ts'
import { compileWhere, type Where, type WhereScope } from './where.ts'

const texts = (most: number) => z.array(z.string().min(1).max(256)).max(most)

/** Limits as people write them, in a profile or with flags. An empty list leaves nothing; a part that is left out limits nothing. */
export const limitsSchema = z.strictObject({
  roles: texts(64).optional().describe('names of roles: only these count'),
  resources: texts(100).optional().describe('globs over kind/name: mcp/files, postgres/*; everything else is not there'),
  tools: texts(200).optional().describe('globs over server/tool: files/read_*; of MCP servers only these tools, no prompts and no resources'),
  effects: z.array(z.enum(EFFECTS)).max(EFFECTS.length).optional().describe('only what has no effect beyond these'),
  where: z.string().min(1).optional().describe('CEL as in a rule; what it fails on is refused'),
})

/** A part of the limits. */
export type LimitPart = keyof Limits

/** Limits, ready to be asked: what they leave over, but for `roles`, which are counted where roles are. */
export interface Narrowing {
  readonly roles: ReadonlySet<string> | undefined
  /** Whether it leaves anything of this resource: what it does not is not there for who acts under it (rule 8). */
  reaches(resource: Resource, vocabulary: Vocabulary | undefined): boolean
  /** The first part that does not leave this action, or undefined. `scope` is made only when `where` is asked. */
  excludes(action: Action, vocabulary: Vocabulary, scope: () => WhereScope): LimitPart | undefined
}

/** Limits never change once they are made, and the same object is asked about for each action of its delegation. */
const compiled = new WeakMap<Limits, Narrowing>()

/** Throws ChaperoneError('invalid_document') for limits that cannot be read: then nothing is allowed under them (rule 1). */
export function narrowingOf(limits: Limits): Narrowing {
  const known = compiled.get(limits)
  if (known) return known
  const made = compile(limits)
  compiled.set(limits, made)
  return made
}

function compile(limits: Limits): Narrowing {
  const { resources, tools, effects } = limits
  const onResource = resources && anyOf(resources.map(assertKind))
  const pairs = tools?.map(readTool)
  const within = effects && new Set(effects)
  const where = limits.where === undefined ? undefined : compileWhere(limits.where, assertLight)
  const served = (server: string) => pairs === undefined || pairs.some((pair) => pair.server(server))
  return {
    roles: limits.roles && new Set(limits.roles),
    reaches: (resource, vocabulary) =>
      (onResource === undefined || onResource(`${resource.kind}/${resource.name}`)) && (vocabulary?.tool === undefined || served(resource.name)),
    excludes(action, vocabulary, scope) {
      const { name, kind } = action.resource
      if (onResource && !onResource(`${kind}/${name}`)) return 'resources'
      if (pairs && vocabulary.tool) {
        const tool = vocabulary.tool(action)
        if (tool === undefined || !pairs.some((pair) => pair.server(name) && (tool === '' || pair.tool(tool)))) return 'tools'
      }
      // A handshake does nothing: whoever may only write must still be able to connect.
      const opens = vocabulary.opens?.(action) === true
      if (within && !opens && !action.effects.every((effect) => within.has(effect))) return 'effects'
      return where && !holds(where, action, opens, scope) ? 'where' : undefined
    },
  }
}

/** A condition on arguments may still be fulfilled by what has none yet; one that fails is not (rule 1). */
function holds(where: Where, action: Action, opens: boolean, scope: () => WhereScope): boolean {
  if (where.readsArgs && (opens || action.partial)) return true
  try {
    return where.test(scope())
  } catch {
    return false
  }
}

/** Whether the text is one of those that the patterns mean. */
function anyOf(patterns: readonly string[]): (text: string) => boolean {
  const names = new Set(patterns.filter((pattern) => !isGlob(pattern)))
  const globs = patterns.filter(isGlob).map(compileGlob)
  return (text) => names.has(text) || globs.some((matches) => matches(text))
}

/** Read as plain text, `files` would mean no resource at all, and look as if it meant one. */
function assertKind(pattern: string): string {
  if (!pattern.includes('/') && pattern !== '*') throw unreadable(pattern, 'Write kind/name: mcp/files, postgres/*.')
  compileGlob(pattern)
  return pattern
}

function readTool(pattern: string): { server(name: string): boolean; tool(name: string): boolean } {
  const [server, tool] = halves(pattern)
  if (server === '' || tool === '') throw unreadable(pattern, 'Write server/tool: files/read_*, or files/* for all of its tools.')
  return { server: compileGlob(server), tool: compileGlob(tool) }
}

/** Names of servers have no slash; those of tools may. */
function halves(pattern: string): readonly [server: string, tool: string] {
  const slash = pattern.indexOf('/')
  return slash < 0 ? ['', ''] : [pattern.slice(0, slash), pattern.slice(slash + 1)]
}

const unreadable = (pattern: string, fix: string) =>
  new ChaperoneError('invalid_document', `${JSON.stringify(pattern.slice(0, 80))} does not say what is meant.`, { fix })

/**
 * What both leave over: a profile, and what somebody wants within it. Of two patterns that only overlap neither is kept: rather
 * too little than too much.
 */
export function limitsInside(outer: Limits, inner: Limits): Limits {
  const both = <T>(a: readonly T[] | undefined, b: readonly T[] | undefined): readonly T[] | undefined =>
    a === undefined ? b : b === undefined ? a : b.filter((one) => a.includes(one))
  const patterns = (a: readonly string[] | undefined, b: readonly string[] | undefined, covers = inSameText) => {
    if (a === undefined || b === undefined) return a ?? b
    const inside = (wide: readonly string[], one: string) => wide.some((pattern) => pattern === one || covers(pattern, one))
    return [...new Set([...b.filter((one) => inside(a, one)), ...a.filter((one) => inside(b, one))])]
  }
  const where = [outer.where, inner.where].filter((text) => text !== undefined)
  return clean({
    roles: both(outer.roles, inner.roles),
    resources: patterns(outer.resources, inner.resources),
    tools: patterns(outer.tools, inner.tools, inSameTool),
    effects: both(outer.effects, inner.effects),
    // On lines of their own: a comment at the end of the one would take the bracket with it, and the other could go on behind it with `||`.
    where: where.length === 2 ? where.map((text) => (text.includes('//') ? `(${text}\n)` : `(${text})`)).join(' && ') : where[0],
  })
}

/** Whether `wide` takes in all that `one` does: a glob as text matches a wider one exactly when the stars of that cover it. */
const inSameText = (wide: string, one: string): boolean => !wide.includes('?') && compileGlob(wide)(one)

const inSameTool = (wide: string, one: string): boolean => {
  const [[ofServer, ofTool], [server, tool]] = [halves(wide), halves(one)]
  return inSameText(ofServer, server) && inSameText(ofTool, tool)
}

function clean(limits: { readonly [Part in LimitPart]: Limits[Part] | undefined }): Limits {
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined))
}
