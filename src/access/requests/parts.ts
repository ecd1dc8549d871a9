import type { AuditLog } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import { actingIn } from '../../identity/named.ts'
import type { LiveSession } from '../../identity/types.ts'
import type { Resource } from '../../policy/types.ts'
import type { Store } from '../../store/store.ts'
import { administer, factorRequired, hasFreshFactor } from '../administration.ts'
import { draftAction } from '../drafts.ts'
import type { StateKeeper } from '../state.ts'
import type { Book } from './book.ts'
import type { Announce } from './calls.ts'
import type { Changes } from './changes.ts'
import type { AccessRequest } from './types.ts'
import type { Voters } from './voters.ts'

/** What everything about requests works with. */
export interface RequestParts {
  readonly store: Store
  readonly book: Book
  readonly changes: Changes
  readonly voters: Voters
  readonly state: Pick<StateKeeper, 'current'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  /** Chaperone itself, as `chaperoneResource` makes it */
  readonly chaperone: Resource
  readonly announce: Announce
  /** Rights have changed: resolves when every node has taken that in. */
  readonly raised: (epoch: number) => Promise<void>
}

export const whoActs = ({ state }: Pick<RequestParts, 'state'>, session: LiveSession) => actingIn(session, (id) => state.current().identity(id)?.name)

/** Only a person, himself, by a sign-in of his own, with a factor that what acts for him cannot reach (design 3.3). */
export async function assertHimself(parts: RequestParts, session: LiveSession, verb: 'approve' | 'lock', summary: string): Promise<void> {
  const { principal } = session
  if (principal.kind !== 'user' || principal.chain.length !== 1 || principal.proof === 'bearer') {
    throw await refused(
      parts,
      session,
      verb,
      summary,
      new ChaperoneError('approval_refused', 'Only a person himself, signed in, decides about requests.'),
    )
  }
  if (hasFreshFactor(session, parts.clock.now())) return
  throw await refused(parts, session, verb, summary, factorRequired())
}

/** Records that somebody tried, and gives back why he may not. */
export async function refused(
  parts: RequestParts,
  session: LiveSession,
  verb: 'approve' | 'lock',
  summary: string,
  error: ChaperoneError,
): Promise<ChaperoneError> {
  await parts.audit.append({
    type: 'action.refused',
    ...whoActs(parts, session),
    action: draftAction(administer(parts.chaperone, verb, summary)),
    decision: { verdict: 'deny', reason: error.code, link: session.principal.name, obligations: {} },
  })
  return error
}

export const noSuchRequest = () => new ChaperoneError('not_found', 'There is no such request.', { fix: 'See: chaperone requests ls' })

export const overAlready = ({ state }: Pick<AccessRequest, 'state'>) =>
  new ChaperoneError('conflict', state === 'pending' ? 'The request is over: nobody answered it in time.' : `The request is ${state} already.`, {
    fix: 'See: chaperone requests ls',
  })

/** Work about one request, one after the other: what this node does twice at once is then no race at all. */
export function turnsById() {
  const turns = new Map<string, Promise<unknown>>()
  return async <T>(id: string, work: () => Promise<T>): Promise<T> => {
    const before = turns.get(id)
    const mine = before ? before.then(work, work) : work()
    turns.set(id, mine)
    try {
      return await mine
    } finally {
      if (turns.get(id) === mine) turns.delete(id)
    }
  }
}
