import type { LockTable } from '../store/tables.ts'

export interface LockWatch {
  /** Called with the ids of resources on which, or on a tool of which, a lock has fallen or was lifted. */
  watch(see: (resources: ReadonlySet<string>) => void): () => void
  /** The locks of now, when the epoch has risen. */
  look(locks: readonly LockTable[]): void
}

/** What comes and goes with locks on resources: whoever listens for changes of lists is told. One that ends by itself is not seen here. */
export function makeLockWatch(): LockWatch {
  const watchers = new Set<(resources: ReadonlySet<string>) => void>()
  let before = new Map<string, string>()
  return {
    watch(see) {
      watchers.add(see)
      return () => watchers.delete(see)
    },
    look(locks) {
      const now = new Map(
        locks
          .filter(({ target_kind }) => target_kind === 'resource' || target_kind === 'tool')
          // Ids have no slash: what stands behind one is the tool.
          .map(({ id, target }) => [id, target.split('/', 1)[0]!]),
      )
      const moved = new Set<string>()
      for (const [id, resource] of now) if (!before.has(id)) moved.add(resource)
      for (const [id, resource] of before) if (!now.has(id)) moved.add(resource)
      before = now
      if (moved.size > 0) for (const see of watchers) see(moved)
    },
  }
}
