import { ChaperoneError } from '../../errors.ts'
import type { Limits } from '../../policy/types.ts'
import type { Database } from '../../store/store.ts'
import { createIdentity, findIdentity, type IdentityRecord } from '../directory.ts'
import { actingIn } from '../named.ts'
import { isName } from '../names.ts'
import type { ChainLink, LiveSession, Sessions } from '../types.ts'
import { type DelegatingParts, delegate } from './delegate.ts'
import { type Delegation, MOST_LINKS } from './delegations.ts'

export interface ExchangeParts extends DelegatingParts {
  readonly sessions: Pick<Sessions, 'start' | 'endDelegations'>
  /** Makes what is new known to this node's state. */
  readonly see: (chain: readonly ChainLink[]) => Promise<void>
}

export interface ExchangeAsk {
  /** of the agent that hands on */
  readonly session: LiveSession
  /** name of the agent that shall act for it: of the same owner, or one whose document names it in `may_act` */
  readonly to: string
  readonly limits?: Limits
  /** ms */
  readonly forMs?: number
  /** ms since 1970: the end of the credential that asks, when that cannot be renewed (a token): what is made of it ends with it */
  readonly until?: number
  readonly purpose?: string
  readonly cameFrom?: string
  /** OAuth client that asks */
  readonly client?: string
}

export interface Exchanged {
  readonly identity: { readonly id: string; readonly name: string; readonly kind: 'agent' }
  readonly chain: readonly ChainLink[]
  readonly session: { readonly id: string; readonly expiresAt: number }
  readonly delegation: Delegation
}

/** Sub-agents that one person's agents may bring into being. */
const MOST_MADE = 100

/**
 * One more link: `to` acts for the agent of this session, and for all for whom that acts. Never wider (each link before it is judged
 * as well, with its limits), never longer (it ends with the session it was made in, and with every link). Refusals are recorded.
 * Throws `delegation_refused`, `session_ended`, `locked`, `identity_disabled`, `too_many`, `invalid_document`.
 */
export async function exchange(parts: ExchangeParts, ask: ExchangeAsk): Promise<Exchanged> {
  const { store, audit, clock, sessions } = parts
  const { session } = ask
  const { principal } = session
  session.assertLive()
  const refuse = async (message: string, why: string, fix?: string): Promise<never> => {
    await audit.append({ ...actingIn(session, () => undefined), type: 'delegation.refused', data: { to: ask.to, how: 'exchange', why } })
    throw new ChaperoneError('delegation_refused', message, { detail: why, ...(fix === undefined ? {} : { fix }) })
  }
  if (principal.kind !== 'agent')
    return refuse(
      'Only an agent hands on what it was given.',
      'not an agent',
      'A person gives a client a name: chaperone run, chaperone mcp connect.',
    )
  if (principal.chain.length >= MOST_LINKS)
    return refuse(`A chain has at most ${MOST_LINKS} links, and this one has them.`, 'too many links', 'Hand on from an agent further up.')
  const acting = await findIdentity(store.db, { id: principal.identityId })
  if (!acting) throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
  const found = await findTarget(parts, acting, principal.chain, ask.to)
  if ('why' in found) return refuse(`${ask.to} may not act for ${acting.name}, or there is no such agent.`, found.why, fixOf(acting.name))
  const now = clock.now()
  const row = await store.db.selectFrom('sessions').select(['expires_at', 'ended_at']).where('id', '=', session.id).executeTakeFirst()
  if (!row || row.ended_at !== null) throw new ChaperoneError('session_ended', 'The session is over.')
  const until = Math.min(row.expires_at, ask.until ?? row.expires_at, now + (ask.forMs ?? Number.POSITIVE_INFINITY))
  const to = 'agent' in found ? found.agent : await makeTarget(parts, acting, session, ask.to)
  const parentId = principal.chain.at(-1)?.delegation
  const delegation = await delegate(parts, {
    session,
    from: acting,
    to,
    how: 'exchange',
    bound: true,
    ...(ask.limits === undefined ? {} : { limits: ask.limits }),
    // To the millisecond of whatever ends first: the words name it, and the row holds it.
    forMs: Math.max(1, until - now),
    ...(parentId === undefined ? {} : { parentId }),
    ...(ask.client === undefined ? {} : { client: { name: ask.client } }),
  })
  const chain = [...principal.chain, { identity: to.id, delegation: delegation.id }]
  const made = await begin()
  return { identity: { id: to.id, name: to.name, kind: 'agent' }, chain, session: made, delegation }

  async function begin() {
    try {
      await parts.see(chain)
      const begun = await sessions.start({
        identityId: to.id,
        chain,
        how: 'exchange',
        parentId: session.id,
        lifeMs: Math.max(1, until - clock.now()),
        ...(session.issuerId === undefined ? {} : { issuerId: session.issuerId }),
        ...(ask.purpose === undefined ? {} : { purpose: ask.purpose }),
        ...(ask.cameFrom === undefined ? {} : { cameFrom: ask.cameFrom }),
        ...(ask.client === undefined ? {} : { client: ask.client }),
      })
      // From now on it ends with the session that was made on it, which ends with the one that asked.
      await store.write((trx) => trx.updateTable('delegations').set({ session_id: begun.id }).where('id', '=', delegation.id).execute())
      return begun
    } catch (error) {
      await sessions.endDelegations([delegation.id], 'the session on it did not begin')
      throw error
    }
  }
}

