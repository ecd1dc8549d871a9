import { canonicalJson } from '../encoding/canonical-json.ts'
import { compilePolicy, type Policy, type RuleList } from '../policy/compile.ts'
import type { Resource, Variables, Vocabulary } from '../policy/types.ts'
import { keyOf, type Step } from './diff.ts'
import { toYaml } from './export.ts'
import { isRecord } from './read.ts'
import type { DocumentKinds, PlainDocument } from './types.ts'
import type { FutureIdentity, World } from './world.ts'

interface MeaningParts {
  readonly vocabularies: readonly Vocabulary[]
  readonly kinds: DocumentKinds
}

/** A role that more hold is everybody's: who comes and goes among them is not what is decided about. */
const MOST_NAMED = 100

/**
 * What a change means beside the text of its documents: who gains or loses which role, what those roles say, and what is selected by a
 * label. Somebody says yes to this as well: of two parts that are harmless each for itself, the second is read, and bound, as what
 * the two are together. Pure; what is read is all that is bound.
 */
export function meaningOf(
  { vocabularies, kinds }: MeaningParts,
  steps: readonly Step[],
  before: World,
  after: World,
): readonly { readonly title: string; readonly text: string }[] {
  const changed = steps.filter(({ op }) => op !== 'unchanged')
  const lines: string[] = []
  const roles = new Set<string>()

  for (const { name, kind } of identitiesOf(before, after)) {
    const [was, is] = [before, after].map((world) => rolesOf(world.identities.get(name), world)) as [readonly string[], readonly string[]]
    const gains = is.filter((role) => !was.includes(role))
    const loses = was.filter((role) => !is.includes(role))
    for (const role of gains) roles.add(role)
    if (gains.length > 0) lines.push(`${kind} ${name} gains ${listed(gains)}`)
    if (loses.length > 0) lines.push(`${kind} ${name} loses ${listed(loses)}`)
    const [state, next] = [before, after].map((world) => world.identities.get(name)?.state)
    if (state !== undefined && next !== state) lines.push(`${kind} ${name} is ${next} from then on`)
  }

  const wasPolicy = policyOf(before, vocabularies)
  const policy = policyOf(after, vocabularies)
  for (const step of changed) {
    const { kind, name, after: next } = step
    if (kind === 'role' || kind === 'guardrail') {
      if (kind === 'role') lines.push(...holdersOf(name, after))
      const selected = next ? resourcesIn(after, vocabularies).filter((one) => speaking(policy, one).includes(`${kind} ${name}`)) : []
      if (selected.length > 0) lines.push(`${kind} ${name} speaks of ${listed(selected.map((one) => `${one.kind}/${one.name}`))}`)
    }
    // Conditions of a role read traits, and whose agent somebody is.
    if ((kind === 'user' || kind === 'agent') && next && (['traits', 'owner', 'roles', 'state'] as const).some((part) => differs(step, part)))
      for (const role of rolesOf(after.identities.get(name), after)) roles.add(role)
    if (kind === 'join' && next) for (const role of rolesOf(after.identities.get(String(next.spec.agent)), after)) roles.add(role)
    if (kind === 'directory' && next && isRecord(next.spec.roles)) for (const role of Object.values(next.spec.roles).flat()) roles.add(String(role))
    if (vocabularies.some((one) => one.kind === kind)) {
      const was = step.before ? speaking(wasPolicy, resourceOf(step.before)) : []
      const is = next ? speaking(policy, resourceOf(next)) : []
      if (is.length > 0) lines.push(`${kind}/${name} is spoken of by ${listed(is)}`)
      const left = was.filter((one) => !is.includes(one))
      if (left.length > 0) lines.push(`${kind}/${name} is spoken of no more by ${listed(left)}`)
      for (const one of is) if (one.startsWith('role ')) roles.add(one.slice('role '.length))
    }
  }
  return [
    ...(lines.length > 0 ? [{ title: 'What it comes to', text: lines.join('\n') }] : []),
    ...askable(roles, changed, after).map((role) => ({ title: `role/${role.name}, as it would be`, text: toYaml(role, kinds) })),
  ]
}

/** What somebody holds, for who decides whether he comes in, or acts again. */
export function heldBy(
  { kinds }: Pick<MeaningParts, 'kinds'>,
  name: string,
  world: World,
): readonly { readonly title: string; readonly text: string }[] {
  const one = world.identities.get(name)
  if (!one || one.state === 'deleted') return []
  const owner = one.owner === undefined ? '' : `, owned by ${one.owner}`
  const roles = rolesOf(one, world)
  return [
    { title: 'What it comes to', text: `${one.kind} ${name}${owner} holds ${roles.length === 0 ? 'no role' : listed(roles)}` },
    ...askable(new Set(roles), [], world).map((role) => ({ title: `role/${role.name}, as it is`, text: toYaml(role, kinds) })),
  ]
}

