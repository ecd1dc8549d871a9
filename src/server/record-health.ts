import type { AuditLog } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import type { Metrics } from './metrics.ts'

/** So long a failure counts: without traffic nothing would ever show that there is room again. */
const FAILED_FOR_MS = 10_000

/**
 * The record, counted as it becomes durable, and known to fail as soon as one append did. (A watcher would have each record
 * decoded on the data plane's thread.)
 */
export function watched(audit: AuditLog, metrics: Pick<Metrics, 'recorded'>, clock: Pick<Clock, 'now'>): AuditLog & { failing(): boolean } {
  let failedAt = Number.NEGATIVE_INFINITY
  return {
    addSecrets: (values) => audit.addSecrets(values),
    watch: (see) => audit.watch(see),
    checkpoint: () => audit.checkpoint(),
    close: () => audit.close(),
    failing: () => clock.now() - failedAt < FAILED_FOR_MS,
    append(draft, urgency) {
      return audit.append(draft, urgency).then(
        (place) => {
          failedAt = Number.NEGATIVE_INFINITY
          metrics.recorded(draft)
          return place
        },
        (error: unknown) => {
          failedAt = clock.now()
          throw error
        },
      )
    },
  }
}
