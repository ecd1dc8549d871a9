import { createHash } from 'node:crypto'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { ChaperoneError } from '../errors.ts'
import { listDelegations } from '../identity/delegation/delegations.ts'
import { findIdentity } from '../identity/directory.ts'
import { type GovernedAgent, loadAgents } from '../identity/govern.ts'
import type { RuleSpec } from '../policy/rule.ts'
import { ruleWords } from '../policy/rule-words.ts'
import type { Section } from '../policy/types.ts'
import type { AgentDetail, AgentRole } from './agents-contract.ts'
import { agentRow, countInstances, instancesOf } from './agents-rows.ts'
import { ruleKey, type Usage, usageOf } from './agents-usage.ts'
import type { ApiParts } from './parts.ts'

const MOST_SHOWN = 20
const SECTIONS = ['allow', 'ask', 'deny'] as const satisfies readonly Section[]

/** The agent of this name or id that is not deleted. Throws `not_found`. */
export async function knownAgent({ store }: Pick<ApiParts, 'store'>, nameOrId: string): Promise<GovernedAgent> {
  const identity = (await findIdentity(store.db, { name: nameOrId })) ?? (await findIdentity(store.db, { id: nameOrId }))
  const [agent] = identity?.kind === 'agent' ? await loadAgents(store.db, { id: identity.id }) : []
  if (!agent) throw new ChaperoneError('not_found', `There is no agent ${nameOrId}.`, { fix: 'See: chaperone agent ls --agents' })
  return agent
}

/** All that somebody must know who answers for an agent. `reads`: he may know what the record says of it. */
export async function agentDetail(parts: ApiParts, agent: GovernedAgent, reads: boolean): Promise<AgentDetail> {
  const usage = reads ? await usageOf(parts, agent) : undefined
  const holds = rolesOf(parts, agent, usage)
  const gives = holds.flatMap(({ rules }) => rules.filter(({ section }) => section !== 'deny'))
  const { rules: _, ...told } = usage ?? { rules: undefined }
  return {
    ...(await rowWithNames(parts, agent)),
    running: (await instancesOf(parts, { agentId: agent.id, limit: MOST_SHOWN })).instances,
    joins: joinsOf(parts, agent.name),
    openTokens: await openTokens(parts, agent.id),
    delegations: await delegationsOf(parts, agent.id),
    holds,
    ...(usage ? { usage: { ...(told as Omit<Usage, 'rules'>), unused: gives.filter(({ used }) => used === false).length } } : {}),
    seen: seenOf(parts, agent),
  }
}

/** The agents' rows, with the names of those who reviewed them. */
export async function rowsWithNames(parts: Pick<ApiParts, 'store' | 'clock'>, agents: readonly GovernedAgent[]) {
  const instances = await countInstances(parts)
  const ids = [...new Set(agents.flatMap(({ reviewedBy }) => reviewedBy ?? []))].slice(0, 1000)
  const rows = ids.length === 0 ? [] : await parts.store.db.selectFrom('identities').select(['id', 'name']).where('id', 'in', ids).execute()
  const names = new Map(rows.map(({ id, name }) => [id, name]))
  return agents.map((agent) => agentRow(agent, instances, (id) => names.get(id)))
}

export const rowWithNames = async (parts: Pick<ApiParts, 'store' | 'clock'>, agent: GovernedAgent) => (await rowsWithNames(parts, [agent]))[0]!

/** The roles that count for it now: those of its owner, where it inherits. */
function roleNames({ state }: Pick<ApiParts, 'state'>, { roles, ownerId }: GovernedAgent): readonly string[] {
  if (roles !== 'inherit') return roles
  const owner = ownerId === null ? undefined : state.current().identity(ownerId)
  const own = owner ? (JSON.parse(owner.roles) as readonly string[] | 'inherit') : []
  return own === 'inherit' ? [] : own
}

type RoleDocument = Partial<Record<Section, readonly RuleSpec[]>> & { readonly request?: readonly { readonly role?: unknown }[] }

const documentOf = ({ state }: Pick<ApiParts, 'state'>, role: string) => state.current().find('role', role)?.spec as RoleDocument | undefined

function rolesOf(parts: ApiParts, agent: GovernedAgent, usage: Usage | undefined): readonly AgentRole[] {
  const kinds = parts.vocabularies.map(({ kind }) => kind)
  return roleNames(parts, agent).map((name): AgentRole => {
    const spec = documentOf(parts, name)
    if (!spec) return { name, missing: true, rules: [], mayAsk: [] }
    const rules = SECTIONS.flatMap((section) =>
      (spec[section] ?? []).map((rule, index) => ({
        section,
        index,
        words: ruleWords(rule, section, kinds),
        ...(usage && section !== 'deny' ? { used: usage.rules.has(ruleKey(name, section, index)) } : {}),
      })),
    )
    return { name, rules, mayAsk: (spec.request ?? []).flatMap(({ role }) => (typeof role === 'string' ? [role] : [])) }
  })
}

/** What a review is about: whose it is, and all that its roles say. Whoever keeps it has seen exactly this. */
export function seenOf(parts: Pick<ApiParts, 'state'>, agent: GovernedAgent): string {
  const roles = roleNames(parts, agent).map((name) => [name, (documentOf(parts, name) ?? null) as never])
  return createHash('sha256')
    .update(canonicalJson([agent.id, agent.ownerId, agent.state, roles]))
    .digest('hex')
    .slice(0, 32)
}

/** Documents of kind `join` that speak of this agent. */
function joinsOf({ state }: Pick<ApiParts, 'state'>, agent: string): AgentDetail['joins'] {
  return state
    .current()
    .list('join')
    .flatMap(({ resource, spec }) => {
      const { agent: of, method } = spec as { readonly agent?: string; readonly method?: string }
      return of === agent ? [{ name: resource.name, method: method ?? '' }] : []
    })
}

async function openTokens({ store, clock }: Pick<ApiParts, 'store' | 'clock'>, id: string): Promise<number> {
  const { count } = await store.db
    .selectFrom('invitations')
    .select((is) => is.fn.countAll<number>().as('count'))
    .where('identity_id', '=', id)
    .where('kind', '=', 'join')
    .where('used_at', 'is', null)
    .where('expires_at', '>', clock.now())
    .executeTakeFirstOrThrow()
  return Number(count)
}

async function delegationsOf({ store, clock }: Pick<ApiParts, 'store' | 'clock'>, id: string): Promise<AgentDetail['delegations']> {
  const now = clock.now()
  const found = [
    ...(await listDelegations(store.db, { toId: id, now, limit: MOST_SHOWN })),
    ...(await listDelegations(store.db, { fromId: id, now, limit: MOST_SHOWN })),
  ]
  const ids = [...new Set(found.flatMap(({ fromId, toId }) => [fromId, toId]))]
  const rows = ids.length === 0 ? [] : await store.db.selectFrom('identities').select(['id', 'name']).where('id', 'in', ids).execute()
  const names = new Map(rows.map((row) => [row.id, row.name]))
  return found.map(({ id: delegation, fromId, toId, how, client, words, createdAt, expiresAt }) => ({
    id: delegation,
    from: names.get(fromId) ?? fromId,
    to: names.get(toId) ?? toId,
    ...(how === undefined ? {} : { how }),
    ...(client === undefined ? {} : { client }),
    ...(words === undefined ? {} : { words }),
    createdAt,
    ...(expiresAt === undefined ? {} : { expiresAt }),
  }))
}
