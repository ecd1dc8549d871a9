import type { State, StateKeeper } from '../access/state.ts'
import type { Clock } from '../clock.ts'
import { type ChaperoneError, toChaperoneError } from '../errors.ts'
import { locked, lockFor, sessionsOf } from '../identity/locks.ts'
import { limitsOfChain } from '../identity/session-limits.ts'
import type { ChainLink, LiveSession } from '../identity/types.ts'
import type { Lease } from '../store/lease.ts'
import { type Log, logError } from './log.ts'

interface StandingParts {
  readonly lease: Pick<Lease, 'ensure'>
  readonly state: Pick<StateKeeper, 'current' | 'see'>
  readonly clock: Clock
  readonly log: Log
}

/** What the rights and locks of this moment leave of a session: whether it may begin, whether it may act, why it is cut. */
export function standingOf({ lease, state, clock, log }: StandingParts) {
  // What stopped a chain does not start it again within one state: a session is looked at once for each.
  const seen = new WeakMap<LiveSession, State>()

  const whyCut = (session: LiveSession): ChaperoneError | undefined => {
    try {
      const now = clock.now()
      const links = state.current().links(session.principal.chain, now)
      const lock = lockFor(state.current().locks, { now, ...sessionsOf(session), links })
      return lock && locked(lock)
    } catch (error) {
      return toChaperoneError(error)
    }
  }

  const whyCredential = (credentialId: string): ChaperoneError | undefined => {
    const lock = lockFor(state.current().locks, { now: clock.now(), credentialId, links: [] })
    return lock && locked(lock)
  }

  return {
    whyCut,
    whyCredential,

    async mayAct(session: LiveSession, credentialId: string): Promise<void> {
      await lease.ensure()
      if (seen.get(session) !== state.current()) {
        await state.see(session.principal.chain)
        const why = whyCut(session)
        if (why) throw why
        seen.set(session, state.current())
      }
      const why = whyCredential(credentialId)
      if (why) throw why
    },

    /** What is locked gets no new session, and so no certificate and no token. */
    async mayStart(chain: readonly ChainLink[]): Promise<void> {
      await lease.ensure()
      await state.see(chain)
      const now = clock.now()
      const lock = lockFor(state.current().locks, { now, links: state.current().links(chain, now) })
      if (lock) throw locked(lock)
    },

    limitsOf(chain: readonly ChainLink[]) {
      const { policy, links } = state.current()
      const all = links(chain, clock.now())
      try {
        return limitsOfChain(policy, all)
      } catch (error) {
        // Deciding itself has failed: the guard refuses whatever is asked for, and its refusal is on record (rule 1).
        logError(log, 'limits of sessions', error)
        return {}
      }
    },
  }
}
