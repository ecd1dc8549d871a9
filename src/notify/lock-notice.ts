import type { LockTable } from '../store/tables.ts'
import type { LockEvent } from './types.ts'

/** A row of a lock as it is told. `name`: what people call its target. `by`: id of who did it. */
export const lockNotice = (type: LockEvent['type'], row: LockTable, name: string, by?: string): LockEvent => ({
  type,
  lock: {
    id: row.id,
    kind: row.target_kind,
    target: row.target,
    name,
    reason: row.reason,
    ...(row.expires_at === null ? {} : { expiresAt: row.expires_at }),
    ...(row.made_by === null ? {} : { madeBy: row.made_by }),
  },
  ...(by === undefined ? {} : { by }),
})
