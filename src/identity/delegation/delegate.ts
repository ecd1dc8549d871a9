import type { AuditLog } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Limits } from '../../policy/types.ts'
import { pastDeadlocks } from '../../store/deadlock.ts'
import type { Store } from '../../store/store.ts'
import { actingIn } from '../named.ts'
import type { LiveSession } from '../types.ts'
import { type Consent, consentWords } from './consent.ts'
import { type Delegation, type DelegationHow, makeDelegation } from './delegations.ts'

export interface DelegatingParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
}

export interface Delegate {
  /** In which session somebody agrees: the person, or the agent that hands on; or which directory speaks for him. */
  readonly agreed: LiveSession | { readonly directory: string }
  readonly from: { readonly id: string; readonly name: string }
  readonly to: { readonly id: string; readonly name: string }
  readonly how: DelegationHow
  readonly limits?: Limits
  /** ms */
  readonly forMs?: number
  /** It ends with the session in which it was agreed to; a directory is none. */
  readonly bound?: boolean
  /** the delegation under which `from` acts itself */
  readonly parentId?: string
  /** `id`: of an OAuth client, beside what it calls itself; kept in the place of the name */
  readonly client?: { readonly id: string } | (Consent['client'] & { readonly id?: string })
  /** name of the profile that the limits are of */
  readonly profile?: string
}

/** One giver: far more than a person looks through, far fewer than a loop would make (rule 11). */
const MOST_STANDING = 1000

/**
 * `to` may act on behalf of `from` from now on. On record, with what it leaves and with the words that were agreed to, before it
 * holds. It can never give more than `from` has: each link of a chain is judged by itself. Throws `too_many`, `session_ended`,
 * `invalid_document`.
 */
export async function delegate({ store, audit, clock }: DelegatingParts, ask: Delegate): Promise<Delegation> {
  const { agreed, from, to, how, limits = {}, forMs, bound, parentId, client, profile } = ask
  const session = 'directory' in agreed ? undefined : agreed
  const called = client === undefined ? undefined : (client.id ?? ('name' in client ? client.name : undefined))
  const now = clock.now()
  const words = consentWords({
    from: from.name,
    to: to.name,
    limits,
    how,
    ...(client && 'name' in client ? { client } : {}),
    ...(forMs === undefined ? {} : { forMs }),
    ...(bound ? { bound } : {}),
  }).join(' ')
  await assertFew({ store }, from, now)
  const expiresAt = forMs === undefined ? undefined : now + forMs
  await audit.append({
    type: 'delegation.made',
    ...(session ? actingIn(session, () => undefined) : { actor: from }),
    data: {
      ...('directory' in agreed ? { by: agreed.directory } : {}),
      from: from.id,
      to: to.id,
      how,
      limits,
      words,
      ...(expiresAt === undefined ? {} : { expiresAt }),
      ...(bound ? { bound } : {}),
      ...(called === undefined ? {} : { client: called }),
      ...(profile === undefined ? {} : { profile }),
    },
  })
  return pastDeadlocks(() =>
    store.write((trx) =>
      makeDelegation(trx, {
        fromId: from.id,
        toId: to.id,
        how,
        limits,
        ...(session ? { madeBy: session.principal.identityId } : {}),
        words,
        now,
        ...(expiresAt === undefined ? {} : { expiresAt }),
        ...(bound && session ? { sessionId: session.id } : {}),
        ...(parentId === undefined ? {} : { parentId }),
        ...(called === undefined ? {} : { client: called }),
      }),
    ),
  )
}

async function assertFew({ store }: Pick<DelegatingParts, 'store'>, { id, name }: Delegate['from'], now: number): Promise<void> {
  const { count } = await store.db
    .selectFrom('delegations')
    .select((of) => of.fn.countAll<number>().as('count'))
    .where('from_id', '=', id)
    .where('ended_at', 'is', null)
    .where((row) => row.or([row('expires_at', 'is', null), row('expires_at', '>', now)]))
    .executeTakeFirstOrThrow()
  if (Number(count) < MOST_STANDING) return
  throw new ChaperoneError('too_many', `${MOST_STANDING} delegations of ${name} stand already.`, {
    fix: 'Revoke some: chaperone delegations ls, chaperone delegations revoke.',
  })
}
