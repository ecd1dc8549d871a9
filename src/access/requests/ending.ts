import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import type { RequestTable } from '../../store/tables-requests.ts'
import { isOwn, standingOf } from './approvers.ts'
import { endsRights } from './commit.ts'
import { assertHimself, refused } from './himself.ts'
import { LONGEST_NOTE } from './limits.ts'
import { type Change, next } from './machine.ts'
import { overAlready, type RequestParts, whoActs } from './parts.ts'
import type { Looked, Seeing } from './seeing.ts'
import type { AccessRequest, RequestEvent, Requests } from './types.ts'

/** How requests end by somebody's hand, and how what was taken in an emergency is looked at. */
export function makeEnding(parts: RequestParts, seeing: Seeing): Pick<Requests, 'withdraw' | 'revoke' | 'review'> {
  const { book, voters, audit, clock, commit } = parts

  const change = (request: AccessRequest, set: Partial<RequestTable>, type: RequestEvent['type']): Promise<AccessRequest> =>
    commit(type, (trx) => book.change(trx, request, set), { rights: endsRights(request, set.state) })

  const after = (request: AccessRequest, by: Change) => {
    const state = next(request.state, by)
    // A server that was added is taken away by applying, not by taking back the wish for it.
    if (!state || (request.kind === 'server' && request.state !== 'pending')) throw overAlready(request)
    return state
  }

  /** Whoever could say yes to it, were it asked now; and is not the one who asked. */
  const couldDecide = ({ request, asker, voter }: Looked): boolean =>
    voter !== undefined && standingOf(asker, request.needs, voter, request.escalatedAt !== undefined).no === undefined

  const holds = ({ principal, startedAt, how }: LiveSession, verb: 'approve' | 'lock' | 'apply') =>
    principal.chain.length === 1 && voters.holds(principal.identityId, verb, { startedAt, how })

  const noted = (text: string) => {
    if (text.trim() === '' || text.length > LONGEST_NOTE)
      throw new ChaperoneError('usage', `This needs a reason of at most ${LONGEST_NOTE} characters.`)
    return text
  }

  return {
    async withdraw(session, id) {
      const { request, his } = await seeing.one(session, id)
      if (!his)
        throw await refused(parts, session, 'approve', `withdraw ${id}`, new ChaperoneError('approval_refused', 'Only who asked takes it back.'))
      const state = after(request, 'withdraw')
      await audit.append({
        ...whoActs(parts, session),
        type: request.state === 'pending' ? 'request.decided' : 'request.ended',
        request: id,
        data: { request: id, kind: request.kind, state, askedBy: request.identityId, own: true, ...nameOf(request) },
      })
      const decided = request.state === 'pending' ? { decided_by: session.principal.identityId, decided_at: clock.now() } : {}
      return change(request, { state, ...decided, ...ended(request, clock.now()) }, 'withdrawn')
    },

    async revoke(session, id, reason) {
      const looked = await seeing.one(session, id)
      const { request } = looked
      const why = noted(reason)
      if (!couldDecide(looked) && !holds(session, 'lock'))
        throw await refused(
          parts,
          session,
          'lock',
          `revoke ${id}`,
          new ChaperoneError('approval_refused', 'Only who may approve it, or may lock, takes it away.'),
        )
      await assertHimself(parts, session, 'lock', `revoke ${id}`)
      const state = after(request, 'revoke')
      await audit.append({
        ...whoActs(parts, session),
        type: 'request.ended',
        request: id,
        data: { request: id, kind: request.kind, state, askedBy: request.identityId, reason: why },
      })
      return change(request, { state, ...ended(request, clock.now()) }, 'revoked')
    },

    async review(session, id, note) {
      const looked = await seeing.one(session, id)
      const { request, asker } = looked
      const text = noted(note)
      if (request.reviewDue === undefined) throw new ChaperoneError('conflict', 'There is nothing to look at: it was asked for and answered.')
      if (request.reviewedBy !== undefined) throw new ChaperoneError('conflict', 'Somebody has looked at it already.')
      if (isOwn(asker, session.principal.identityId) || !(couldDecide(looked) || holds(session, 'approve')))
        throw await refused(
          parts,
          session,
          'approve',
          `review ${id}`,
          new ChaperoneError('approval_refused', 'It is looked at by somebody who could have approved it, and never by who took it.'),
        )
      await assertHimself(parts, session, 'approve', `review ${id}`)
      await audit.append({
        ...whoActs(parts, session),
        type: 'request.reviewed',
        request: id,
        data: { request: id, askedBy: request.identityId, note: text },
      })
      return change(request, { reviewed_by: session.principal.identityId, reviewed_at: clock.now() }, 'reviewed')
    },
  }
}

/** What was granted ends at the minute in which it is given back. */
const ended = ({ kind, state, endsAt }: AccessRequest, now: number): Partial<RequestTable> =>
  kind === 'access' && state === 'approved' && endsAt !== undefined ? { ends_at: Math.min(endsAt, now) } : {}

const nameOf = ({ kind, body }: AccessRequest) => (kind === 'server' ? { name: body.name } : {})
