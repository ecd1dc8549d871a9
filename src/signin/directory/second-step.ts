import type { AuditLog } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import { makeInvitation } from '../../identity/invitations.ts'
import { actingIn } from '../../identity/named.ts'
import type { LiveSession } from '../../identity/types.ts'
import type { Store } from '../../store/store.ts'
import type { StandingOf } from '../standing.ts'

/** The first factor of his own for somebody who came by a directory, and was never invited. */
export interface SecondStep {
  /** `late`: he has none, and signed in too long ago to begin one. */
  may(session: LiveSession): Promise<'yes' | 'late' | 'no'>
  /** The secret of an invitation for himself. Throws `factor_required`. */
  begin(session: LiveSession): Promise<string>
}

const LIFE_MS = 10 * 60_000

export function openSecondStep({
  store,
  audit,
  clock,
  standingOf,
}: {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly standingOf: StandingOf
}): SecondStep {
  const may: SecondStep['may'] = async (session) => (await standingOf(session)).begin
  return {
    may,
    async begin(session) {
      session.assertLive()
      if ((await may(session)) !== 'yes')
        throw new ChaperoneError('factor_required', 'A second step is set up within five minutes of signing in at the directory, by who has none.', {
          fix: 'Sign out and in again; who has lost his asks for an invitation.',
        })
      const { identityId, name } = session.principal
      await audit.append({
        type: 'invitation.made',
        ...actingIn(session, () => undefined),
        data: { kind: 'invitation', for: name, ttlMs: LIFE_MS, how: 'second step' },
      })
      const ask = { kind: 'invitation', identityId, ttlMs: LIFE_MS, createdBy: identityId, now: clock.now() } as const
      return (await store.write((trx) => makeInvitation(trx, ask))).secret
    },
  }
}
