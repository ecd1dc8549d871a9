import { createHash } from 'node:crypto'
import { PRESETS } from '../access/administration.ts'
import type { AuditLog } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { ChaperoneError } from '../errors.ts'
import { createIdentity, findIdentity } from '../identity/directory.ts'
import { makeInvitation } from '../identity/invitations.ts'
import { newId } from '../ids.ts'
import { anyEnrolled } from '../signin/factor.ts'
import type { Store } from '../store/store.ts'

const INVITATION_TTL_MS = 24 * 3_600_000

/** The trust domain of the store: set by the first start, fixed for ever (it is in every certificate). */
export async function settleTrustDomain(store: Store, wanted: string | undefined, clock: Clock): Promise<string> {
  const existing = await store.db.selectFrom('meta').select('value').where('key', '=', 'trust_domain').executeTakeFirst()
  if (existing) {
    if (wanted !== undefined && wanted !== existing.value) {
      throw new ChaperoneError('conflict', `This store belongs to the trust domain ${existing.value}, not ${wanted}.`, {
        fix: 'Leave --trust-domain out, or use another store.',
      })
    }
    return existing.value
  }
  const name = wanted ?? 'chaperone.internal'
  await store.write(async (trx) => {
    await trx
      .insertInto('meta')
      .values([
        { key: 'trust_domain', value: name },
        { key: 'created_at', value: String(clock.now()) },
      ])
      .onConflict((conflict) => conflict.column('key').doNothing())
      .execute()
  })
  return settleTrustDomain(store, wanted, clock)
}

/** The roles that exist from the first start. A preset that an administrator changed or deleted later stays as he left it. */
export async function plantPresets(store: Store, clock: Clock): Promise<void> {
  const planted = await store.db.selectFrom('meta').select('value').where('key', '=', 'presets').executeTakeFirst()
  if (planted) return
  await store.write(async (trx) => {
    for (const { name, spec } of PRESETS) {
      const document = { kind: 'role', name, spec }
      await trx
        .insertInto('documents')
        .values({
          id: newId('res', clock.now()),
          kind: 'role',
          name,
          labels: '{}',
          spec: canonicalJson(spec),
          digest: createHash('sha256').update(canonicalJson(document)).digest('hex'),
          owner: null,
          applied_by: null,
          updated_at: clock.now(),
        })
        .onConflict((conflict) => conflict.columns(['kind', 'name']).doNothing())
        .execute()
    }
    await trx
      .insertInto('meta')
      .values({ key: 'presets', value: 'planted' })
      .onConflict((conflict) => conflict.column('key').doNothing())
      .execute()
  })
}

/**
 * An invitation for the first administrator, for as long as nobody has enrolled: there is no default password, and a
 * lost first screen is no lost installation. Each start voids the one before.
 */
export async function inviteFirstAdministrator(
  store: Store,
  audit: Pick<AuditLog, 'append'>,
  name: string,
  clock: Clock,
): Promise<{ readonly name: string; readonly secret: string; readonly expiresAt: number } | undefined> {
  if (await anyEnrolled(store.db)) return undefined
  const known = await findIdentity(store.db, { name })
  await audit.append({ type: 'invitation.made', data: { for: name, why: 'first administrator', ttlMs: INVITATION_TTL_MS } })
  return store.write(async (trx) => {
    const person = known ?? (await createIdentity(trx, { kind: 'user', name, roles: ['admin'], source: 'bootstrap', now: clock.now() }))
    await trx.deleteFrom('invitations').where('identity_id', '=', person.id).where('used_at', 'is', null).execute()
    const made = await makeInvitation(trx, { kind: 'invitation', identityId: person.id, ttlMs: INVITATION_TTL_MS, now: clock.now() })
    return { name, secret: made.secret, expiresAt: made.expiresAt }
  })
}
