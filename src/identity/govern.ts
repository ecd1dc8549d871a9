import type { AuditLog, Draft } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { Database, Store, Write } from '../store/store.ts'
import type { IdentityTable } from '../store/tables.ts'
import { type Governed, type Step, stepFor, type Terms, termsOf } from './terms.ts'

/** What is told of an agent that is about to be stopped, or was. */
export interface AgentNotice {
  readonly type: 'due' | 'stopped'
  readonly agent: { readonly id: string; readonly name: string; readonly ownerId?: string }
  readonly why: 'unused' | 'unreviewed' | 'owner'
  /** of `due`: ms since 1970 */
  readonly stopsAt?: number
}

export interface GoverningParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  /** The epoch has risen by a change made here: resolves when no node acts on what was before. */
  readonly raised: (epoch: number) => Promise<void>
  /** Told inside the transaction of the change. */
  readonly told: (trx: Write, notice: AgentNotice) => Promise<void>
  /** Throws `conflict` when nobody would be left who administers Chaperone. Asked inside the transaction that stops an agent. */
  readonly administratorLeft: (trx: Write) => Promise<void>
  readonly failed: (error: unknown) => void
}

/** An agent, with what its governance depends on. */
export interface GovernedAgent extends Governed {
  readonly id: string
  readonly name: string
  readonly ownerId: string | null
  readonly ownerName: string | null
  readonly roles: readonly string[] | 'inherit'
  readonly traits: Readonly<Record<string, unknown>>
  readonly source: string
  readonly reviewedBy: string | null
  readonly terms: Terms
}

/** The agents that are not deleted, by name; of `id` alone, of one owner, or all (at most 10,000). One query. */
export async function loadAgents(
  db: Database | Write,
  of: { readonly id?: string; readonly ownerId?: string; readonly limit?: number } = {},
): Promise<readonly GovernedAgent[]> {
  let query = db
    .selectFrom('identities')
    .leftJoin('identities as owner', 'owner.id', 'identities.owner_id')
    .leftJoin('documents', (join) => join.onRef('documents.name', '=', 'identities.name').on('documents.kind', '=', 'agent'))
    .selectAll('identities')
    .select(['owner.name as owner_name', 'owner.state as owner_state', 'documents.spec'])
    .where('identities.kind', '=', 'agent')
    .where('identities.state', '!=', 'deleted')
  if (of.id !== undefined) query = query.where('identities.id', '=', of.id)
  if (of.ownerId !== undefined) query = query.where('identities.owner_id', '=', of.ownerId)
  const rows = await query
    .orderBy('identities.name')
    .limit(Math.min(of.limit ?? MOST_AGENTS, MOST_AGENTS))
    .execute()
  return rows.map((row) => ({
    id: row.id,
    name: row.name,
    ownerId: row.owner_id,
    ownerName: row.owner_name,
    ownerState: row.owner_state ?? undefined,
    state: row.state,
    stopped: row.stopped,
    source: row.source,
    createdAt: row.created_at,
    reviewedAt: row.reviewed_at,
    reviewedBy: row.reviewed_by,
    lastUsedAt: row.last_used_at,
    stopsAt: row.stops_at,
    toldAt: row.told_at,
    roles: JSON.parse(row.roles) as readonly string[] | 'inherit',
    traits: JSON.parse(row.traits) as Record<string, unknown>,
    terms: termsOf(row.source, row.spec === null ? undefined : JSON.parse(row.spec)),
  }))
}

const MOST_AGENTS = 10_000

/** Looks once at every agent, and does what is due. Nodes may do so at the same moment: each step is done by one of them. */
export async function governAgents(parts: GoverningParts): Promise<void> {
  for (const agent of await loadAgents(parts.store.db)) {
    const step = stepFor(agent, agent.terms, parts.clock.now())
    if (!step) continue
    try {
      await take(parts, agent, step)
    } catch (error) {
      // One agent that cannot be stopped (the last administrator) keeps no other going.
      parts.failed(error)
    }
  }
}