const listed = (names: readonly string[]): string =>
  names.length > MOST_NAMED ? `more than ${MOST_NAMED}` : names.length === 0 ? 'nobody' : names.toSorted().join(', ')

const differs = ({ before, after }: Step, part: string): boolean =>
  canonicalJson(before?.spec[part] ?? null) !== canonicalJson(after?.spec[part] ?? null)

/** Everybody there is or would be, by name. */
const identitiesOf = (before: World, after: World): readonly FutureIdentity[] =>
  [...new Map([...before.identities, ...after.identities]).values()].filter(({ kind }) => kind !== 'node')

/** Of who is disabled as well: he may be let in again by somebody who does not look at this. */
function rolesOf(one: FutureIdentity | undefined, world: World): readonly string[] {
  if (!one || one.state === 'deleted') return []
  if (one.roles !== 'inherit') return one.roles
  const owner = one.owner === undefined ? undefined : world.identities.get(one.owner)
  return owner && owner.roles !== 'inherit' ? rolesOf(owner, world) : []
}

function holdersOf(role: string, world: World): readonly string[] {
  const held = (name: string) => identitiesOf(world, world).filter((one) => rolesOf(one, world).includes(name))
  const names = (list: readonly FutureIdentity[]) => listed(list.map(({ name }) => name))
  const ways = world.ofKind('role').filter(({ spec }) => requestsOf(spec).includes(role))
  return [
    `role ${role} is held by ${names(held(role))}`,
    ...ways.map(({ name }) => `role ${role} may be asked for with the role ${name}, held by ${names(held(name))}`),
  ]
}

const requestsOf = (spec: PlainDocument['spec']): readonly string[] =>
  Array.isArray(spec.request) ? spec.request.filter(isRecord).map(({ role }) => String(role)) : []

/** These roles and all that they let somebody ask for; but for those that this change makes, which are read whole already. */
function askable(roles: ReadonlySet<string>, changed: readonly Step[], world: World): readonly PlainDocument[] {
  const made = new Set(changed.filter(({ op }) => op === 'create').map(keyOf))
  // A set grows while it is walked.
  const all = new Set(roles)
  for (const step of changed) if (step.kind === 'role' && step.after) for (const role of requestsOf(step.after.spec)) all.add(role)
  for (const role of all) for (const next of requestsOf(world.documents.get(`role/${role}`)?.spec ?? {})) all.add(next)
  return [...all].toSorted().flatMap((role) => (made.has(`role/${role}`) ? [] : (world.documents.get(`role/${role}`) ?? [])))
}

const policyOf = (world: World, vocabularies: readonly Vocabulary[]): Policy =>
  compilePolicy({ roles: world.ofKind('role'), guardrails: world.ofKind('guardrail') }, vocabularies)

const resourceOf = ({ kind, name, labels }: PlainDocument): Resource => ({ kind, id: '', name, labels })

const resourcesIn = (world: World, vocabularies: readonly Vocabulary[]): readonly Resource[] =>
  vocabularies.flatMap(({ kind }) => world.ofKind(kind).map(resourceOf))

/** In a rule that names a resource by who asks, nobody asks here: it selects none, and its text is read where it is changed. */
const NOBODY: Variables = {
  identity: { id: '', kind: 'user', name: '', traits: {}, roles: [] },
  session: { id: '', startedAt: 0, how: 'login' },
  now: 0,
}

/** `role analyst`: whose rules select this resource. */
function speaking({ roles, guardrails }: Policy, resource: Resource): readonly string[] {
  const selects = (sections: Readonly<Record<string, RuleList>> | undefined) =>
    Object.values(sections ?? {}).some(({ all }) => all.some(({ selector }) => selector.selects(resource, NOBODY)))
  const those = [...roles.values()].filter(({ kinds }) => selects(kinds.get(resource.kind))).map(({ name }) => `role ${name}`)
  const lists: Readonly<Record<string, RuleList>> | undefined = guardrails.get(resource.kind)
  const guards = Object.values(lists ?? {}).flatMap(({ all }) =>
    all.filter(({ selector }) => selector.selects(resource, NOBODY)).map(({ ref }) => `guardrail ${ref.document}`),
  )
  return [...new Set([...those, ...guards])]
}
