import { createMasker } from '../audit/mask.ts'
import { type AuditOptions, openAudit } from '../audit/writer.ts'
import type { Store } from '../store/store.ts'
import { type Log, logError } from './log.ts'
import type { Metrics } from './metrics.ts'
import { watched } from './record-health.ts'
import { recordStrangers } from './turned-away.ts'

interface RecordingParts extends Pick<AuditOptions, 'nodeId' | 'keyring' | 'clock' | 'trustDomain'> {
  readonly store: Pick<Store, 'dialect' | 'location'>
  readonly metrics: Pick<Metrics, 'recorded'>
  readonly log: Log
}

/** The record of this node, and what it knows of secrets. */
export async function openRecording({ store, metrics, log, ...options }: RecordingParts) {
  const { clock } = options
  // What an approver is shown is stored as well, and by this thread: it knows the same secrets as the record's own.
  const masker = createMasker()
  const recording = watched(await openAudit(store, { ...options, onTrouble: (error) => logError(log, 'record', error) }), metrics, clock)
  const audit = {
    ...recording,
    addSecrets(values: readonly string[]) {
      masker.add(values)
      recording.addSecrets(values)
    },
  }
  /** for those whom nobody knows yet: what they try is recorded too, but they cannot fill the disk with it */
  const strangers = recordStrangers({ audit, clock, failed: (error) => logError(log, 'recording a refusal', error) })
  return {
    audit,
    masker,
    strangers,
    async close() {
      await strangers.close()
      await audit.close()
    },
  }
}