async function take(parts: GoverningParts, agent: GovernedAgent, step: Step): Promise<void> {
  const { store, clock } = parts
  const now = clock.now()
  const about = { id: agent.id, name: agent.name, ...(agent.ownerId === null ? {} : { ownerId: agent.ownerId }) }
  switch (step.do) {
    case 'tell': {
      const { why, stopsAt } = step
      await store.write(async (trx) => {
        if (await changed(trx, agent, { stops_at: stopsAt, told_at: now })) await parts.told(trx, { type: 'due', agent: about, why, stopsAt })
      })
      return
    }
    case 'forget':
      await store.write((trx) => changed(trx, agent, { stops_at: null, told_at: null }))
      return
    case 'owner back':
      await store.write((trx) => changed(trx, agent, { stopped: null }))
      return
    case 'owner gone':
      // What it may do has ended with its owner; this says so.
      await parts.audit.append(recordOf(agent, 'owner'))
      await store.write(async (trx) => {
        if (await changed(trx, agent, { stopped: 'owner' })) await parts.told(trx, { type: 'stopped', agent: about, why: 'owner' })
      })
      return
    case 'stop':
      return stop(parts, agent, step.why, about)
  }
}

async function stop(parts: GoverningParts, seen: GovernedAgent, why: 'unused' | 'unreviewed', about: AgentNotice['agent']): Promise<void> {
  const { store, clock, audit } = parts
  const now = clock.now()
  if (why === 'unused' && (await usedSince(store, seen, now))) return
  // Asked before the record, so that no record tells of what is not done; and once more where nobody can come between.
  const stillDue = async (db: Database | Write) => {
    const [agent] = await loadAgents(db, { id: seen.id })
    return agent !== undefined && stepFor(agent, agent.terms, now)?.do === 'stop'
  }
  if (!(await stillDue(store.db))) return
  const { id: permit } = await audit.append(recordOf(seen, why))
  try {
    const { epoch } = await store.reduce(async (trx) => {
      if (!(await stillDue(trx))) return
      await trx
        .updateTable('identities')
        .set({ state: 'disabled', stopped: why, stops_at: null, told_at: null, updated_at: now })
        .where('id', '=', seen.id)
        .execute()
      await parts.administratorLeft(trx)
      await parts.told(trx, { type: 'stopped', agent: about, why })
    })
    await parts.raised(epoch)
  } catch (error) {
    const reason = error instanceof ChaperoneError ? error.code : 'store_unavailable'
    await audit.append({ ...recordOf(seen, why), permit, outcome: { status: 'failed', reason } })
    throw error
  }
}

/** What is written down of an agent may be older than what its sessions know: a store that was upgraded, or set back. Then it is mended. */
async function usedSince(store: Store, { id, lastUsedAt, terms }: GovernedAgent, now: number): Promise<boolean> {
  const row = await store.db
    .selectFrom('sessions')
    .select((is) => is.fn.max('last_used_at').as('used'))
    .where('identity_id', '=', id)
    .where('last_used_at', '<=', now)
    .executeTakeFirst()
  const used = row?.used ?? 0
  if (used <= (lastUsedAt ?? 0) || used <= now - (terms.unusedMs ?? 0)) return false
  await store.write((trx) => trx.updateTable('identities').set({ last_used_at: used }).where('id', '=', id).execute())
  return true
}

/** Only a row that nobody has changed since it was read: of two nodes one does it, and a use or a review in between wins. */
async function changed(
  trx: Write,
  { id, state, stopped, stopsAt, toldAt, lastUsedAt, reviewedAt }: GovernedAgent,
  to: Partial<Pick<IdentityTable, 'stopped' | 'stops_at' | 'told_at'>>,
): Promise<boolean> {
  const { numUpdatedRows } = await trx
    .updateTable('identities')
    .set(to)
    .where('id', '=', id)
    .where('state', '=', state)
    .where('stopped', 'is not distinct from', stopped)
    .where('stops_at', 'is not distinct from', stopsAt)
    .where('told_at', 'is not distinct from', toldAt)
    .where('last_used_at', 'is not distinct from', lastUsedAt)
    .where('reviewed_at', 'is not distinct from', reviewedAt)
    .executeTakeFirstOrThrow()
  return numUpdatedRows > 0n
}

const recordOf = ({ id, name, ownerName, lastUsedAt, reviewedAt }: GovernedAgent, why: string): Draft => ({
  type: 'agent.stopped',
  actor: { id, name, kind: 'agent' },
  data: {
    why,
    ...(ownerName === null ? {} : { owner: ownerName }),
    ...(lastUsedAt === null ? {} : { lastUsedAt }),
    ...(reviewedAt === null ? {} : { reviewedAt }),
  },
})
