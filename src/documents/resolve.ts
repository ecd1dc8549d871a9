import { notifierInWorld } from './notifiers.ts'
import { oauthClientInWorld } from './oauth-clients.ts'
import { privateIssuer } from './private-places.ts'
import { profileInWorld } from './profiles.ts'
import { isRecord } from './read.ts'
import { identityFaults, ownerFaults, peopleFaults, roleFaults, selectorFaults } from './references.ts'
import { secretInWorld } from './secrets.ts'
import type { Fault, Path, PlainDocument } from './types.ts'
import type { World } from './world.ts'

/** A fault between documents; `path` counts from the root of the document `of` (its key). */
export interface CrossFault extends Fault {
  readonly of: string
  readonly level: 'error' | 'warning'
}

/** What does not fit together. Pure; the same for documents that were just written and for those applied long ago. */
export function crossCheck(world: World): readonly CrossFault[] {
  return [...world.documents].flatMap(([key, document]) =>
    [...faultsOf(document, world)].map((fault) => ({ ...fault, level: fault.level ?? 'error', of: key })),
  )
}

function* faultsOf(document: PlainDocument, world: World): Generator<Fault> {
  switch (document.kind) {
    case 'user':
    case 'agent':
      return yield* identityDocument(document, world)
    case 'mcp':
      return yield* mcpDocument(document, world)
    case 'directory':
      return yield* directoryDocument(document, world)
    case 'join':
      return yield* joinDocument(document, world)
    case 'tripwire':
      return yield* identityFaults(document.spec.except, ['spec', 'except'], world)
    case 'notifier':
      return yield* notifierInWorld(document, world)
    case 'oauth-client':
      return yield* oauthClientInWorld(document, world)
    case 'profile':
      return yield* profileInWorld(document, world)
    case 'secret':
      return yield* secretInWorld(document, world)
    case 'role':
    case 'guardrail':
      return yield* policyDocument(document, world)
  }
}

function* identityDocument({ kind, name, spec }: PlainDocument, world: World): Generator<Fault> {
  const there = world.identities.get(name)
  const used = (message: string): Fault => ({ path: ['name'], message, fix: 'Choose another name.' })
  if (there && there.kind !== kind) yield used(`The name \`${name}\` belongs to ${there.kind === 'agent' ? 'an agent' : `a ${there.kind}`}.`)
  if (there?.state === 'deleted') yield used(`The name \`${name}\` was used by an identity that was deleted; names are never used again.`)
  yield* roleFaults(spec.roles, ['spec', 'roles'], world)
  if (isRecord(spec.account) && !world.documents.has(`directory/${spec.account.directory}`)) {
    const message = `There is no directory \`${spec.account.directory}\`.`
    yield { path: ['spec', 'account', 'directory'], message, fix: 'Apply it first, or together with this.' }
  }
  yield* mayActFaults(spec.may_act, world)
  // A disabled agent may keep an owner who is gone: nobody answers for it, and it does nothing.
  if (kind === 'agent' && spec.state !== 'disabled') yield* ownerFaults(spec.owner, ['spec', 'owner'], world)
}

/** A person's program is an agent from its first use on, which may be tomorrow; and any other may be applied later. */
function* mayActFaults(names: unknown, world: World): Generator<Fault> {
  for (const [i, name] of (Array.isArray(names) ? names : []).entries()) {
    const person = String(name).split('/', 1)[0]!
    if (name !== person && world.identities.get(person)?.kind === 'user') continue
    for (const fault of identityFaults([name], ['spec', 'may_act'], world)) yield { ...fault, path: ['spec', 'may_act', i], level: 'warning' }
  }
}

function* directoryDocument({ spec }: PlainDocument, world: World): Generator<Fault> {
  yield* privateIssuer(spec, ['spec'])
  for (const [group, roles] of Object.entries(isRecord(spec.roles) ? spec.roles : {})) yield* roleFaults(roles, ['spec', 'roles', group], world)
  const scim = isRecord(spec.scim) ? [spec.scim.token].flat() : []
  for (const [path, value] of [['client_secret', spec.client_secret] as const, ...scim.map((one) => ['scim', one] as const)]) {
    if (!isRecord(value) || typeof value.secret !== 'string' || world.secrets.has(value.secret)) continue
    yield {
      path: ['spec', path],
      level: 'warning',
      message: `There is no secret \`${value.secret}\` yet; ${path === 'scim' ? 'the directory is refused' : 'nobody can sign in'} until there is.`,
      fix: `Set it: chaperone secret set ${value.secret}`,
    }
  }
}

/** Nobody joins as a person: people sign in. */
function* joinDocument({ spec }: PlainDocument, world: World): Generator<Fault> {
  const found = world.identities.get(String(spec.agent))
  const path = ['spec', 'agent']
  if (found && found.kind !== 'agent') yield { path, message: `\`${spec.agent}\` is no agent, and only agents join.` }
  else yield* identityFaults(spec.agent, path, world)
  const method = String(spec.method)
  yield* privateIssuer(spec[method], ['spec', method])
}

function* mcpDocument({ spec }: PlainDocument, { secrets }: World): Generator<Fault> {
  for (const part of ['env', 'headers'] as const) {
    for (const [key, value] of Object.entries(isRecord(spec[part]) ? spec[part] : {})) {
      if (!isRecord(value) || typeof value.secret !== 'string' || secrets.has(value.secret)) continue
      yield {
        path: ['spec', part, key],
        level: 'warning',
        message: `There is no secret \`${value.secret}\` yet; the server cannot start without it.`,
        fix: `Set it: chaperone secret set ${value.secret}`,
      }
    }
  }
}

/** The kinds whose documents are resources that rules select by name or labels. */
const RESOURCE_KINDS = ['mcp', 'postgres'] as const

function* policyDocument({ spec }: PlainDocument, world: World): Generator<Fault> {
  if (isRecord(spec.for)) {
    yield* roleFaults(spec.for.roles, ['spec', 'for', 'roles'], world)
    yield* identityFaults(spec.for.names, ['spec', 'for', 'names'], world)
  }
  for (const section of ['allow', 'ask', 'deny', 'limit', 'request']) {
    for (const [i, rule] of (Array.isArray(spec[section]) ? spec[section] : []).entries()) {
      if (!isRecord(rule)) continue
      const path = ['spec', section, i]
      if (section === 'request') yield* roleFaults(rule.role, [...path, 'role'], world)
      yield* approverFaults(rule.approvers, [...path, 'approvers'], world)
      if (isRecord(rule.escalate)) yield* approverFaults(rule.escalate.approvers, [...path, 'escalate', 'approvers'], world)
      for (const kind of RESOURCE_KINDS) if (kind in rule) yield* selectorFaults(kind, rule[kind], [...path, kind], world)
    }
  }
}

/** A question that nobody can answer: its approvers name a role, or people, that are not there. */
function* approverFaults(approvers: unknown, path: Path, world: World): Generator<Fault> {
  if (!isRecord(approvers)) return
  yield* roleFaults(approvers.role, [...path, 'role'], world)
  yield* peopleFaults(approvers.users, [...path, 'users'], world)
  for (const [i, group] of (Array.isArray(approvers.all) ? approvers.all : []).entries()) yield* approverFaults(group, [...path, 'all', i], world)
}
