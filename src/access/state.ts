import { DECIDING, pinOf } from '../catalog/pin-book.ts'
import { type Pin, pinsByServer, type ServerPins } from '../catalog/pins.ts'
import { ChaperoneError } from '../errors.ts'
import type { ChainLink } from '../identity/types.ts'
import { compilePolicy, type Policy } from '../policy/compile.ts'
import type { Identity, Limits, Link, Resource, Vocabulary } from '../policy/types.ts'
import type { Database } from '../store/store.ts'
import type { DelegationTable, IdentityTable, LockTable } from '../store/tables.ts'
import { GRANTING, type GrantRow, type Grants, grantsOf } from './requests/grants.ts'
import type { Resources } from './types.ts'

/** Everything a decision reads, as of one epoch. Immutable but for identities made after it, which are added on first sight. */
export interface State extends Resources {
  readonly epoch: number
  readonly policy: Policy
  readonly locks: readonly LockTable[]
  /** The links of a chain with the roles that count now. Throws `identity_disabled` or `session_ended`: a link that is gone stops the whole chain. */
  links(chain: readonly ChainLink[], now: number): readonly Link[]
  /**
   * The same for administering Chaperone itself: what a client of a person inherits gives nothing there, not even reading
   * the record. The person's own verbs are for the person, who gives a second factor (design 3.3).
   */
  administering(chain: readonly ChainLink[], now: number): readonly Link[]
  /** Somebody was given a role for a while: what may be done changes with the time alone. */
  readonly granting: boolean
  /** When the next of these begins or ends; infinite when none does. */
  grantsChangeAt(now: number): number
  /** The row of an identity in sight, or undefined. */
  identity(id: string): IdentityTable | undefined
  /** The approved definitions of what an MCP server offers. */
  pins(resourceId: string): ServerPins
}

/** Loads and keeps the state; the only place that reads applied documents for deciding. */
export interface StateKeeper {
  current(): State
  /** Loads what the store holds now. Concurrent calls share one load that began after the newest call. */
  refresh(epoch: number): Promise<State>
  /** Makes sure that these identities and delegations are in the current state: new ones do not raise the epoch. */
  see(chain: readonly ChainLink[]): Promise<void>
}

interface Found {
  readonly resource: Resource
  readonly spec: unknown
}

/** A load takes milliseconds; somebody would have to change rights faster than that, all the time. */
const MOST_LOOKS = 50

/**
 * Everything as of one moment. A role read before a change and an identity read after it could together allow what
 * neither state did, so what was read while the epoch rose is read again.
 */
async function readAll(db: Database) {
  const epochNow = async () => (await db.selectFrom('epoch').select('value').where('id', '=', 1).executeTakeFirstOrThrow()).value
  for (let look = 0; look < MOST_LOOKS; look++) {
    const before = await epochNow()
    const rows = await Promise.all([
      db.selectFrom('documents').selectAll().execute(),
      db.selectFrom('locks').selectAll().where('lifted_at', 'is', null).execute(),
      db.selectFrom('identities').selectAll().where('state', '=', 'active').execute(),
      db.selectFrom('delegations').selectAll().where('ended_at', 'is', null).execute(),
      db.selectFrom('pins').select(DECIDING).execute(),
      db.selectFrom('requests').select(GRANTING).where('kind', '=', 'access').where('state', '=', 'approved').execute(),
    ])
    if ((await epochNow()) === before) return rows
  }
  throw new ChaperoneError('store_unavailable', 'Rights change faster than they can be read.')
}

async function load(db: Database, vocabularies: readonly Vocabulary[], epoch: number, revision: number, before: KeptLimits = new Map()) {
  const [documents, locks, identities, delegations, pinned, granted] = await readAll(db)
  const standing = new Set(delegations.map(({ id }) => id))
  const kept: KeptLimits = new Map([...before].filter(([id]) => standing.has(id)))
  const specs = (kind: string) =>
    documents.filter((row) => row.kind === kind).map((row) => ({ name: row.name, spec: JSON.parse(row.spec) as unknown }))
  const policy = compilePolicy({ roles: specs('role'), guardrails: specs('guardrail') }, vocabularies)
  const resources = new Map<string, Map<string, Found>>()
  for (const { id, kind, name, labels, spec } of documents) {
    const ofKind = resources.get(kind) ?? new Map<string, Found>()
    ofKind.set(name, { resource: { kind, id, name, labels: JSON.parse(labels) }, spec: JSON.parse(spec) })
    resources.set(kind, ofKind)
  }
  const pins = pinsByServer(pinned.map((row): [string, Pin] => [row.resource_id, pinOf(row)]))
  return snapshot({ epoch, revision, policy, locks, resources, identities, delegations, pins, granted, kept })
}

interface Loaded {
  readonly epoch: number
  readonly revision: number
  readonly policy: Policy
  readonly locks: readonly LockTable[]
  readonly resources: ReadonlyMap<string, ReadonlyMap<string, Found>>
  readonly identities: readonly IdentityTable[]
  readonly delegations: readonly DelegationTable[]
  readonly pins: State['pins']
  readonly granted: readonly GrantRow[]
  readonly kept: KeptLimits
}

/**
 * The limits of delegations, read once: those of a row never change, and what is compiled of them hangs on the very object. Kept
 * from one state to the next, so that a thousand permits that are judged again after a lock do not compile anything.
 */
type KeptLimits = Map<string, Limits>

/** Roles are all that gives, so nothing else of the limits matters. */
const NO_ROLE_LEFT: Limits = { roles: [] }

