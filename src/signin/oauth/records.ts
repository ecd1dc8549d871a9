import { createHash } from 'node:crypto'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import { networkOf, siteOf } from '../../network/throttle.ts'
import type { Store, Write } from '../../store/store.ts'
import type { OauthRecordTable } from '../../store/tables-identity.ts'
import { whoGivesWay } from '../places.ts'

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
  /** Throws `conflict` for what may be written once and was. */
  upsert(id: string, payload: StoredPayload, expiresIn?: number): Promise<void>
  find(id: string): Promise<StoredPayload | undefined>
  findByUid(uid: string): Promise<StoredPayload | undefined>
  findByUserCode(userCode: string): Promise<StoredPayload | undefined>
  /** Throws `conflict` when it was consumed already: of two that come at the same moment, one is too many. */
  consume(id: string): Promise<void>
  /** Throws `conflict` for a sign-in of which somebody has taken the answer already. */
  destroy(id: string): Promise<void>
  revokeByGrantId(grantId: string): Promise<void>
}

/** Written by whoever asks for it without a credential, so their number is bounded (rule 11), as is that of each network. */
const MOST_INTERACTIONS = 10_000
/** Of one IPv4 address or IPv6 /64, behind which a whole office may sit; and of one IPv6 /48, which is what a customer is given. */
const OF_NETWORK = 100
const OF_SITE = 200
const OPEN_TO_STRANGERS: ReadonlySet<string> = new Set(['Interaction'])

/** The library looks for it, and then writes: of two that look at the same moment, on however many nodes, one may write. */
const ONCE: ReadonlySet<string> = new Set(['ReplayDetection'])
/** The library ends it, and then gives a code: two codes of one answer would begin two sessions, of which the grant knows one. */
const ENDS_ONCE: ReadonlySet<string> = new Set(['Interaction'])

/** Only the hash of what a client holds is kept: whoever reads the store, or its backup, has no code and no refresh token. */
const hashed = (id: string) => createHash('sha256').update(id).digest('hex')

/**
 * A person is known by his own cookie (pages), and a token opens nothing but what tokens.mint made: what the library would
 * keep for these purposes is kept nowhere.
 */
const FORGOTTEN: ReadonlySet<string> = new Set(['Session', 'AccessToken', 'ClientCredentials'])

/** `from`: the address of whoever is answered, if anybody is. */
export function openRecords(store: Store, clock: Clock, model: string, from: () => string | undefined = () => undefined): Records {
  if (FORGOTTEN.has(model)) return nothing
  const row = (by: 'id' | 'uid' | 'user_code', value: string) =>
    store.db.selectFrom('oauth_records').selectAll().where('model', '=', model).where(by, '=', value).executeTakeFirst()
  const payloadOf = (found: OauthRecordTable | undefined): StoredPayload | undefined => {
    if (!found || (found.expires_at !== null && found.expires_at <= clock.now())) return undefined
    const payload = JSON.parse(found.payload) as StoredPayload
    return found.consumed_at === null ? payload : { ...payload, consumed: Math.floor(found.consumed_at / 1000) }
  }

  const open = (trx: Write) => trx.selectFrom('oauth_records').where('model', '=', model).where('expires_at', '>', clock.now())
  const countOf = async (rows: ReturnType<typeof open>) =>
    Number((await rows.select((row) => row.fn.countAll<number>().as('count')).executeTakeFirstOrThrow()).count)

  /**
   * Makes room for one more of a stranger: whoever has his share gives up his own oldest; when all places are taken, whoever holds the
   * most does. So neither a few addresses nor a few hundred stop anybody. What its person has answered holds no place and gives none up.
   * Returns the network. Throws `too_many` when nobody has one to give.
   */
  async function placeFor(trx: Write, id: string): Promise<string | null> {
    const asks = from()
    const network = asks === undefined ? null : networkOf(asks)
    // Whoever has a place keeps it: a person says yes to what is there already.
    if (await open(trx).select('id').where('id', '=', id).executeTakeFirst()) return network
    if (network !== null) {
      const site = siteOf(network)
      const shares = [
        { own: () => open(trx).where('network', '=', network), most: OF_NETWORK },
        ...(site === undefined ? [] : [{ own: () => open(trx).where('network', 'like', `${site}:%`), most: OF_SITE }]),
      ]
      for (const { own, most } of shares) {
        const over = (await countOf(own())) - most + 1
        if (over <= 0) continue
        const oldest = await own().select('id').orderBy('expires_at').limit(over).execute()
        await trx
          .deleteFrom('oauth_records')
          .where('model', '=', model)
          .where(
            'id',
            'in',
            oldest.map((row) => row.id),
          )
          .execute()
      }
    }
    if ((await countOf(open(trx))) < MOST_INTERACTIONS) return network
    const held = await open(trx)
      .select((row) => ['network', row.fn.countAll<number>().as('count'), row.fn.min('expires_at').as('since')])
      .where('network', 'is not', null)
      .groupBy('network')
      .execute()
    const most = whoGivesWay(held.map((one) => ({ from: one.network!, count: Number(one.count), since: Number(one.since) })))
    if (!most) throw new ChaperoneError('too_many', 'Too many sign-ins of clients are under way.')
    const oldest = open(trx).select('id').where('network', '=', most.from).orderBy('expires_at').limit(1)
    await trx.deleteFrom('oauth_records').where('model', '=', model).where('id', 'in', oldest).execute()
    return network
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
        network: null,
      }
      const { model: _model, id: _id, consumed_at: _consumed, network: _network, ...changed } = values
      await store.write(async (trx) => {
        const network = OPEN_TO_STRANGERS.has(model) ? await placeFor(trx, values.id) : null
        // From our own pages it is written again with the answer of its person.
        const again = from() === undefined ? { ...changed, network: null } : changed
        const { numInsertedOrUpdatedRows } = await trx
          .insertInto('oauth_records')
          .values({ ...values, network })
          .onConflict((conflict) => {
            const written = conflict.columns(['model', 'id']).doUpdateSet(again)
            return ONCE.has(model) ? written.where('oauth_records.expires_at', '<=', clock.now()) : written
          })
          .executeTakeFirstOrThrow()
        if (numInsertedOrUpdatedRows !== 1n) throw new ChaperoneError('conflict', 'It was used already.')
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
      const { numDeletedRows } = await store.write((trx) =>
        trx.deleteFrom('oauth_records').where('model', '=', model).where('id', '=', hashed(id)).executeTakeFirstOrThrow(),
      )
      if (numDeletedRows === 0n && ENDS_ONCE.has(model)) throw new ChaperoneError('conflict', 'It was answered already.')
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
