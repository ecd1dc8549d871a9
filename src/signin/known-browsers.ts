import type { Clock } from '../clock.ts'
import { newId } from '../ids.ts'
import type { Store, Write } from '../store/store.ts'
import type { Cookie, KnownBrowser } from './browser.ts'
import { BROWSER_LIMITS } from './browser-limits.ts'
import { hashOf, isSecret, newSecret } from './browser-secret.ts'

export const LONGEST_BROWSER_NAME = 64

/** The browsers that are known to be a person's: each has a secret, by which a code is enough to sign in. */
export function knownBrowsers({ store, clock }: { readonly store: Store; readonly clock: Clock }) {
  /** `surplus`: those that were forgotten for it. */
  async function add(trx: Write, identityId: string, name: string): Promise<Cookie & { readonly id: string; readonly surplus: readonly string[] }> {
    const now = clock.now()
    const live = await trx
      .selectFrom('browsers')
      .select('id')
      .where('identity_id', '=', identityId)
      .where('revoked_at', 'is', null)
      .where('expires_at', '>', now)
      .orderBy('last_used_at', 'desc')
      .orderBy('id', 'desc')
      .execute()
    const surplus = live.slice(BROWSER_LIMITS.browsers - 1).map(({ id }) => id)
    if (surplus.length > 0) await trx.updateTable('browsers').set({ revoked_at: now }).where('id', 'in', surplus).execute()
    const [id, secret, expiresAt] = [newId('brw', now), newSecret(), now + BROWSER_LIMITS.knownMs]
    await trx
      .insertInto('browsers')
      .values({
        id,
        identity_id: identityId,
        secret_sha256: hashOf(secret),
        name: name.slice(0, LONGEST_BROWSER_NAME),
        created_at: now,
        last_used_at: now,
        expires_at: expiresAt,
        revoked_at: null,
      })
      .execute()
    return { id, secret, expiresAt, surplus }
  }

  /** Whose browser it is; undefined for one that is not known, forgotten, or of somebody who is stopped. */
  async function find(secret: string | undefined) {
    if (secret === undefined || !isSecret(secret)) return undefined
    return store.db
      .selectFrom('browsers')
      .innerJoin('identities', 'identities.id', 'browsers.identity_id')
      .select(['browsers.id', 'browsers.identity_id', 'identities.name'])
      .where('browsers.secret_sha256', '=', hashOf(secret))
      .where('browsers.revoked_at', 'is', null)
      .where('browsers.expires_at', '>', clock.now())
      .where('identities.kind', '=', 'user')
      .where('identities.state', '=', 'active')
      .executeTakeFirst()
  }

  const live = (identityId: string) => store.db.selectFrom('browsers').where('identity_id', '=', identityId).where('revoked_at', 'is', null)

  return {
    add,
    find,
    async list(identityId: string): Promise<readonly KnownBrowser[]> {
      const rows = await live(identityId).selectAll().where('expires_at', '>', clock.now()).orderBy('last_used_at', 'desc').execute()
      return rows.map(({ id, name, created_at, last_used_at, expires_at }) => ({
        id,
        name,
        createdAt: created_at,
        lastUsedAt: last_used_at,
        expiresAt: expires_at,
      }))
    },
    one: (identityId: string, id: string) => live(identityId).select(['id', 'name']).where('id', '=', id).executeTakeFirst(),
    forget: async (trx: Write, ids: readonly string[]): Promise<void> => {
      if (ids.length > 0) await trx.updateTable('browsers').set({ revoked_at: clock.now() }).where('id', 'in', ids).execute()
    },
    used: (id: string): Promise<unknown> =>
      store.write((trx) => trx.updateTable('browsers').set({ last_used_at: clock.now() }).where('id', '=', id).execute()),
  }
}
