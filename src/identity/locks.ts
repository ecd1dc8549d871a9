import { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { Link } from '../policy/types.ts'
import type { Database, Write } from '../store/store.ts'
import type { LockTable } from '../store/tables.ts'

/** What a lock may fall on. `links` is the chain; a lock on any link, or on the owner of one, stops the whole chain. */
export interface LockFacts {
  /** ms since 1970 */
  readonly now: number
  readonly sessionId?: string
  /** the person's session that a client's came from: what stops that stops what it runs with, as ending it does */
  readonly parentId?: string
  /** and the sessions that one was made from, where something was handed on */
  readonly ancestors?: readonly string[]
  /** the certificate or token that proves who asks */
  readonly credentialId?: string
  readonly resourceId?: string
  /** of the resource; only a lock on this one tool reads it */
  readonly tool?: string
  readonly links: readonly Pick<Link, 'identity' | 'grants'>[]
}

/**
 * The first lock that falls on these facts, or undefined. Pure and total.
 *
 * A lock on `everything` falls only where a resource is named: administration of Chaperone names none, so that somebody
 * can still lift it.
 */
export function lockFor(locks: readonly LockTable[], facts: LockFacts): LockTable | undefined {
  for (const lock of locks) if (isActive(lock, facts.now) && falls(lock, facts)) return lock
  return undefined
}

/** What of a session a lock may name. */
export const sessionsOf = ({
  id,
  parentId,
  ancestors,
}: {
  readonly id: string
  readonly parentId?: string
  readonly ancestors?: readonly string[]
}): Pick<LockFacts, 'sessionId' | 'parentId' | 'ancestors'> => ({
  sessionId: id,
  ...(parentId === undefined ? {} : { parentId }),
  ...(ancestors === undefined ? {} : { ancestors }),
})

function isActive(lock: LockTable, now: number): boolean {
  return lock.lifted_at === null && (lock.expires_at === null || lock.expires_at > now)
}

/** What a lock on one tool is stored as. Tools may have any name, ids have no slash. */
export const toolTarget = (resourceId: string, tool: string): string => `${resourceId}/${tool}`

function falls({ target_kind, target }: LockTable, { sessionId, parentId, ancestors, credentialId, resourceId, tool, links }: LockFacts): boolean {
  switch (target_kind) {
    case 'session':
      return target === sessionId || target === parentId || ancestors?.includes(target) === true
    case 'credential':
      return target === credentialId
    case 'resource':
      return target === resourceId
    case 'tool':
      return resourceId !== undefined && tool !== undefined && target === toolTarget(resourceId, tool)
    case 'identity':
      // An agent acts only because its owner answers for it: a locked owner stops his agents.
      return links.some(({ identity }) => identity.id === target || identity.ownerId === target)
    case 'owner':
      return links.some(({ identity }) => identity.ownerId === target)
    case 'agents':
      return links.some(({ identity }) => identity.kind === 'agent')
    case 'role':
      // Whoever holds it, by himself or for a while.
      return links.some(({ identity, grants }) => identity.roles.includes(target) || grants?.some(({ role }) => role === target))
    default:
      // `everything`; and what a newer Chaperone may have written is taken for no less (rule 1).
      return resourceId !== undefined
  }
}

/** Kinds of lock that fall on all there is of something, so that there is no target to name. */
export const UNTARGETED: ReadonlySet<LockTable['target_kind']> = new Set(['everything', 'agents'])

export interface MakeLock {
  readonly kind: LockTable['target_kind']
  /** immutable id of the target, the name of a role, `toolTarget` of a tool, or `*` for everything and for every agent */
  readonly target: string
  /** shown to whoever the lock stops; no secrets */
  readonly reason: string
  readonly createdBy?: string
  /** the rule that makes it by itself */
  readonly madeBy?: string
  /** ms since 1970; without one the lock stays until it is lifted */
  readonly expiresAt?: number
  readonly now: number
}

const LONGEST_REASON = 500

/** Makes a lock. Call it inside `store.reduce`: a lock takes rights away. Throws `usage` for an expiry that is over or a reason that is empty or too long. */
export async function makeLock(trx: Write, ask: MakeLock): Promise<LockTable> {
  if (ask.reason.trim() === '' || ask.reason.length > LONGEST_REASON)
    throw new ChaperoneError('usage', `A lock needs a reason of at most ${LONGEST_REASON} characters.`)
  if (ask.expiresAt !== undefined && ask.expiresAt <= ask.now) throw new ChaperoneError('usage', 'The lock would be over before it began.')
  if (UNTARGETED.has(ask.kind) !== (ask.target === '*'))
    throw new ChaperoneError('usage', 'A lock on everything or on every agent has the target `*`, and no other lock has it.')
  const lock: LockTable = {
    id: newId('lck', ask.now),
    target_kind: ask.kind,
    target: ask.target,
    reason: ask.reason,
    created_by: ask.createdBy ?? null,
    created_at: ask.now,
    expires_at: ask.expiresAt ?? null,
    lifted_at: null,
    lifted_by: null,
    made_by: ask.madeBy ?? null,
  }
  await trx.insertInto('locks').values(lock).execute()
  return lock
}

/** Lifts a lock. Throws `not_found` when there is none, or it is lifted or over already. */
export async function liftLock(trx: Write, id: string, by: string | undefined, now: number): Promise<LockTable> {
  const { numUpdatedRows } = await trx
    .updateTable('locks')
    .set({ lifted_at: now, lifted_by: by ?? null })
    .where('id', '=', id)
    .where('lifted_at', 'is', null)
    .where((row) => row.or([row('expires_at', 'is', null), row('expires_at', '>', now)]))
    .executeTakeFirstOrThrow()
  if (numUpdatedRows === 0n) throw new ChaperoneError('not_found', 'There is no such lock, or it is over already.', { fix: 'See: chaperone lock ls' })
  return trx.selectFrom('locks').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
}

/** The locks in force, oldest first. */
export function activeLocks(db: Database | Write, now: number): Promise<LockTable[]> {
  return db
    .selectFrom('locks')
    .selectAll()
    .where('lifted_at', 'is', null)
    .where((row) => row.or([row('expires_at', 'is', null), row('expires_at', '>', now)]))
    .orderBy('id')
    .execute()
}

/** The error of whatever a lock stops. */
export const locked = ({ reason }: Pick<LockTable, 'reason'>): ChaperoneError => new ChaperoneError('locked', `A lock stops this: ${reason}`)
