import { pastDeadlocks } from '../../store/deadlock.ts'
import { whatEndsWith } from '../endings.ts'
import { endRows } from '../session-endings.ts'
import { assertSessionsLeft } from '../session-limits.ts'
import type { ChainLink, Sessions, StartSession } from '../types.ts'
import { type Delegate, type DelegatingParts, delegate } from './delegate.ts'
import { type Delegation, listDelegations } from './delegations.ts'

export interface ActForParts extends DelegatingParts {
  readonly sessions: Pick<Sessions, 'start' | 'end' | 'endDelegations'>
  /** Makes what is new known to this node's state. */
  readonly see: (chain: readonly ChainLink[]) => Promise<void>
}

export interface ActFor extends Delegate {
  /** It stands already, and is used on. */
  readonly standing?: Delegation
  /** the chain of `from`, where that acts for somebody itself */
  readonly above?: readonly ChainLink[]
}

export interface Acting {
  readonly chain: readonly ChainLink[]
  readonly delegation: Delegation
}

/**
 * The one way to act for somebody: the delegation, on record, and then what is made of it (`give`). When anything of that fails, nothing
 * is left that anybody could act under: a new delegation is ended again, with all that rests on it.
 */
export async function actFor<T>(parts: Omit<ActForParts, 'see'>, ask: ActFor, give: (made: Acting) => Promise<T>): Promise<T> {
  const delegation = ask.standing ?? (await delegate(parts, ask))
  const chain = [...(ask.above ?? [{ identity: ask.from.id }]), { identity: ask.to.id, delegation: delegation.id }]
  try {
    return await give({ chain, delegation })
  } catch (error) {
    if (!ask.standing) await takeBack(parts, delegation.id)
    throw error
  }
}

type InSession = { readonly start: Omit<StartSession, 'identityId' | 'chain' | 'rests'> }
type Give<T> = (made: Acting & { readonly session: { readonly id: string; readonly expiresAt: number } }) => Promise<T>

/**
 * A client of a person, whoever asks for its credential. What was given on its first use serves until it is revoked; what was given for
 * one run, or bound to a session, is narrower, and not its to use.
 */
export async function actAsClient<T>(parts: ActForParts, ask: Pick<ActFor, 'agreed' | 'from' | 'to'> & InSession, give: Give<T>): Promise<T> {
  const { store, clock } = parts
  const [standing] = await listDelegations(store.db, { fromId: ask.from.id, toId: ask.to.id, firstUse: true, now: clock.now(), limit: 1 })
  return actInSession(parts, { ...ask, how: 'client', ...(standing ? { standing } : {}) }, give)
}

/** In a session of its own, which ends with the one it was asked for in, and with every link. `give` hands out its credential. */
export function actInSession<T>(parts: ActForParts, ask: ActFor & InSession, give: Give<T>): Promise<T> {
  const { store, clock, sessions } = parts
  return actFor(parts, ask, async ({ chain, delegation }) => {
    await parts.see(chain)
    await assertSessionsLeft({ store, clock }, ask.to)
    // Whoever issued the credential that asks may hold its key, and with it what is made from it here: else he would ask as a tool of
    // that person, and say yes to himself.
    const issuerId = 'issuerId' in ask.agreed ? ask.agreed.issuerId : undefined
    const session = await sessions.start({
      ...(issuerId === undefined ? {} : { issuerId }),
      ...ask.start,
      identityId: ask.to.id,
      chain,
      // Nothing that was given for one session is left when that is over.
      ...(ask.bound && !ask.standing ? { rests: delegation.id } : {}),
    })
    try {
      return await give({ chain, delegation, session })
    } catch (error) {
      if (ask.standing) await sessions.end(session.id, 'undone')
      throw error
    }
  })
}

/** Also when it cannot be recorded: nobody was given anything, so no record is missing that would tell of an act. */
async function takeBack({ store, clock, sessions }: Omit<ActForParts, 'see'>, id: string): Promise<void> {
  try {
    await sessions.endDelegations([id], 'undone')
  } catch {
    const what = { delegations: [id] }
    await pastDeadlocks(() =>
      store.reduce(async (trx) => endRows(trx, { what, first: await whatEndsWith(trx, what), end: { at: clock.now(), why: 'undone' } })),
    )
  }
}
