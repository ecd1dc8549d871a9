import { createHash } from 'node:crypto'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Store } from '../../store/store.ts'
import type { OauthRecordTable } from '../../store/tables-identity.ts'

/** What the library keeps; see its `Adapter`. Only what it writes for our grants. */
export interface StoredPayload {
  readonly grantId?: string
  readonly uid?: string
  readonly userCode?: string
  readonly consumed?: unknown
  readonly [key: string]: unknown
}

/** One kind of record of the OAuth server, as the library wants to keep it. */
export interface Records {
  upsert(id: string, payload: StoredPayload, expiresIn?: number): Promise<void>
  find(id: string): Promise<StoredPayload | undefined>
  findByUid(uid: string): Promise<StoredPayload | undefined>
  findByUserCode(userCode: string): Promise<StoredPayload | undefined>
  /** Throws `conflict` when it was consumed already: of two that come at the same moment, one is too many. */
  consume(id: string): Promise<void>
  destroy(id: string): Promise<void>
  revokeByGrantId(grantId: string): Promise<void>
}

/** Written by whoever asks for it without a credential, so their number is bounded (rule 11). */
const MOST_INTERACTIONS = 5_000
const OPEN_TO_STRANGERS: ReadonlySet<string> = new Set(['Interaction'])

/** Only the hash of what a client holds is kept: whoever reads the store, or its backup, has no code and no refresh token. */
const hashed = (id: string) => createHash('sha256').update(id).digest('hex')

/**
 * A person is known by his own cookie (pages), and a token opens nothing but what tokens.mint made: what the library would
 * keep for these purposes is kept nowhere.
 */
const FORGOTTEN: ReadonlySet<string> = new Set(['Session', 'AccessToken', 'ClientCredentials'])

export function openRecords(store: Store, clock: Clock, model: string): Records {
  if (FORGOTTEN.has(model)) return nothing
  const row = (by: 'id' | 'uid' | 'user_code', value: string) =>
    store.db.selectFrom('oauth_records').selectAll().where('model', '=', model).where(by, '=', value).executeTakeFirst()
  const payloadOf = (found: OauthRecordTable | undefined): StoredPayload | undefined => {
    if (!found || (found.expires_at !== null && found.expires_at <= clock.now())) return undefined
    const payload = JSON.parse(found.payload) as StoredPayload
    return found.consumed_at === null ? payload : { ...payload, consumed: Math.floor(found.consumed_at / 1000) }
  }

  return {
    async upsert(id, payload, expiresIn) {
      // Its own id would stand in the payload, and with it the secret.
      const { jti: _jti, ...kept } = payload
      const values: OauthRecordTable = {
        model,
        id: hashed(id),
        payload: JSON.stringify(kept),
        grant_id: payload.grantId ?? null,
        user_code: payload.userCode === undefined ? null : hashed(payload.userCode),
        uid: payload.uid === undefined ? null : hashed(payload.uid),
        consumed_at: null,
        expires_at: expiresIn === undefined ? null : clock.now() + expiresIn * 1000,
      }
      const { model: _model, id: _id, consumed_at: _consumed, ...changed } = values
      await store.write(async (trx) => {
        if (OPEN_TO_STRANGERS.has(model)) {
          const { count } = await trx
            .selectFrom('oauth_records')
            .select((row) => row.fn.countAll<number>().as('count'))
            .where('model', '=', model)
            .where('expires_at', '>', clock.now())
            .executeTakeFirstOrThrow()
          if (Number(count) >= MOST_INTERACTIONS) throw new ChaperoneError('too_many', 'Too many sign-ins of clients are under way.')
        }
        await trx
          .insertInto('oauth_records')
          .values(values)
          .onConflict((conflict) => conflict.columns(['model', 'id']).doUpdateSet(changed))
          .execute()
      })
    },
    async find(id) {
      const payload = payloadOf(await row('id', hashed(id)))
      return payload && { ...payload, jti: id }
    },
    findByUid: async (uid) => payloadOf(await row('uid', hashed(uid))),
    findByUserCode: async (userCode) => payloadOf(await row('user_code', hashed(userCode))),
    async consume(id) {
      const { numUpdatedRows } = await store.write((trx) =>
        trx
          .updateTable('oauth_records')
          .set({ consumed_at: clock.now() })
          .where('model', '=', model)
          .where('id', '=', hashed(id))
          .where('consumed_at', 'is', null)
          .executeTakeFirstOrThrow(),
      )
      if (numUpdatedRows === 0n) throw new ChaperoneError('conflict', 'It was used already.')
    },
    async destroy(id) {
      await store.write((trx) => trx.deleteFrom('oauth_records').where('model', '=', model).where('id', '=', hashed(id)).execute())
    },
    async revokeByGrantId(grantId) {
      await store.write((trx) => trx.deleteFrom('oauth_records').where('model', '=', model).where('grant_id', '=', grantId).execute())
    },
  }
}

const nothing: Records = {
  upsert: async () => {},
  find: async () => undefined,
  findByUid: async () => undefined,
  findByUserCode: async () => undefined,
  consume: async () => {},
  destroy: async () => {},
  revokeByGrantId: async () => {},
}

/** Deletes what is over. */
export async function sweepRecords(store: Store, clock: Clock): Promise<void> {
  await store.write((trx) => trx.deleteFrom('oauth_records').where('expires_at', '<=', clock.now()).execute())
}
