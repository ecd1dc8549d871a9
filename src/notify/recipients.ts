import { isOwn, standingOf, type Voter } from '../access/requests/approvers.ts'
import type { AccessRequest } from '../access/requests/types.ts'
import { askersOf } from '../access/requests/voters.ts'
import { MAIL_ADDRESS } from '../catalog/notifier.ts'
import type { Write } from '../store/store.ts'

/** More than this are not written to one by one: then a list of the company is the better address. */
const MOST = 50
/** Each person who is looked at costs a decision inside the transaction of the change: some 40 ms in all. */
const MOST_LOOKED_AT = 2_000

export interface Deciders {
  /** A person as he stands now. */
  readonly voter: (identityId: string) => Voter | undefined
  /** Whether this person may apply documents: about a server that somebody wishes for, such people decide. */
  readonly mayApply: (identityId: string) => boolean
}

/**
 * Mail addresses (the trait `email`) of those who could decide about a request as it stands. Only for telling them: whether
 * somebody may decide is judged again, and in full, when he does.
 */
export async function approverAddresses(trx: Write, request: AccessRequest, { voter, mayApply }: Deciders): Promise<readonly string[]> {
  const rows = await trx.selectFrom('identities').select(['id', 'kind', 'state', 'traits']).orderBy('name').execute()
  const asker = (await askersOf(trx, [request]))(request)
  const decides = (somebody: Voter | undefined) =>
    somebody !== undefined && standingOf(asker, request.needs, somebody, request.escalatedAt !== undefined).no === undefined
  const addresses = new Set<string>()
  let looked = 0
  for (const { id, kind, state, traits } of rows) {
    if (kind !== 'user' || state !== 'active') continue
    const { email } = JSON.parse(traits) as { email?: unknown }
    if (typeof email !== 'string' || !MAIL_ADDRESS.test(email)) continue
    if (addresses.size === MOST || looked++ === MOST_LOOKED_AT) break
    if (request.kind === 'server' ? !isOwn(asker, id) && mayApply(id) : decides(voter(id))) addresses.add(email)
  }
  return [...addresses]
}

/** The mail address of one person who is active, if he has one. */
export async function addressOf(trx: Write, identityId: string): Promise<readonly string[]> {
  const row = await trx.selectFrom('identities').select(['kind', 'state', 'traits']).where('id', '=', identityId).executeTakeFirst()
  if (row?.kind !== 'user' || row.state !== 'active') return []
  const { email } = JSON.parse(row.traits) as { email?: unknown }
  return typeof email === 'string' && MAIL_ADDRESS.test(email) ? [email] : []
}
