import { z } from 'zod'
import { ChaperoneError } from '../errors.ts'
import { activeLocks, liftLock, makeLock } from '../identity/locks.ts'
import { isId } from '../ids.ts'
import type { LockTable } from '../store/tables.ts'
import { assertAdministratorLeft } from './administrator-left.ts'
import { actorOf } from './caller.ts'
import { knownIdentity, reduceRights } from './changed.ts'
import type { LockAsk, LockRow } from './contract.ts'
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
        kind: z.enum(['identity', 'session', 'resource', 'role', 'everything']),
        reason: z.string().min(1).max(500),
        ttl: ttlText.optional(),
      }),
      summary: ({ body }) => `lock ${body.kind} ${body.target}`,
      async handle({ body, session }): Promise<LockRow> {
        const { kind, reason } = body
        const { target, name } = await resolve(kind, body.target)
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
          return made
        })
        return { ...(await rowOf(result)), acknowledgedMs }
      },
    }),
    signedIn({
      method: 'DELETE',
      path: '/v1/locks/:id',
      who: lock,
      summary: ({ params }) => `lift lock ${params.id}`,
      async handle({ params, session }): Promise<LockRow> {
        const id = params.id ?? ''
        const there = (await activeLocks(store.db, clock.now())).find((one) => one.id === id)
        if (!there) throw new ChaperoneError('not_found', 'There is no such lock, or it is over already.')
        await audit.append({ ...actorOf(session), type: 'lock.lifted', data: { lock: id, kind: there.target_kind, target: there.target } })
        // Lifting gives rights back; the epoch rises all the same, so that every node hears of it.
        const { result, acknowledgedMs } = await reduceRights(parts, (trx) => liftLock(trx, id, session.principal.identityId, clock.now()))
        return { ...(await rowOf(result)), acknowledgedMs }
      },
    }),
  ]

  /** The immutable id behind a name: a lock stays on what it was made for. Roles are held by name. Throws `not_found`, `usage`. */
  async function resolve(kind: LockAsk['kind'], target: string): Promise<{ readonly target: string; readonly name: string }> {
    if (kind === 'everything') {
      if (target !== '*' && target !== 'everything') throw new ChaperoneError('usage', 'A lock on everything has the target `*`.')
      return { target: '*', name: 'everything' }
    }
    if (kind === 'identity') {
      const { id, name } = await knownIdentity(parts, target)
      return { target: id, name }
    }
    if (kind === 'session') {
      const row = await store.db.selectFrom('sessions').select(['id', 'ended_at']).where('id', '=', target).executeTakeFirst()
      if (!row || row.ended_at !== null) throw new ChaperoneError('not_found', 'There is no such session, or it is over.')
      return { target: row.id, name: row.id }
    }
    const documents = store.db.selectFrom('documents').select(['id', 'kind', 'name'])
    if (kind === 'role') {
      const row = await documents.where('kind', '=', 'role').where('name', '=', target).executeTakeFirst()
      if (!row) throw new ChaperoneError('not_found', `There is no role ${target}.`)
      return { target: row.name, name: row.name }
    }
    const [only, name] = target.includes('/') ? target.split('/', 2) : [undefined, target]
    let query = documents.where('kind', 'not in', ['role', 'guardrail', 'user', 'agent'])
    query = isId('res', target) ? query.where('id', '=', target) : query.where('name', '=', name ?? '')
    if (only !== undefined) query = query.where('kind', '=', only)
    const [row, another] = await query.limit(2).execute()
    if (!row) throw new ChaperoneError('not_found', `There is no resource ${target}.`)
    if (another)
      throw new ChaperoneError('usage', `More than one resource is named ${target}.`, {
        fix: `Write ${row.kind}/${target} or ${another.kind}/${target}.`,
      })
    return { target: row.id, name: `${row.kind}/${row.name}` }
  }

  async function rowOf(row: LockTable): Promise<LockRow> {
    const creator = row.created_by === null ? undefined : parts.state.current().identity(row.created_by)?.name
    return {
      id: row.id,
      kind: row.target_kind,
      target: row.target,
      name: await nameOf(row),
      reason: row.reason,
      createdAt: row.created_at,
      ...(creator === undefined ? {} : { createdBy: creator }),
      ...(row.expires_at === null ? {} : { expiresAt: row.expires_at }),
    }
  }

  async function nameOf({ target_kind, target }: LockTable): Promise<string> {
    if (target_kind === 'everything') return 'everything'
    const from = target_kind === 'identity' ? 'identities' : target_kind === 'resource' ? 'documents' : undefined
    if (!from) return target
    const row = await store.db.selectFrom(from).select('name').where('id', '=', target).executeTakeFirst()
    return row?.name ?? target
  }
}
