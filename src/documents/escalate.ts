import type { Verb } from '../access/administration.ts'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { keyOf, type Step } from './diff.ts'
import { verbRules, verbsOfRole, verbsOfRoles } from './grants.ts'
import { notifierNeeds } from './notifiers.ts'
import { isRecord } from './read.ts'
import type { CrossFault } from './resolve.ts'
import { secretNeeds } from './secrets.ts'
import type { Applier, Path, PlainDocument } from './types.ts'
import type { World } from './world.ts'

/**
 * Nobody grants what they do not have (design 3.8). For the verbs of Chaperone itself: whoever writes a rule that gives a
 * verb, takes away a rule that denied it, or gives somebody a role that has it, must hold that verb.
 *
 * A server that is given a secret, or that runs as Chaperone itself, gives whoever writes it what these verbs guard.
 *
 * Judged on the text of the rules and not by deciding: a `when` or `where` that is false today may be true tomorrow.
 */
export function escalations(steps: readonly Step[], before: World, after: World, by: Applier): readonly CrossFault[] {
  const faults: CrossFault[] = []
  const need = (step: Step, path: Path, verbs: Iterable<Verb>, what: string) => {
    const lacking = [...new Set(verbs)].filter((verb) => !by.holds(verb))
    if (lacking.length === 0) return
    faults.push({
      of: keyOf(step),
      path,
      level: 'error',
      message: `${what} \`${lacking.join('`, `')}\` of Chaperone, which ${by.actor.name} does not hold: nobody grants what they do not have.`,
      fix: 'Have somebody apply it who holds them. Where the only one who does is locked, he can do it once that is lifted: chaperone lock ls',
    })
  }
  const verbsIn = (world: World) => (roles: readonly string[]) => verbsOfRoles(roles, (role) => world.documents.get(`role/${role}`)?.spec)

  for (const step of steps) {
    if (step.op === 'unchanged') continue
    const { kind, before: old, after: next } = step
    if (kind === 'role' || kind === 'guardrail') {
      for (const section of ['allow', 'ask'] as const) {
        const known = new Set(old ? verbRules(old.spec, section).map((rule) => rule.text) : [])
        for (const rule of next ? verbRules(next.spec, section) : [])
          if (!known.has(rule.text)) need(step, rule.path, rule.verbs, `This ${kind} grants`)
      }
      // Who may ask for a role has it one yes away, and whoever writes the way also names who says yes.
      const ways = new Set(requestsOf(old).map((way) => canonicalJson(way)))
      for (const [i, way] of requestsOf(next).entries()) {
        if (!ways.has(canonicalJson(way)))
          need(step, ['spec', 'request', i, 'role'], verbsIn(after)([String(way.role)]), `The role \`${way.role}\` gives`)
      }
      // A rule moved from `ask` to nothing gives nothing; one that denied or asked in a guardrail and is gone, does.
      const tight = kind === 'guardrail' ? (['deny', 'ask'] as const) : (['deny'] as const)
      for (const section of tight) {
        const kept = new Set(next ? verbRules(next.spec, section).map((rule) => rule.text) : [])
        for (const rule of old ? verbRules(old.spec, section) : []) {
          if (!kept.has(rule.text)) need(step, next ? ['spec'] : [], rule.verbs, `Without its ${section} rule this ${kind} gives way to`)
        }
      }
    }
    // Whoever stopped it, or what did, is asked nothing by a pipeline that only applies documents.
    const saysActive = next !== undefined && (old ? old.spec.state === 'disabled' && next.spec.state !== 'disabled' : next.spec.state === 'active')
    if (kind === 'agent' && saysActive && before.identities.get(step.name)?.state === 'disabled')
      need(step, ['spec', 'state'], ['identities'], 'To let a stopped agent work again is a matter of')
    if (kind === 'mcp' && old) {
      // Definitions were approved of this program at this address; another one may show the same and do something else.
      const other = PROGRAM.find((part) => next && differs(old, next, part))
      if (other !== undefined) need(step, ['spec', other], ['pins'], 'Another program or address in the place of an approved one is a matter of')
      // Deleted and applied again, it would be a server of which nothing was ever approved.
      if (!next && before.confirmed.has(old.id))
        need(step, [], ['pins'], 'To delete a server forgets which definitions of it are approved and which wait, a matter of')
    }
    if (kind === 'mcp' && next) {
      // The vault shows its secrets to nobody; who decides where one is sent could read it there.
      const wires = secretsWired(next)
      if (wires.length > 0 && canonicalJson(old?.spec ?? {}) !== canonicalJson(next.spec))
        need(step, ['spec', ...wires[0]!], ['secrets'], 'Where a secret is sent is a matter of')
      // The tokens of a login are secrets too: these decide who gets them, and who can read them on the way.
      const moved = old?.spec.auth === undefined ? undefined : (['url', 'headers', 'ca', 'auth'] as const).find((part) => differs(old, next, part))
      if (moved !== undefined && next.spec.auth !== undefined)
        need(step, ['spec', moved], ['secrets'], 'Where the tokens of a login are sent is a matter of')
      // Without isolation the program runs as Chaperone itself and can read its keys.
      const before = old?.spec ?? {}
      const runsBare = next.spec.command !== undefined && next.spec.isolation === 'none'
      if (runsBare && (before.isolation !== 'none' || canonicalJson(before.command ?? []) !== canonicalJson(next.spec.command)))
        need(step, ['spec', 'isolation'], ['ca', 'secrets'], 'A program without isolation can read what is behind')
    }
    if (kind === 'postgres' && next) {
      // The same for passwords of database users, and for the AWS role of Chaperone's own process, which vouches for any user.
      const sent = loginSent(next)
      const moved = LOGIN.find((part) => canonicalJson(old?.spec[part] ?? null) !== canonicalJson(next.spec[part] ?? null))
      if (sent !== undefined && moved !== undefined) need(step, ['spec', ...sent], ['secrets'], 'Where a database login is sent is a matter of')
    }
    if (kind === 'directory') {
      // Whoever says where people come from, and who may come, can come as any of them: the same as to invite somebody anew.
      need(step, [], ['identities'], 'Who comes in from where is a matter of')
      const groups = next && isRecord(next.spec.roles) ? Object.entries(next.spec.roles) : []
      for (const [group, roles] of groups) {
        const had = new Set(stringsIn(old && isRecord(old.spec.roles) ? old.spec.roles[group] : []))
        for (const [i, role] of stringsIn(roles).entries())
          if (!had.has(role)) need(step, ['spec', 'roles', group, i], verbsIn(after)([role]), `The role \`${role}\` gives`)
      }
      // Conditions read traits, and a directory says them of whom it likes.
      const conditional = groups.flatMap(([, roles]) => stringsIn(roles)).filter((role) => hasCondition(after.documents.get(`role/${role}`)))
      if (next && (!old || differs(old, next, 'traits'))) need(step, ['spec', 'traits'], verbsIn(after)(conditional), 'Traits decide over')
      const moved = SENT.find((part) => next && (!old || differs(old, next, part)))
      if (next?.spec.client_secret !== undefined && moved !== undefined)
        need(step, ['spec', moved], ['secrets'], 'Where a secret is sent is a matter of')
    }
    if (kind === 'user' && next && canonicalJson(old?.spec.account ?? null) !== canonicalJson(next.spec.account ?? null))
      need(step, ['spec', 'account'], ['identities'], 'Who may sign in as somebody is a matter of')
    if (kind === 'join' && next) {
      // A way in that stands open is what a join token is for a moment: whoever writes it could be that agent.
      need(step, [], ['issue'], 'By what an agent joins is a matter of')
      const agent = after.identities.get(String(next.spec.agent))
      if (agent && Array.isArray(agent.roles)) need(step, ['spec', 'agent'], verbsIn(after)(agent.roles), `\`${agent.name}\` may do`)
    }
    // It locks in the name of whoever wrote it; and without it nothing is locked any more.
    if (kind === 'tripwire') need(step, [], ['lock'], 'A tripwire makes locks, a matter of')
    if (kind === 'secret') {
      const needed = secretNeeds(old, next)
      if (needed) need(step, needed.path, needed.verbs, needed.what)
    }
    // Whoever says where a client's answers go, or with which key an agent comes, can come as the one or the other.
    if (kind === 'oauth-client') need(step, [], ['identities'], 'Who comes as which client is a matter of')
    if (kind === 'agent' && next && canonicalJson(old?.spec.oauth ?? null) !== canonicalJson(next.spec.oauth ?? null))
      need(step, ['spec', 'oauth'], ['identities'], 'With which keys somebody comes is a matter of')
    if (kind === 'notifier' && next) {
      for (const { path, verb, what } of notifierNeeds(old, next)) need(step, path, [verb], what)
    }
    if ((kind === 'user' || kind === 'agent') && next) {
      const row = before.identities.get(step.name)
      const had = new Set(row?.state === 'active' && Array.isArray(row.roles) ? row.roles : [])
      for (const [i, role] of rolesOf(next).entries()) {
        if (!had.has(role)) need(step, ['spec', 'roles', i], verbsIn(after)([role]), `The role \`${role}\` gives`)
      }
      // Conditions read traits: whoever sets them opens what hangs on them.
      if (row && canonicalJson(row.traits) !== canonicalJson(next.spec.traits)) {
        const conditional = rolesOf(next).filter((role) => hasCondition(after.documents.get(`role/${role}`)))
        need(step, ['spec', 'traits'], verbsIn(after)(conditional), 'Traits decide over')
      }
    }
  }
  return faults
}

