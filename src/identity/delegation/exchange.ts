import { ChaperoneError } from '../../errors.ts'
import type { Limits } from '../../policy/types.ts'
import type { Database } from '../../store/store.ts'
import { findIdentity, type IdentityRecord } from '../directory.ts'
import { actingIn } from '../named.ts'
import { isName } from '../names.ts'
import type { ChainLink, LiveSession } from '../types.ts'
import { type ActForParts, actInSession } from './act-for.ts'
import { type Delegation, MOST_LINKS } from './delegations.ts'
import { makeOwnAgent } from './own-agent.ts'

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
  /** the operator who issued what `to` shows of itself: he may hold its key; absent: whoever issued what `session` shows */
  readonly issuerId?: string
}

export interface Exchanged {
  readonly identity: { readonly id: string; readonly name: string; readonly kind: 'agent' }
  readonly chain: readonly ChainLink[]
  readonly session: { readonly id: string; readonly expiresAt: number }
  readonly delegation: Delegation
}

/**
 * One more link: `to` acts for the agent of this session, and for all for whom that acts. Never wider (each link before it is judged
 * as well, with its limits), never longer (it ends with the session it was made in, and with every link). Refusals are recorded.
 * `give` hands out its credential; fails that, it is all taken back. Throws `delegation_refused`, `session_ended`, `locked`, `identity_disabled`, `too_many`, `invalid_document`.
 */
export async function exchange<T>(parts: ActForParts, ask: ExchangeAsk, give: (made: Exchanged) => Promise<T>): Promise<T> {
  const { store, audit, clock } = parts
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
  const to =
    'agent' in found
      ? found.agent
      : await makeOwnAgent(parts, { by: actingIn(session, () => undefined), owner: found.owner, name: ask.to, why: 'first use of a sub-agent' })
  const parentId = principal.chain.at(-1)?.delegation
  return actInSession(
    parts,
    {
      agreed: session,
      above: principal.chain,
      from: acting,
      to,
      how: 'exchange',
      bound: true,
      ...(ask.limits === undefined ? {} : { limits: ask.limits }),
      // To the millisecond of whatever ends first: the words name it, and the row holds it.
      forMs: Math.max(1, until - now),
      ...(parentId === undefined ? {} : { parentId }),
      ...(ask.client === undefined ? {} : { client: { name: ask.client } }),
      start: {
        how: 'exchange',
        parentId: session.id,
        lifeMs: Math.max(1, until - now),
        ...(ask.purpose === undefined ? {} : { purpose: ask.purpose }),
        ...(ask.cameFrom === undefined ? {} : { cameFrom: ask.cameFrom }),
        ...(ask.client === undefined ? {} : { client: ask.client }),
        ...(ask.issuerId === undefined ? {} : { issuerId: ask.issuerId }),
      },
    },
    (made) => give({ ...made, identity: { id: to.id, name: to.name, kind: 'agent' } }),
  )
}

const fixOf = (name: string) => `Name an agent of the same owner, or one whose document says may_act: [${name}].`

/** The agent, one that may be made here, or why neither. */
async function findTarget(
  { store }: Pick<ActForParts, 'store'>,
  acting: IdentityRecord,
  chain: readonly ChainLink[],
  name: string,
): Promise<{ readonly agent: IdentityRecord } | { readonly owner: IdentityRecord } | { readonly why: string }> {
  const to = await findIdentity(store.db, { name })
  if (!to) {
    const owner = await mayMake({ store }, acting, chain, name)
    return owner ? { owner } : { why: 'unknown' }
  }
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

/** `boris/helper`, by an agent that acts for boris: it inherits his roles, and is judged behind every link before it. Whose it will be, or undefined. */
async function mayMake(
  { store }: Pick<ActForParts, 'store'>,
  acting: IdentityRecord,
  chain: readonly ChainLink[],
  name: string,
): Promise<IdentityRecord | undefined> {
  const first = chain[0]?.identity
  if (first === undefined || first !== acting.ownerId || !isName('agent', name)) return undefined
  const owner = await findIdentity(store.db, { id: first })
  return owner?.kind === 'user' && owner.state === 'active' && name.startsWith(`${owner.name}/`) ? owner : undefined
}
