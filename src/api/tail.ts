import type { AuditLog, Envelope } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import type { Streamed } from './route.ts'
import { makeStreams, type Watcher } from './stream.ts'

export interface Tail {
  /** An event stream of records from now on; ends with `signal`. Throws `too_many`. */
  open(watcher: Watcher, signal: AbortSignal, show: (envelope: Envelope) => unknown): Streamed
  close(): void
}

export function makeTail(audit: Pick<AuditLog, 'watch'>, clock: Clock): Tail {
  const streams = makeStreams(clock, 'Too many are watching the record already.')
  return {
    open: (watcher, signal, show) =>
      streams.open(watcher, signal, (send) => audit.watch((envelope) => send({ id: envelope.id, data: show(envelope) }))),
    close: () => streams.close(),
  }
}
