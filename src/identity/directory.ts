import { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { Database, Write } from '../store/store.ts'
import type { IdentityTable } from '../store/tables.ts'
import { ownChanged } from './given.ts'
import { assertName } from './names.ts'

/** A user, agent or node, as the store knows it. */
export interface IdentityRecord {
  readonly id: string
  readonly kind: IdentityTable['kind']
  readonly name: string
  readonly ownerId?: string
  readonly state: IdentityTable['state']
  readonly traits: Readonly<Record<string, unknown>>
  /** `inherit`: the roles of the owner, whatever they are at the moment */
  readonly roles: readonly string[] | 'inherit'
  readonly source: string
  readonly createdAt: number
  readonly updatedAt: number
}

export interface CreateIdentity {
  readonly kind: IdentityTable['kind']
  readonly name: string
  /** Agents need one: an active user. Others have none. */
  readonly ownerId?: string
  readonly traits?: Readonly<Record<string, unknown>>
  readonly roles?: readonly string[] | 'inherit'
  /** `document`, `client`, `bootstrap` */
  readonly source: string
  readonly now: number
}

const PREFIX = { user: 'usr', agent: 'agt', node: 'nod' } as const

/** A listing never holds more; who has more identities than this asks by name. */
const LONGEST_LIST = 10_000

/** The identity by id or name, deleted ones too, or undefined. */
export async function findIdentity(
  db: Database | Write,
  by: { readonly id: string } | { readonly name: string },
): Promise<IdentityRecord | undefined> {
  const query = db.selectFrom('identities').selectAll()
  const row = await ('id' in by ? query.where('id', '=', by.id) : query.where('name', '=', by.name)).executeTakeFirst()
  return row && toRecord(row)
}

/** Identities that are not deleted, by name. */
export async function listIdentities(
  db: Database | Write,
  options: { readonly kind?: IdentityTable['kind']; readonly ownerId?: string; readonly limit?: number } = {},
): Promise<IdentityRecord[]> {
  let query = db.selectFrom('identities').selectAll().where('state', '!=', 'deleted')
  if (options.kind !== undefined) query = query.where('kind', '=', options.kind)
  if (options.ownerId !== undefined) query = query.where('owner_id', '=', options.ownerId)
  const rows = await query
    .orderBy('name')
    .limit(Math.min(options.limit ?? LONGEST_LIST, LONGEST_LIST))
    .execute()
  return rows.map(toRecord)
}

/**
 * Makes an identity. Throws `usage` for a bad name or owner, `conflict` for a name that is or ever was in use: records
 * and grants of the past speak of names, and a second bearer of one would inherit them.
 */
export async function createIdentity(trx: Write, ask: CreateIdentity): Promise<IdentityRecord> {
  const owner = await ownerFor(trx, ask)
  assertName(ask.kind, ask.name, owner?.name)
  const row: IdentityTable = {
    id: newId(PREFIX[ask.kind], ask.now),
    kind: ask.kind,
    name: ask.name,
    owner_id: owner?.id ?? null,
    state: 'active',
    traits: JSON.stringify(ask.traits ?? {}),
    roles: JSON.stringify(ask.roles ?? []),
    source: ask.source,
    created_at: ask.now,
    updated_at: ask.now,
    reviewed_at: null,
    reviewed_by: null,
    last_used_at: null,
    stopped: null,
    stops_at: null,
    told_at: null,
    given: null,
  }
  // The unique index on `name` decides between racers; a failed insert would end the transaction on PostgreSQL.
  await trx
    .insertInto('identities')
    .values(row)
    .onConflict((conflict) => conflict.doNothing())
    .execute()
  const there = await findIdentity(trx, { name: ask.name })
  if (there?.id !== row.id) {
    throw new ChaperoneError(
      'conflict',
      `The name ${ask.name} is taken${there?.state === 'deleted' ? ' by an identity that was deleted; names are never used again' : ''}.`,
      {
        fix: 'Choose another name.',
      },
    )
  }
  return there
}

async function ownerFor(trx: Write, { kind, name, ownerId }: CreateIdentity): Promise<IdentityRecord | undefined> {
  if (kind !== 'agent') {
    if (ownerId !== undefined) throw new ChaperoneError('usage', `A ${kind} has no owner.`)
    return undefined
  }
  if (ownerId === undefined) throw new ChaperoneError('usage', `The agent ${name} needs an owner.`, { fix: 'Name the user who answers for it.' })
  const owner = await findIdentity(trx, { id: ownerId })
  if (owner?.kind !== 'user' || owner.state !== 'active') throw new ChaperoneError('usage', `The owner of the agent ${name} is not an active user.`)
  return owner
}

/** Changes traits, roles or owner; a change of roles may reduce rights, so call it inside `store.reduce`. Throws `not_found`, `usage`. */
export async function updateIdentity(
  trx: Write,
  id: string,
  change: {
    readonly traits?: Readonly<Record<string, unknown>>
    readonly roles?: readonly string[] | 'inherit'
    readonly ownerId?: string
    readonly now: number
  },
): Promise<IdentityRecord> {
  const before = await existing(trx, id)
  const { given } = await trx.selectFrom('identities').select('given').where('id', '=', id).executeTakeFirstOrThrow()
  const { ownerId: _, now: __, roles, ...rest } = change
  // What a directory gave stays beside what is said here; only people have any of that.
  const held =
    roles === 'inherit' ? { ...ownChanged(given, rest), roles: JSON.stringify(roles) } : ownChanged(given, { ...rest, ...(roles ? { roles } : {}) })
  if (change.ownerId !== undefined && change.ownerId !== before.ownerId) {
    const owner = await ownerFor(trx, { ...before, ownerId: change.ownerId, now: change.now })
    // `boris/claude-code` says by its name whose it is; it cannot become somebody else's.
    assertName(before.kind, before.name, owner?.name)
  }
  await trx
    .updateTable('identities')
    .set({
      updated_at: change.now,
      ...held,
      ...(change.ownerId === undefined ? {} : { owner_id: change.ownerId }),
    })
    .where('id', '=', id)
    .execute()
  return existing(trx, id)
}

/**
 * Disables, enables or deletes. Call it inside `store.reduce`. Deleting is for ever: the row stays and keeps its name. Waking up an
 * agent is a review of it, by `by`; else it would be stopped again for what it was stopped for. Throws `not_found`.
 */
export async function setIdentityState(trx: Write, id: string, state: IdentityTable['state'], now: number, by?: string): Promise<IdentityRecord> {
  const before = await existing(trx, id)
  const isReview = state === 'active' && before.kind === 'agent'
  await trx
    .updateTable('identities')
    .set({
      state,
      updated_at: now,
      stopped: null,
      ...(isReview ? { stops_at: null, told_at: null, reviewed_at: now, reviewed_by: by ?? null } : {}),
    })
    .where('id', '=', id)
    .execute()
  if (state === 'deleted') {
    // What could bring it back to life goes with it: devices, factors, browsers, passkeys, open invitations. Delegations either way stand no more, and are ended on record by the sweep.
    await trx.updateTable('devices').set({ revoked_at: now }).where('identity_id', '=', id).where('revoked_at', 'is', null).execute()
    await trx.deleteFrom('factors').where('identity_id', '=', id).execute()
    await trx.updateTable('browsers').set({ revoked_at: now }).where('identity_id', '=', id).where('revoked_at', 'is', null).execute()
    await trx.updateTable('passkeys').set({ revoked_at: now }).where('identity_id', '=', id).where('revoked_at', 'is', null).execute()
    await trx.deleteFrom('invitations').where('identity_id', '=', id).where('used_at', 'is', null).execute()
  }
  return { ...before, state, updatedAt: now }
}

async function existing(trx: Write, id: string): Promise<IdentityRecord> {
  const identity = await findIdentity(trx, { id })
  if (!identity || identity.state === 'deleted') throw new ChaperoneError('not_found', 'There is no such identity.')
  return identity
}

/** The agent that a client of this person would be: an agent of his own of exactly that name, else `<person>/<client>`. Throws `identity_disabled` when it may not act. */
export async function lookForClient(
  db: Database | Write,
  owner: Pick<IdentityRecord, 'id' | 'name'>,
  client: string,
): Promise<{ readonly name: string; readonly known?: IdentityRecord }> {
  const own = await findIdentity(db, { name: client })
  const isOwn = own?.kind === 'agent' && own.ownerId === owner.id
  const name = isOwn ? own.name : `${owner.name}/${client}`
  const known = isOwn ? own : await findIdentity(db, { name })
  if (!known) return { name }
  if (known.state === 'active') return { name, known }
  throw new ChaperoneError('identity_disabled', `${name} is disabled or deleted.`, {
    detail: known.id,
    ...(known.state === 'disabled' ? { fix: `See why: chaperone agent show ${name}. Who may wakes it up: chaperone agent enable ${name}` } : {}),
  })
}

function toRecord(row: IdentityTable): IdentityRecord {
  return {
    id: row.id,
    kind: row.kind,
    name: row.name,
    ...(row.owner_id === null ? {} : { ownerId: row.owner_id }),
    state: row.state,
    traits: JSON.parse(row.traits) as Record<string, unknown>,
    roles: JSON.parse(row.roles) as readonly string[] | 'inherit',
    source: row.source,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  }
}