/**
 * What decides which program answers. The environment does too: it names libraries to load and folders to search. So do the
 * authority that vouches for it, and headers: `host` names another server at the same address.
 */
const PROGRAM = ['command', 'url', 'env', 'ca', 'headers'] as const

/** What decides where a directory's client secret goes. */
const SENT = ['issuer', 'client_secret', 'ca', 'allow_private'] as const

const stringsIn = (value: unknown): readonly string[] => (Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [])

const differs = (old: PlainDocument, next: PlainDocument, part: string): boolean =>
  canonicalJson(old.spec[part] ?? null) !== canonicalJson(next.spec[part] ?? null)

/** The places in which a server, or what it names as the place to log in, is given a secret. */
const secretsWired = ({ spec }: PlainDocument): readonly Path[] => [
  ...(['env', 'headers'] as const).flatMap((part) =>
    Object.entries(isRecord(spec[part]) ? spec[part] : {})
      .filter(([, value]) => isRecord(value) && value.secret !== undefined)
      .map(([key]): Path => [part, key]),
  ),
  ...secretsIn(spec.auth, ['auth']),
]

/** Every `{ secret: NAME }` below. */
function secretsIn(value: unknown, path: Path): readonly Path[] {
  if (!isRecord(value)) return []
  return Object.entries(value).flatMap(([key, inner]) =>
    isRecord(inner) && typeof inner.secret === 'string' ? [[...path, key]] : secretsIn(inner, [...path, key]),
  )
}

/** What decides which database server gets a login, and which login. */
const LOGIN = ['auth', 'address', 'tls'] as const

/** The place in which a database is given a secret, or the AWS role of this process; undefined where a certificate is made for it. */
const loginSent = ({ spec: { auth } }: PlainDocument): Path | undefined =>
  isRecord(auth) ? (['password', 'aws_iam'] as const).filter((way) => auth[way] !== undefined).map((way): Path => ['auth', way])[0] : undefined

const requestsOf = (document: PlainDocument | undefined): readonly Record<string, unknown>[] =>
  Array.isArray(document?.spec.request) ? document.spec.request.filter(isRecord) : []

const rolesOf = (document: PlainDocument): readonly string[] => (Array.isArray(document.spec.roles) ? (document.spec.roles as string[]) : [])

const hasCondition = (role: PlainDocument | undefined): boolean =>
  role !== undefined &&
  verbsOfRole(role.spec).size > 0 &&
  (['allow', 'ask', 'deny'] as const).some((section) => verbRules(role.spec, section).some((rule) => rule.conditional))
