import { z } from 'zod'
import { ChaperoneError } from '../errors.ts'
import { activeLocks, liftLock, makeLock } from '../identity/locks.ts'
import { lockNotice } from '../notify/lock-notice.ts'
import type { LockTable } from '../store/tables.ts'
import { assertAdministratorLeft } from './administrator-left.ts'
import { actorOf } from './caller.ts'
import { reduceRights } from './changed.ts'
import { LOCK_KINDS, type LockAsk, type LockRow } from './contract.ts'
import { lockName, lockTarget } from './lock-targets.ts'
import type { ApiParts } from './parts.ts'
import { type Route, signedIn } from './route.ts'
import { duration, ttlText } from './words.ts'

const lock = { by: 'verbs', anyOf: ['lock'] } as const
const LIFE = { shortestMs: 1000, longestMs: 3650 * 86_400_000 }

/** Instant stops. */
export function lockRoutes(parts: ApiParts): readonly Route[] {
  const { store, audit, clock } = parts
  return [
    signedIn({
      method: 'GET',
      path: '/v1/locks',
      summary: () => 'list locks',
      who: lock,
      async handle() {
        const locks = await activeLocks(store.db, clock.now())
        return { locks: await Promise.all(locks.map((one) => rowOf(one))) }
      },
    }),
    signedIn<LockAsk>({
      method: 'POST',
      path: '/v1/locks',
      who: lock,
      body: z.strictObject({
        target: z.string().min(1).max(256),
        kind: z.enum(LOCK_KINDS),
        reason: z.string().min(1).max(500),
        ttl: ttlText.optional(),
      }),
      summary: ({ body }) => `lock ${body.kind} ${body.target}`,
      async handle({ body, session }): Promise<LockRow> {
        const { kind, reason } = body
        const { target, name } = await lockTarget(parts, kind, body.target)
        const now = clock.now()
        const expiresAt = body.ttl === undefined ? undefined : now + duration(body.ttl, LIFE, 'A lock')
        await audit.append({
          ...actorOf(session),
          type: 'lock.made',
          data: { kind, target, name, reason, ...(expiresAt === undefined ? {} : { expiresAt }) },
        })
        const { result, acknowledgedMs } = await reduceRights(parts, async (trx) => {
          const made = await makeLock(trx, {
            kind,
            target,
            reason,
            createdBy: session.principal.identityId,
            now,
            ...(expiresAt === undefined ? {} : { expiresAt }),
          })
          await assertAdministratorLeft(parts, trx)
          await parts.notifications.announce(trx, lockNotice('made', made, name, session.principal.identityId))
          return made
        })
        return { ...(await rowOf(result)), acknowledgedMs }
      },
    }),
    signedIn({
      method: 'DELETE',
      path: '/v1/locks/:id',
      who: { by: 'verbs', anyOf: ['lock.lift'] },
      async exactly({ params }) {
        const { id, name, reason } = await rowOf(await standing(params.id ?? ''))
        return { bound: id, shown: [{ title: 'Lock', text: `${name}: ${reason}` }] }
      },
      summary: ({ params }) => `lift lock ${params.id}`,
      async handle({ params, session }): Promise<LockRow> {
        const there = await standing(params.id ?? '')
        const { id } = there
        await audit.append({ ...actorOf(session), type: 'lock.lifted', data: { lock: id, kind: there.target_kind, target: there.target } })
        // Lifting gives rights back; the epoch rises all the same, so that every node hears of it.
        const name = await lockName(parts, there)
        const { result, acknowledgedMs } = await reduceRights(parts, async (trx) => {
          const lifted = await liftLock(trx, id, session.principal.identityId, clock.now())
          await parts.notifications.announce(trx, lockNotice('lifted', lifted, name, session.principal.identityId))
          return lifted
        })
        return { ...(await rowOf(result)), acknowledgedMs }
      },
    }),
  ]

  async function standing(id: string): Promise<LockTable> {
    const there = (await activeLocks(store.db, clock.now())).find((one) => one.id === id)
    if (!there) throw new ChaperoneError('not_found', 'There is no such lock, or it is over already.', { fix: 'See: chaperone lock ls' })
    return there
  }

  async function rowOf(row: LockTable): Promise<LockRow> {
    const creator = row.created_by === null ? undefined : parts.state.current().identity(row.created_by)?.name
    return {
      id: row.id,
      kind: row.target_kind,
      target: row.target,
      name: await lockName(parts, row),
      reason: row.reason,
      createdAt: row.created_at,
      ...(creator === undefined ? {} : { createdBy: creator }),
      ...(row.made_by === null ? {} : { madeBy: row.made_by }),
      ...(row.expires_at === null ? {} : { expiresAt: row.expires_at }),
    }
  }
}
