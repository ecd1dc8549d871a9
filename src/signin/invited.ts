import type { AuditLog } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { findIdentity, type IdentityRecord } from '../identity/directory.ts'
import { lookAtInvitation, type OpenInvitation, useInvitation } from '../identity/invitations.ts'
import type { Sessions } from '../identity/types.ts'
import type { Keyring } from '../keys/types.ts'
import type { Store, Write } from '../store/store.ts'
import { confirmFactor, tryOffered } from './factor.ts'
import type { Recorded } from './recorded.ts'

interface InvitedParts {
  readonly store: Store
  readonly keyring: Keyring
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly sessions: Pick<Sessions, 'mayStart'>
}

/** The active identity that an invitation speaks of. */
export async function invited({ db }: Pick<Store, 'db'>, { identityId }: OpenInvitation, kind: IdentityRecord['kind']): Promise<IdentityRecord> {
  const identity = await findIdentity(db, { id: identityId })
  if (identity?.kind !== kind || identity.state !== 'active') throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
  return identity
}

/**
 * A person answers the invitation with the first code of the factor that was offered: both are used up and recorded, it is his only
 * factor from then on, and `also` (the device, the browser) is enrolled in the same transaction. Throws `invitation_invalid`, `factor_invalid`, `identity_disabled`.
 */
export async function acceptInvitation(
  { store, keyring, audit, clock, sessions }: InvitedParts,
  recorded: Recorded,
  { secret, code }: { readonly secret: string; readonly code: string },
  also: (trx: Write, identity: IdentityRecord) => Promise<void>,
): Promise<IdentityRecord> {
  const invitation = await lookAtInvitation(store.db, secret, 'invitation', clock.now())
  const identity = await invited(store, invitation, 'user')
  // A lock is lifted again; an invitation that was used up for nothing is not given back.
  await sessions.mayStart([{ identity: identity.id }])
  const actor = nameOf(identity)
  const step = await recorded('factor.refused', { actor, data: { how: 'enrol' } }, () => tryOffered(store, keyring, invitation.id, code, clock))
  await audit.append({ type: 'invitation.used', actor, data: { invitation: invitation.id, how: 'enrol' } })
  await audit.append({ type: 'factor.enrolled', actor, data: { kind: 'totp', invitation: invitation.id } })
  // Whoever is invited again has lost his factor, or somebody else has it: a passkey that a thief added would outlive that.
  const keys = await store.db
    .selectFrom('passkeys')
    .select(['id', 'name'])
    .where('identity_id', '=', identity.id)
    .where('revoked_at', 'is', null)
    .execute()
  for (const { id, name } of keys)
    await audit.append({ type: 'factor.removed', actor, data: { kind: 'passkey', passkey: id, name, invitation: invitation.id } })
  await store.write(async (trx) => {
    await useInvitation(trx, secret, 'invitation', clock.now())
    // He is here: what else was sent to him, and lies in a mailbox or with who made it, would let somebody else come as him.
    await trx.deleteFrom('invitations').where('identity_id', '=', identity.id).where('kind', '=', 'invitation').where('used_at', 'is', null).execute()
    await confirmFactor(trx, invitation, step)
    await trx
      .updateTable('passkeys')
      .set({ revoked_at: clock.now() })
      .where('identity_id', '=', identity.id)
      .where('revoked_at', 'is', null)
      .execute()
    await also(trx, identity)
  })
  return identity
}

export const nameOf = ({ id, name, kind }: IdentityRecord) => ({ id, name, kind })
