import type { AuditLog } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { Store, Write } from '../store/store.ts'
import type { LockTable } from '../store/tables.ts'
import { activeLocks, locked, makeLock } from './locks.ts'
import { actingIn } from './named.ts'
import type { LiveSession } from './types.ts'

/** `made_by` of these locks. */
export const COPIED = 'copied-credential'

export interface CopiedParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  /** Told inside the transaction that makes the lock. `name`: what people call its target. */
  readonly told?: (trx: Write, made: LockTable, name: string) => Promise<void>
}

/**
 * Somebody holds a copy of a credential of this session, and nobody can say who is the thief: a lock on this one session, until
 * its end. Other sessions of the identity are other instances, and go on (peers R64). Returns what both of them are told, and the
 * epoch of the lock, if it was not there already. Throws `session_ended`.
 */
export async function lockCopied(
  { store, audit, clock, told }: CopiedParts,
  session: LiveSession,
  credential: string,
): Promise<{ readonly error: ChaperoneError; readonly epoch?: number }> {
  const who = actingIn(session, () => undefined)
  const { id: cause } = await audit.append({ ...who, type: 'credential.copied', credential })
  const now = clock.now()
  const row = await store.db.selectFrom('sessions').select('expires_at').where('id', '=', session.id).executeTakeFirst()
  if (!row || row.expires_at <= now) throw new ChaperoneError('session_ended', 'The session has reached its longest life.')
  const ask = { kind: 'session', target: session.id, reason: REASON, madeBy: COPIED, expiresAt: row.expires_at, now } as const
  const there = async (db: Parameters<typeof activeLocks>[0]) => (await activeLocks(db, now)).find(isCopied(session.id))
  const before = await there(store.db)
  if (before) return { error: locked(before) }
  // What is locked is an instance: an id alone tells nobody whose.
  const name = `${session.id} of ${who.actor.name}`
  const { actor, chain } = who
  await audit.append({
    type: 'lock.made',
    session: session.id,
    ...(chain ? { chain } : {}),
    data: { kind: ask.kind, target: ask.target, name, reason: REASON, expiresAt: ask.expiresAt, of: actor.name, cause },
  })
  const { epoch } = await store.reduce(async (trx) => {
    // Changes of rights follow each other, so of two nodes that find it out at once the second sees the lock of the first.
    if (await there(trx)) return
    const made = await makeLock(trx, ask)
    await told?.(trx, made, name)
  })
  return { error: locked({ reason: REASON }), epoch }
}

const REASON =
  'A credential of this session was renewed twice, so somebody holds a copy of it. This session stays locked; join or sign in again for a new one.'

export const isCopied =
  (sessionId: string) =>
  ({ target_kind, target, made_by }: Pick<LockTable, 'target_kind' | 'target' | 'made_by'>): boolean =>
    target_kind === 'session' && target === sessionId && made_by === COPIED
