import { makeVoters } from '../access/requests/voters.ts'
import type { StateKeeper } from '../access/state.ts'
import type { AuditLog } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { type Notifications, openNotifications } from '../notify/notifications.ts'
import type { Resource } from '../policy/types.ts'
import type { Store } from '../store/store.ts'
import type { Vault } from '../vault/secrets.ts'
import { type Log, logError } from './log.ts'
import type { Metrics } from './metrics.ts'

interface NotifyingParts {
  readonly store: Store
  readonly clock: Clock
  readonly audit: Pick<AuditLog, 'append'>
  readonly state: StateKeeper
  readonly vault: Pick<Vault, 'reveal'>
  readonly chaperone: Resource
  readonly metrics: Pick<Metrics, 'notified'>
  readonly log: Log
  /** Takes known secrets, and what looks like one, out of a text. */
  readonly mask: (text: string) => string
  /** where a request is decided in a browser */
  readonly link: (id: string) => string
}

/** Who outside is told of requests and locks, with the parts of this node. */
export function openNotifying({ state, vault, metrics, log, chaperone, ...parts }: NotifyingParts): Notifications {
  const voters = makeVoters({ db: parts.store.db, state, clock: parts.clock, chaperone })
  return openNotifications({
    ...parts,
    documents: () =>
      state
        .current()
        .list('notifier')
        .map(({ resource, spec }) => ({ name: resource.name, spec })),
    reveal: vault.reveal,
    voter: (id) => voters.voter(id, { startedAt: parts.clock.now(), how: 'login' }),
    mayApply: (id) => voters.mayAsk(id, 'apply', { startedAt: parts.clock.now(), how: 'login' }),
    failed: (error) => logError(log, 'notifying', error),
    counted: (result) => metrics.notified(result),
  })
}
