import type { Clock } from '../clock.ts'
import type { LockTable } from '../store/tables.ts'

export interface LockWatch {
  /** Called with the ids of resources on which, or on a tool of which, a lock has fallen, was lifted, or has come to its end. */
  watch(see: (resources: ReadonlySet<string>) => void): () => void
  /** The locks of now, when the epoch has risen. */
  look(locks: readonly LockTable[]): void
  close(): void
}

/** What comes and goes with locks on resources: whoever listens for changes of lists is told. With the end of a lock no epoch rises. */
export function makeLockWatch(clock: Pick<Clock, 'now' | 'at'>): LockWatch {
  const watchers = new Set<(resources: ReadonlySet<string>) => void>()
  let before = new Map<string, string>()
  let disarm = () => {}

  const look = (locks: readonly LockTable[]): void => {
    const at = clock.now()
    const onResources = locks.filter(
      ({ target_kind: kind, expires_at: end }) => (kind === 'resource' || kind === 'tool') && (end === null || end > at),
    )
    // Ids have no slash: what stands behind one is the tool.
    const now = new Map(onResources.map(({ id, target }) => [id, target.split('/', 1)[0]!]))
    const moved = new Set<string>()
    for (const [id, resource] of now) if (!before.has(id)) moved.add(resource)
    for (const [id, resource] of before) if (!now.has(id)) moved.add(resource)
    before = now
    disarm()
    const first = Math.min(...onResources.map(({ expires_at: end }) => end ?? Number.POSITIVE_INFINITY))
    disarm = Number.isFinite(first) ? clock.at(first, () => look(locks)) : () => {}
    if (moved.size > 0) for (const see of watchers) see(moved)
  }

  return {
    watch(see) {
      watchers.add(see)
      return () => watchers.delete(see)
    },
    look,
    close: () => disarm(),
  }
}
