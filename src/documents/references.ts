import { isGlob } from '../encoding/glob.ts'
import { compileSelector, type SelectorSpec } from '../policy/selector.ts'
import { hasTemplate } from '../policy/template.ts'
import type { Variables } from '../policy/types.ts'
import { near } from './near.ts'
import { isRecord } from './read.ts'
import type { Fault, Path } from './types.ts'
import type { World } from './world.ts'

/** Names of roles: one, or a list. */
export function* roleFaults(value: unknown, path: Path, world: World): Generator<Fault> {
  for (const [name, at] of literals(value, path)) {
    if (world.documents.has(`role/${name}`)) continue
    const roles = world.ofKind('role').map((role) => role.name)
    yield { path: at, message: `There is no role \`${name}\`.`, ...fixOf(near(name, roles), 'Apply the role first, or together with this.') }
  }
}

/** Names of identities: one, or a list. */
export function* identityFaults(value: unknown, path: Path, world: World): Generator<Fault> {
  for (const [name, at] of literals(value, path)) {
    if ((world.identities.get(name)?.state ?? 'deleted') !== 'deleted') continue
    yield { path: at, message: `There is no identity \`${name}\`.`, ...fixOf(near(name, world.identities.keys())) }
  }
}

/** Names of people who shall say yes: agents never do. One who is disabled may be back tomorrow. */
export function* peopleFaults(value: unknown, path: Path, world: World): Generator<Fault> {
  for (const [i, name] of (Array.isArray(value) ? value : []).entries()) {
    const at = [...path, i]
    const found = typeof name === 'string' ? world.identities.get(name) : undefined
    const users = [...world.identities.values()].filter((one) => one.kind === 'user' && one.state === 'active').map((one) => one.name)
    if (!found || found.state === 'deleted') {
      yield {
        path: at,
        message: `There is no user \`${name}\`.`,
        ...fixOf(near(String(name), users), 'Apply the user first, or together with this.'),
      }
    } else if (found.kind !== 'user') {
      yield { path: at, message: `\`${name}\` is no user, and only people approve.`, ...fixOf(near(String(name), users)) }
    } else if (found.state !== 'active')
      yield { path: at, level: 'warning', message: `The user \`${name}\` is ${found.state}, and can approve nothing.` }
  }
}

export function* ownerFaults(name: unknown, path: Path, world: World): Generator<Fault> {
  if (typeof name !== 'string') return
  const found = world.identities.get(name)
  if (found?.kind === 'user') {
    if (found.state !== 'active') yield { path, message: `The owner \`${name}\` is ${found.state}.`, fix: 'Name an active user.' }
    return
  }
  const users = [...world.identities.values()].filter((one) => one.kind === 'user' && one.state === 'active').map((one) => one.name)
  if (found)
    yield { path, message: `The owner \`${name}\` is no user but ${found.kind === 'agent' ? 'an agent' : 'a node'}.`, ...fixOf(near(name, users)) }
  else
    yield {
      path,
      message: `There is no user \`${name}\`.`,
      ...fixOf(near(name, users), `Apply \`kind: user, name: ${name}\` first, or together with this.`),
    }
}

/** What stands after `mcp:` or `postgres:` in a rule. A literal name must exist: most often it is misspelled. A pattern or labels may wait for a resource that is yet to come. */
export function* selectorFaults(kind: string, value: unknown, path: Path, world: World): Generator<Fault> {
  const resources = world.ofKind(kind)
  const written = isRecord(value) ? value.name : value
  for (const [name, at] of literals(written, isRecord(value) ? [...path, 'name'] : path)) {
    const names = resources.map((resource) => resource.name)
    if (names.includes(name)) continue
    yield {
      path: at,
      message: `There is no ${kind} resource \`${name}\`.`,
      ...fixOf(near(name, names), `Apply \`kind: ${kind}, name: ${name}\` first, or together with this.`),
    }
  }
  // Who asks decides what a template stands for; nothing can be said of it here.
  if (mentionsTemplate(value) || (!isRecord(value) && !isPattern(written))) return
  const { selects } = compileSelector(value as SelectorSpec)
  if (resources.some((resource) => selects({ ...resource, id: resource.name }, NOBODY))) return
  yield {
    path,
    level: 'warning',
    message: `No ${kind} resource is selected here, so this rule can never fire.`,
    fix: 'Check names and labels, or apply the resource it waits for.',
  }
}

/** The plain names in a value: not `any`, a pattern, or what a template will say. */
function* literals(value: unknown, path: Path): Generator<readonly [string, Path]> {
  if (Array.isArray(value)) for (const [i, one] of value.entries()) yield* literals(one, [...path, i])
  else if (typeof value === 'string' && value !== 'any' && !isGlob(value) && !hasTemplate(value)) yield [value, path]
}

const isPattern = (value: unknown) => typeof value === 'string' && value !== 'any' && isGlob(value)

const mentionsTemplate = (value: unknown): boolean =>
  typeof value === 'string' ? hasTemplate(value) : typeof value === 'object' && value !== null && Object.values(value).some(mentionsTemplate)

/** Selectors without templates read nothing of it. */
const NOBODY: Variables = {
  identity: { id: '', kind: 'user', name: '', traits: {}, roles: [] },
  session: { id: '', startedAt: 0, how: '' },
  now: 0,
}

/** A misspelling is mended in one way; else what would make it right, or what is known. */
const fixOf = (spelling: string | undefined, otherwise?: string): { fix?: string } => {
  const fix = spelling?.startsWith('Did') ? spelling : (otherwise ?? spelling)
  return fix === undefined ? {} : { fix }
}
