import { ChaperoneError } from '../../errors.ts'
import type { Database, Write } from '../../store/store.ts'
import type { NewRequest } from './book.ts'

/** Letters of what somebody says when he decides, takes back or looks at a request. */
export const LONGEST_NOTE = 500

/** What an identity may have waiting, and ask in a day, decided or not (rule 11). What one call is worth is less than a role. */
const REQUEST_LIMITS = {
  server: { waiting: 10, aDay: 50 },
  access: { waiting: 10, aDay: 50 },
  call: { waiting: 25, aDay: 500 },
  bodyBytes: 128 * 1024,
  /** A person and all of his agents together, as many times what one of them may have waiting and ask in a day: he can make agents, and those who decide read all of it. */
  ofOnePerson: 4,
} as const
const DAY_MS = 24 * 3_600_000

/** What would be refused is refused before a record says that it was asked for. Throws `too_many`, `too_large`. */
export async function assertMayAsk(
  db: Database | Write,
  { identityId, kind, body }: Pick<NewRequest, 'identityId' | 'kind' | 'body'>,
  now: number,
): Promise<void> {
  if (Buffer.byteLength(JSON.stringify(body)) > REQUEST_LIMITS.bodyBytes) throw new ChaperoneError('too_large', 'The request is over its limit.')
  const of = db
    .selectFrom('requests')
    .select((is) => is.fn.countAll<number>().as('count'))
    .where('identity_id', '=', identityId)
    .where('kind', '=', kind)
  const { waiting, aDay } = REQUEST_LIMITS[kind]
  if (Number((await of.where('state', '=', 'pending').executeTakeFirstOrThrow()).count) >= waiting) {
    throw new ChaperoneError('too_many', `${waiting} requests of yours wait for a decision already.`, {
      fix: 'Withdraw one that you no longer need: chaperone requests withdraw ID',
    })
  }
  const owner = db
    .selectFrom('identities')
    .select((is) => is.fn.coalesce('owner_id', 'id').as('id'))
    .where('id', '=', identityId)
  const together = db
    .selectFrom('requests')
    .innerJoin('identities', 'identities.id', 'requests.identity_id')
    .select((is) => is.fn.countAll<number>().as('count'))
    .where((is) => is.or([is('identities.id', '=', owner), is('identities.owner_id', '=', owner)]))
    .where('requests.kind', '=', kind)
  const { ofOnePerson } = REQUEST_LIMITS
  if (Number((await together.where('requests.state', '=', 'pending').executeTakeFirstOrThrow()).count) >= waiting * ofOnePerson) {
    throw new ChaperoneError('too_many', `${waiting * ofOnePerson} requests of one person and of what acts for him wait already.`, {
      fix: 'Withdraw those that are no longer needed: chaperone requests ls',
    })
  }
  if (Number((await of.where('created_at', '>', now - DAY_MS).executeTakeFirstOrThrow()).count) >= aDay)
    throw new ChaperoneError('too_many', `You have made ${aDay} requests in a day.`, { fix: 'Try again tomorrow.' })
  if (Number((await together.where('requests.created_at', '>', now - DAY_MS).executeTakeFirstOrThrow()).count) >= aDay * ofOnePerson)
    throw new ChaperoneError('too_many', `One person and what acts for him have made ${aDay * ofOnePerson} requests in a day.`, {
      fix: 'Try again tomorrow.',
    })
}
