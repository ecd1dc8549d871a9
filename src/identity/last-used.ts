import type { Store } from '../store/store.ts'
import type { OpenSession } from './live-session.ts'

/** Whether nobody has used an agent for weeks needs no minutes. */
const EVERY_MS = 5 * 60_000

/**
 * Writes down that these sessions' agents were used, all links of a chain: once for some hundred sessions, and only for those of
 * which the row is minutes old. Never on the way of a request.
 */
export async function tellUsed(store: Pick<Store, 'write'>, sessions: readonly Pick<OpenSession, 'principal'>[], now: number): Promise<void> {
  const ids = [...new Set(sessions.flatMap(({ principal }) => principal.chain.map(({ identity }) => identity)))]
  if (ids.length === 0) return
  await store.write((trx) =>
    trx
      .updateTable('identities')
      .set({ last_used_at: now })
      .where('id', 'in', ids)
      .where('kind', '=', 'agent')
      .where((row) => row.or([row('last_used_at', 'is', null), row('last_used_at', '<', now - EVERY_MS), row('last_used_at', '>', now + EVERY_MS)]))
      .execute(),
  )
}
