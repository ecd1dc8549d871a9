import type { Masker } from '../../audit/mask.ts'
import type { AuditLog } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import { actingIn } from '../../identity/named.ts'
import type { LiveSession } from '../../identity/types.ts'
import type { Resource } from '../../policy/types.ts'
import type { Store } from '../../store/store.ts'
import type { StateKeeper } from '../state.ts'
import type { Book } from './book.ts'
import type { Changes } from './changes.ts'
import type { Commit } from './commit.ts'
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
  readonly commit: Commit
  readonly masker: Pick<Masker, 'text'>
}

export const whoActs = ({ state }: Pick<RequestParts, 'state'>, session: LiveSession) => actingIn(session, (id) => state.current().identity(id)?.name)

export const noSuchRequest = () => new ChaperoneError('not_found', 'There is no such request.', { fix: 'See: chaperone requests ls' })

export const overAlready = ({ state }: Pick<AccessRequest, 'state'>) =>
  new ChaperoneError('conflict', state === 'pending' ? 'The request is over: nobody answered it in time.' : `The request is ${state} already.`, {
    fix: 'See: chaperone requests ls',
  })
