import type { Clock } from '../../clock.ts'
import { lockFor } from '../../identity/locks.ts'
import { decide } from '../../policy/decide.ts'
import type { Link, Question, Resource, Verdict } from '../../policy/types.ts'
import type { Database, Write } from '../../store/store.ts'
import { administer, type Verb } from '../administration.ts'
import type { StateKeeper } from '../state.ts'
import type { Asker, Voter } from './approvers.ts'
import type { AccessRequest, Vote } from './types.ts'

/** Who somebody is for a request: as the applied roles and locks say now. */
export interface Voters {
  /** A person by his id, as if he sat here alone; undefined when he is disabled, deleted or locked: then nothing he said counts. */
  voter(id: string, said: Pick<Question['session'], 'startedAt' | 'how'>): Voter | undefined
  /** Of those who said yes, who still counts: somebody who was locked or disabled since does not. */
  stillCounting(votes: readonly Vote[]): Voter[]
  /** Whether an identity, acting for itself alone, holds a verb of Chaperone, and needs nobody else's yes for it. */
  holds(id: string, verb: Verb, said: Pick<Question['session'], 'startedAt' | 'how'>): boolean
  /** The same, with the yes of somebody else if need be: for what changes nothing. */
  mayAsk(id: string, verb: Verb, said: Pick<Question['session'], 'startedAt' | 'how'>): boolean
  /** Who asked, of each of these. Who is disabled by now is still the one who asked. */
  askers(requests: readonly AccessRequest[]): Promise<(request: AccessRequest) => Asker>
}

export function makeVoters({
  db,
  state,
  clock,
  chaperone,
}: {
  readonly db: Database
  readonly state: Pick<StateKeeper, 'current'>
  readonly clock: Clock
  readonly chaperone: Resource
}): Voters {
  const linksOf = (id: string): readonly Link[] | undefined => {
    try {
      const links = state.current().administering([{ identity: id }], clock.now())
      return lockFor(state.current().locks, { now: clock.now(), links }) ? undefined : links
    } catch {
      // Disabled, deleted, or his owner is: the same as nobody.
      return undefined
    }
  }
  const verdictOf = (id: string, verb: Verb, { startedAt, how }: Pick<Question['session'], 'startedAt' | 'how'>): Verdict => {
    const links = linksOf(id)
    if (!links) return 'deny'
    const question = { links, action: administer(chaperone, verb, verb), now: clock.now(), session: { id: '', startedAt, how } }
    return decide(state.current().policy, question).verdict
  }
  const holds: Voters['holds'] = (id, verb, said) => verdictOf(id, verb, said) === 'allow'
  const voter: Voters['voter'] = (id, said) => {
    const link = linksOf(id)?.[0]
    if (!link) return undefined
    const { kind, name, roles } = link.identity
    const granted = (link.grants ?? []).filter((grant) => grant.resourceId === undefined && grant.until > clock.now()).map((grant) => grant.role)
    return { id, kind, name, links: 1, roles: [...roles, ...granted], approves: holds(id, 'approve', said) }
  }

  return {
    holds,
    mayAsk: (id, verb, said) => verdictOf(id, verb, said) !== 'deny',
    voter,
    stillCounting: (votes) =>
      votes.filter((vote) => vote.verdict === 'approve').flatMap(({ identityId, at, how }) => voter(identityId, { startedAt: at, how }) ?? []),
    askers: (requests) => askersOf(db, requests),
  }
}

/** see {@link Voters.askers} */
export async function askersOf(db: Database | Write, requests: readonly AccessRequest[]): Promise<(request: AccessRequest) => Asker> {
  const ids = [
    ...new Set(requests.flatMap(({ identityId, chain, needs }) => [identityId, ...chain.map((l) => l.identity), ...needs.map((n) => n.link)])),
  ]
  const rows = ids.length === 0 ? [] : await db.selectFrom('identities').select(['id', 'kind', 'owner_id']).where('id', 'in', ids).execute()
  const people = new Map(rows.map((row) => [row.id, { kind: row.kind, ownerId: row.owner_id ?? undefined }]))
  const sessions = [...new Set(requests.flatMap(({ sessionId }) => sessionId ?? []))]
  const issuersOf = await readIssuers(db, sessions)
  return ({ identityId, chain, sessionId }) => ({ identityId, chain, issuers: issuersOf(sessionId ?? ''), person: (id) => people.get(id) })
}

/** Of each session and of those that it was made from: what a sub-agent shows may be of another issuer than what it was handed. */
async function readIssuers(db: Database | Write, sessions: readonly string[]): Promise<(session: string) => ReadonlySet<string>> {
  const rows = new Map<string, { readonly issuer_id: string | null; readonly parent_id: string | null }>()
  for (let next = sessions; next.length > 0; ) {
    const found = await db.selectFrom('sessions').select(['id', 'issuer_id', 'parent_id']).where('id', 'in', next).execute()
    for (const row of found) rows.set(row.id, row)
    next = [...new Set(found.flatMap(({ parent_id }) => parent_id ?? []))].filter((id) => !rows.has(id))
  }
  return (session) => {
    const issuers = new Set<string>()
    for (let row = rows.get(session); row; row = rows.get(row.parent_id ?? '')) if (row.issuer_id !== null) issuers.add(row.issuer_id)
    return issuers
  }
}
