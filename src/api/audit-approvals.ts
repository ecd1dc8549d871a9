import type { Envelope } from '../audit/record.ts'
import type { Database } from '../store/store.ts'
import type { AuditApproval } from './audit-contract.ts'

/** Of one statement: engines limit its parameters. */
const AT_ONCE = 500

/** The request whose approval a record used up: an intent that had to be asked for was sent on because somebody said yes. */
export const approvedBy = ({ type, decision, request }: Envelope): string | undefined =>
  type === 'action.intent' && decision?.verdict === 'ask' ? request : undefined

/**
 * Who said yes to each of these requests, oldest first, under the names of today. Read from the rows and not from the record, where
 * finding the votes of a request takes a walk over all of them: the record of each vote, `request.voted`, is the proof.
 */
export async function approvalsOf(db: Database, records: readonly Envelope[]): Promise<ReadonlyMap<string, AuditApproval>> {
  const ids = [...new Set(records.flatMap((record) => approvedBy(record) ?? []))]
  const found = new Map<string, AuditApproval>()
  for (let at = 0; at < ids.length; at += AT_ONCE) {
    const votes = await db
      .selectFrom('request_votes')
      .innerJoin('identities', 'identities.id', 'request_votes.identity_id')
      .select(['request_id', 'name', 'request_votes.at', 'how'])
      .where('request_id', 'in', ids.slice(at, at + AT_ONCE))
      .where('verdict', '=', 'approve')
      .orderBy('request_votes.at')
      .execute()
    for (const [request, theirs] of Map.groupBy(votes, (vote) => vote.request_id))
      found.set(request, { request, by: theirs.map((vote) => ({ name: vote.name, at: vote.at, how: vote.how })) })
  }
  return found
}
