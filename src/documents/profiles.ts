import { isGlob } from '../encoding/glob.ts'
import { narrowingOf } from '../policy/narrowing.ts'
import { near } from './near.ts'
import { isRecord } from './read.ts'
import { roleFaults } from './references.ts'
import type { Fault, PlainDocument } from './types.ts'
import type { World } from './world.ts'

/** The kinds of what can be reached. */
const KINDS = ['mcp', 'postgres']

/** Roles that are not there, and patterns that mean nothing that is: most often they are misspelled. */
export function* profileInWorld({ spec }: PlainDocument, world: World): Generator<Fault> {
  const limits = isRecord(spec.limits) ? spec.limits : {}
  yield* roleFaults(limits.roles, ['spec', 'limits', 'roles'], world)
  const servers = world.ofKind('mcp').map(({ name }) => name)
  const resources = KINDS.flatMap((kind) => world.ofKind(kind).map(({ name }) => ({ kind, id: name, name, labels: {} })))
  for (const [i, pattern] of texts(limits.resources)) {
    if (resources.some((resource) => narrowingOf({ resources: [pattern] }).reaches(resource, undefined))) continue
    // Chaperone itself is named by its trust domain, which no document says.
    if (pattern.startsWith('chaperone/')) continue
    const known = resources.map(({ kind, name }) => `${kind}/${name}`)
    yield nothing(['spec', 'limits', 'resources', i], pattern, 'resource', known)
  }
  for (const [i, pattern] of texts(limits.tools)) {
    const [server = ''] = pattern.split('/', 1)
    if (servers.some((name) => narrowingOf({ resources: [`mcp/${server}`] }).reaches({ kind: 'mcp', id: name, name, labels: {} }, undefined)))
      continue
    yield nothing(['spec', 'limits', 'tools', i], server, 'MCP server', servers)
  }
}

function nothing(path: Fault['path'], pattern: string, what: string, known: readonly string[]): Fault {
  if (isGlob(pattern))
    return {
      path,
      level: 'warning',
      message: `No ${what} is called \`${pattern}\`, so this leaves nothing.`,
      fix: 'Check the pattern, or apply what it waits for.',
    }
  const fix = near(pattern, known)
  return { path, level: 'warning', message: `There is no ${what} \`${pattern}\`.`, ...(fix === undefined ? {} : { fix }) }
}

const texts = (value: unknown): [number, string][] =>
  Array.isArray(value) ? [...value.entries()].filter((one): one is [number, string] => typeof one[1] === 'string') : []
