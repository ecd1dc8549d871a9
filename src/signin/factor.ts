import { randomBytes } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { Keyring } from '../keys/types.ts'
import type { Database, Store, Write } from '../store/store.ts'
import type { FactorTable } from '../store/tables-signin.ts'
import { matchingStep, TOTP_SECRET_BYTES } from './totp.ts'

/** RFC 6238 section 5.2 and RFC 4226 section 7.3: six digits withstand guessing only when guesses are few. */
const MOST_FAILURES = 5
const BLOCK_MS = 5 * 60_000

/** `last_step` of a factor that was offered and not confirmed by a first code yet: it opens nothing. */
const OFFERED = -1

export const factorInvalid = () =>
  new ChaperoneError('factor_invalid', 'The code is wrong, was used already, or too many were tried.', {
    fix: 'Wait for the next code; after five wrong ones wait five minutes.',
  })

const contextOf = (factorId: string, identityId: string) => `totp ${factorId} ${identityId}`

/** The factor that an invitation offers: its id follows from the invitation's, so that no client is trusted to bring it. */
const offeredFactorId = (invitationId: string) => `fac_${invitationId.slice(invitationId.indexOf('_') + 1)}`

/**
 * A new secret for an invitation that is open. It is kept sealed and counts for nothing until `confirmFactor`; asking
 * again replaces it, so a secret that somebody saw earlier with the same line is worthless.
 */
export async function offerFactor(
  store: Store,
  keyring: Keyring,
  invitation: { readonly id: string; readonly identityId: string },
  now: number,
): Promise<Uint8Array> {
  const secret = randomBytes(TOTP_SECRET_BYTES)
  const id = offeredFactorId(invitation.id)
  const sealed = await keyring.seal('factors', secret, contextOf(id, invitation.identityId))
  await store.write((trx) =>
    trx
      .insertInto('factors')
      .values({ id, identity_id: invitation.identityId, kind: 'totp', sealed, last_step: OFFERED, failures: 0, blocked_until: 0, created_at: now })
      // The count of failures stays: asking again is no way to more guesses.
      .onConflict((conflict) => conflict.column('id').doUpdateSet({ sealed, created_at: now }).where('factors.last_step', '=', OFFERED))
      .execute(),
  )
  return secret
}

/** Checks the first code of an offered factor and returns its step, for `confirmFactor`. Counts failures. Throws `factor_invalid`. */
export async function tryOffered(store: Store, keyring: Keyring, invitationId: string, code: string, clock: Clock): Promise<number> {
  const row = await store.db
    .selectFrom('factors')
    .selectAll()
    .where('id', '=', offeredFactorId(invitationId))
    .where('last_step', '=', OFFERED)
    .executeTakeFirst()
  if (!row) throw factorInvalid()
  return attempt(store, keyring, row, code, clock, false)
}

/** The offered factor becomes the identity's only one; the code of `step` is used up. Throws `factor_invalid` when it is not on offer any more. */
export async function confirmFactor(trx: Write, invitation: { readonly id: string; readonly identityId: string }, step: number): Promise<string> {
  const id = offeredFactorId(invitation.id)
  const { numUpdatedRows } = await trx
    .updateTable('factors')
    .set({ last_step: step })
    .where('id', '=', id)
    .where('last_step', '=', OFFERED)
    .executeTakeFirstOrThrow()
  if (numUpdatedRows !== 1n) throw factorInvalid()
  await trx.deleteFrom('factors').where('identity_id', '=', invitation.identityId).where('id', '!=', id).execute()
  return id
}

/**
 * Checks a code of an enrolled identity and uses it up: each code works once, five failures close the factor for five
 * minutes. Throws `factor_invalid`, the same for every cause.
 */
export async function verifyFactor(store: Store, keyring: Keyring, identityId: string, code: string, clock: Clock): Promise<void> {
  const row = await store.db
    .selectFrom('factors')
    .selectAll()
    .where('identity_id', '=', identityId)
    .where('last_step', '>', OFFERED)
    .executeTakeFirst()
  if (!row) throw factorInvalid()
  await attempt(store, keyring, row, code, clock, true)
}

/** Whether anybody has enrolled at all: an offered factor does not count. */
export async function anyEnrolled(db: Database): Promise<boolean> {
  return (await db.selectFrom('factors').select('id').where('last_step', '>', OFFERED).limit(1).executeTakeFirst()) !== undefined
}

/** Whether somebody has a second step of his own here, be it a code or a passkey. */
export async function hasFactor(db: Database, identityId: string): Promise<boolean> {
  const code = db.selectFrom('factors').select('id').where('identity_id', '=', identityId).where('last_step', '>', OFFERED)
  if (await code.executeTakeFirst()) return true
  const passkey = db.selectFrom('passkeys').select('id').where('identity_id', '=', identityId).where('revoked_at', 'is', null)
  return (await passkey.executeTakeFirst()) !== undefined
}

async function attempt(store: Store, keyring: Keyring, factor: FactorTable, code: string, clock: Clock, useUp: boolean): Promise<number> {
  const now = clock.now()
  // Opened before the transaction: the keyring may have to read the store itself.
  const secret = await keyring.open('factors', factor.sealed, contextOf(factor.id, factor.identity_id))
  const step = matchingStep(secret, code, now)
  const accepted = await store.write(async (trx) => {
    // The failure is counted before it is one, and the row stays locked until the end: a hundred guesses at once are a hundred failures.
    const { numUpdatedRows } = await trx
      .updateTable('factors')
      .set((row) => ({ failures: row('failures', '+', 1) }))
      .where('id', '=', factor.id)
      .where('blocked_until', '<=', now)
      .executeTakeFirstOrThrow()
    if (numUpdatedRows !== 1n) return false
    const { last_step, failures } = await trx
      .selectFrom('factors')
      .select(['last_step', 'failures'])
      .where('id', '=', factor.id)
      .executeTakeFirstOrThrow()
    if (step !== undefined && step > last_step) {
      await trx
        .updateTable('factors')
        .set({ failures: 0, ...(useUp ? { last_step: step } : {}) })
        .where('id', '=', factor.id)
        .execute()
      return true
    }
    if (failures >= MOST_FAILURES) {
      await trx
        .updateTable('factors')
        .set({ failures: 0, blocked_until: now + BLOCK_MS })
        .where('id', '=', factor.id)
        .execute()
    }
    return false
  })
  if (!accepted || step === undefined) throw factorInvalid()
  return step
}