const fixOf = (name: string) => `Name an agent of the same owner, or one whose document says may_act: [${name}].`

/** The agent, one that may be made here, or why neither. */
async function findTarget(
  { store }: Pick<ExchangeParts, 'store'>,
  acting: IdentityRecord,
  chain: readonly ChainLink[],
  name: string,
): Promise<{ readonly agent: IdentityRecord } | { readonly make: true } | { readonly why: string }> {
  const to = await findIdentity(store.db, { name })
  if (!to) return (await mayMake({ store }, acting, chain, name)) ? { make: true } : { why: 'unknown' }
  if (to.kind !== 'agent') return { why: 'not an agent' }
  if (to.state !== 'active') return { why: to.state }
  // Twice in one chain it would act for itself, and a lock would not say for whom.
  if (chain.some(({ identity }) => identity === to.id)) return { why: 'it is in the chain already' }
  if (to.ownerId !== undefined && to.ownerId === acting.ownerId) return { agent: to }
  if ((await mayActFor(store.db, name)).includes(acting.name)) return { agent: to }
  return { why: 'of another owner, and its document does not name who asks' }
}

/** `may_act` of an agent's document: which agents may hand on to it. */
async function mayActFor(db: Database, name: string): Promise<readonly string[]> {
  const row = await db.selectFrom('documents').select('spec').where('kind', '=', 'agent').where('name', '=', name).executeTakeFirst()
  const { may_act } = row ? (JSON.parse(row.spec) as { readonly may_act?: readonly string[] }) : {}
  return may_act ?? []
}

/** `boris/helper`, by an agent that acts for boris: it inherits his roles, and is judged behind every link before it. */
async function mayMake({ store }: Pick<ExchangeParts, 'store'>, acting: IdentityRecord, chain: readonly ChainLink[], name: string): Promise<boolean> {
  const first = chain[0]?.identity
  if (first === undefined || first !== acting.ownerId || !isName('agent', name)) return false
  const owner = await findIdentity(store.db, { id: first })
  return owner?.kind === 'user' && owner.state === 'active' && name.startsWith(`${owner.name}/`)
}

async function makeTarget(
  { store, audit, clock }: ExchangeParts,
  acting: IdentityRecord,
  session: LiveSession,
  name: string,
): Promise<IdentityRecord> {
  const ownerId = acting.ownerId!
  const { count } = await store.db
    .selectFrom('identities')
    .select((of) => of.fn.countAll<number>().as('count'))
    .where('owner_id', '=', ownerId)
    .where('source', '=', 'client')
    .executeTakeFirstOrThrow()
  if (Number(count) >= MOST_MADE)
    throw new ChaperoneError('too_many', `There are ${MOST_MADE} clients and sub-agents already.`, { fix: 'Use the name of one of them.' })
  await audit.append({
    ...actingIn(session, () => undefined),
    type: 'identity.changed',
    data: { op: 'create', kind: 'agent', name, owner: ownerId, why: 'first use of a sub-agent' },
  })
  return store.write((trx) => createIdentity(trx, { kind: 'agent', name, ownerId, roles: 'inherit', source: 'client', now: clock.now() }))
}