function snapshot({
  epoch,
  revision,
  policy,
  locks,
  resources,
  identities,
  delegations,
  pins,
  granted,
  kept,
}: Loaded): State & { readonly kept: KeptLimits; add(row: IdentityTable | DelegationTable): void } {
  const people = new Map(identities.map((row) => [row.id, row]))
  const given = new Map(delegations.map((row) => [row.id, row]))

  const rolesOf = (row: IdentityTable): readonly string[] => {
    if (row.roles !== '"inherit"') return JSON.parse(row.roles) as string[]
    const owner = row.owner_id === null ? undefined : people.get(row.owner_id)
    return owner ? rolesOf(owner) : []
  }

  // Each action asks for its links again; rows of one state never change, so what was made of them is kept.
  const made = new Map<string, Identity>()
  const identityOf = (id: string): Identity => {
    const known = made.get(id)
    if (known) return known
    const identity = makeIdentity(id)
    made.set(id, identity)
    return identity
  }

  const makeIdentity = (id: string): Identity => {
    const row = people.get(id)
    if (!row) throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.', { detail: id })
    // An agent whose owner is gone has nobody who answers for it (design: no agent without an owner).
    if (row.owner_id !== null && !people.has(row.owner_id))
      throw new ChaperoneError('identity_disabled', 'The owner of this agent is disabled or deleted.', { detail: id })
    return {
      id,
      kind: row.kind,
      name: row.name,
      ...(row.owner_id === null ? {} : { ownerId: row.owner_id }),
      traits: JSON.parse(row.traits),
      roles: rolesOf(row),
    }
  }

  const grants: Grants | undefined = grantsOf(granted)
  const linksOf = (chain: readonly ChainLink[], now: number): readonly Link[] => {
    const links = chain.map((link) => linkOf(link, now))
    if (!grants) return links
    return links.map((link, at) => {
      const given = grants.of(chain, at, now)
      return given.length === 0 ? link : { ...link, grants: given }
    })
  }

  const limitsOf = (row: DelegationTable): Limits | undefined => {
    const known = kept.get(row.id)
    if (known || row.limits === '{}') return known
    const limits = JSON.parse(row.limits) as Limits
    kept.set(row.id, limits)
    return limits
  }

  const linkOf = ({ identity, delegation }: ChainLink, now: number): Link => {
    if (delegation === undefined) return { identity: identityOf(identity) }
    const row = given.get(delegation)
    if (!row || row.to_id !== identity || (row.expires_at !== null && row.expires_at <= now)) {
      throw new ChaperoneError('session_ended', 'The delegation that this session rests on has ended.', { detail: delegation })
    }
    const limits = limitsOf(row)
    return { identity: identityOf(identity), delegationId: delegation, ...(limits ? { limits } : {}) }
  }

  return {
    epoch,
    revision,
    policy,
    locks,
    find: (kind, name) => resources.get(kind)?.get(name),
    list: (kind) => [...(resources.get(kind)?.values() ?? [])],
    pins,
    granting: grants !== undefined,
    grantsChangeAt: (now) => grants?.changesAt(now) ?? Number.POSITIVE_INFINITY,
    identity: (id) => people.get(id),
    links: linksOf,
    kept,
    administering: (chain, now) =>
      linksOf(chain, now).map((link) => (people.get(link.identity.id)?.roles === '"inherit"' ? { ...link, limits: NO_ROLE_LEFT } : link)),
    add(row) {
      made.clear()
      if ('from_id' in row) given.set(row.id, row)
      else people.set(row.id, row)
    },
  }
}

export async function keepState(db: Database, vocabularies: readonly Vocabulary[], epoch: number): Promise<StateKeeper> {
  let revision = 0
  let current = await load(db, vocabularies, epoch, revision)
  let loading: { readonly epoch: number; readonly done: Promise<State> } | undefined

  const keeper: StateKeeper = {
    current: () => current,
    async refresh(wanted) {
      if (current.epoch >= wanted) return current
      if (loading && loading.epoch >= wanted) return loading.done
      const before = loading?.done
      const mine = {
        epoch: wanted,
        done: (async () => {
          await before?.catch(() => {})
          const next = await load(db, vocabularies, wanted, ++revision, current.kept)
          if (next.epoch > current.epoch) current = next
          return current
        })(),
      }
      loading = mine
      // A load that failed is tried again by whoever asks next: kept, it would lapse the lease for ever.
      mine.done.catch(() => {
        if (loading === mine) loading = undefined
      })
      return mine.done
    },
    async see(chain) {
      const state = current
      const missing = chain.filter((link) => state.identity(link.identity) === undefined).map((link) => link.identity)
      const identities =
        missing.length === 0 ? [] : await db.selectFrom('identities').selectAll().where('id', 'in', missing).where('state', '=', 'active').execute()
      const given = chain.flatMap((link) => (link.delegation === undefined ? [] : [link.delegation]))
      const delegations =
        given.length === 0 ? [] : await db.selectFrom('delegations').selectAll().where('id', 'in', given).where('ended_at', 'is', null).execute()
      // What was read before a change of rights must not be written over what was loaded after it: that would bring back to
      // life whom the change had stopped.
      if (current !== state) return keeper.see(chain)
      for (const row of [...identities, ...delegations]) state.add(row)
      const owners = identities.flatMap((row) => (row.owner_id !== null && !state.identity(row.owner_id) ? [{ identity: row.owner_id }] : []))
      if (owners.length > 0) await keeper.see(owners)
    },
  }
  return keeper
}
