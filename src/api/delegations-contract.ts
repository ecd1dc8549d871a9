/**
 * Delegations and exchange, as the API answers them.
 *
 *   GET    /v1/delegations[?of=NAME&all=1&limit=]  -> { delegations: DelegationRow[] }   verb identities, lock or audit.read; own without
 *   GET    /v1/delegations/:id                     -> DelegationRow                      the same. The end of an id is enough.
 *   DELETE /v1/delegations/:id                     -> { ended }                          verb identities or lock; own without
 *   POST   /v1/exchange  ExchangeBody              -> Credential | Token                 an agent, for a sub-agent
 */
import type { Limits } from '../policy/types.ts'

export type { DelegationRow } from '../identity/delegation/list.ts'

export interface ExchangeBody {
  /** name of an agent of the same owner, of one whose document names who asks in `may_act`, or `<owner>/<new name>` */
  readonly to: string
  readonly limits?: Limits
  /** at most until the session that asks is over */
  readonly for?: string
  readonly purpose?: string
  /** one of the two */
  readonly csr?: string
  readonly token?: { readonly audience: string }
}
