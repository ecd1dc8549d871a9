import { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { Store } from '../store/store.ts'

const LIFE_MS = 3 * 60_000
/** Of strangers, and of one person; the oldest make room, so a flood of questions fills nothing. */
const MOST = { strangers: 5_000, person: 20 } as const

export interface Challenges {
  /** Keeps what was asked until it is answered, once. `identityId` undefined: of a stranger. Returns its id. */
  put(identityId: string | undefined, data: unknown): Promise<string>
  /** What was asked; it is gone then. With `mine`: only when that says so of it, else it stays. Throws `factor_invalid` for what is unknown, answered, over, or somebody else's. */
  take(identityId: string | undefined, id: string, mine?: (data: unknown) => boolean): Promise<unknown>
}

export function keepChallenges(store: Store, now: () => number, { lifeMs = LIFE_MS } = {}): Challenges {
  return {
    async put(identityId, data) {
      const id = newId('chl', now())
      await store.write(async (trx) => {
        await trx.deleteFrom('challenges').where('expires_at', '<=', now()).execute()
        const [least] = await trx
          .selectFrom('challenges')
          .select('id')
          .where('identity_id', identityId === undefined ? 'is' : '=', identityId ?? null)
          .orderBy('id', 'desc')
          .offset((identityId === undefined ? MOST.strangers : MOST.person) - 1)
          .limit(1)
          .execute()
        if (least)
          await trx
            .deleteFrom('challenges')
            .where('identity_id', identityId === undefined ? 'is' : '=', identityId ?? null)
            .where('id', '<=', least.id)
            .execute()
        await trx
          .insertInto('challenges')
          .values({ id, identity_id: identityId ?? null, data: JSON.stringify(data), expires_at: now() + lifeMs })
          .execute()
      })
      return id
    },

    async take(identityId, id, mine) {
      if (mine) {
        const seen = await store.db.selectFrom('challenges').select('data').where('id', '=', id).executeTakeFirst()
        if (!seen || !mine(JSON.parse(seen.data))) throw gone()
      }
      // One statement: of two who answer at once, one finds it.
      const row = await store.write((trx) =>
        trx
          .deleteFrom('challenges')
          .where('id', '=', id)
          .where('identity_id', identityId === undefined ? 'is' : '=', identityId ?? null)
          .where('expires_at', '>', now())
          .returning('data')
          .executeTakeFirst(),
      )
      if (!row) throw gone()
      return JSON.parse(row.data)
    },
  }
}

const gone = () => new ChaperoneError('factor_invalid', 'The question to the passkey is answered already, or too old.', { fix: 'Try again.' })
