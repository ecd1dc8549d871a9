import type { AuditLog, Draft } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { toChaperoneError } from '../errors.ts'
import type { Metrics } from './metrics.ts'

/** So long a failure counts: without traffic nothing would ever show that there is room again. */
const FAILED_FOR_MS = 10_000

/**
 * The record, counted as it becomes durable, and known to fail as soon as one append did. (A watcher would have each record
 * decoded on the data plane's thread.)
 */
export function watched(audit: AuditLog, metrics: Pick<Metrics, 'recorded'>, clock: Pick<Clock, 'now'>): AuditLog & { failing(): boolean } {
  let failedAt = Number.NEGATIVE_INFINITY
  const counted = <T>(draft: Draft, place: Promise<T>): Promise<T> =>
    place.then(
      (done) => {
        failedAt = Number.NEGATIVE_INFINITY
        metrics.recorded(draft)
        return done
      },
      (error: unknown) => {
        // That an approval is used up says nothing of the record.
        if (toChaperoneError(error).code !== 'approval_used') failedAt = clock.now()
        throw error
      },
    )
  return {
    addSecrets: (values) => audit.addSecrets(values),
    watch: (see, types) => audit.watch(see, types),
    checkpoint: () => audit.checkpoint(),
    close: () => audit.close(),
    failing: () => clock.now() - failedAt < FAILED_FOR_MS,
    append: (draft, urgency) => counted(draft, audit.append(draft, urgency)),
    claim: (draft, claim) => counted(draft, audit.claim(draft, claim)),
  }
}
