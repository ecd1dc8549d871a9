import type { z } from 'zod'
import { whoDecides } from '../../../access/requests/approvers.ts'
import type { AccessRequest } from '../../../access/requests/types.ts'
import { askedInSentence, askedOf } from '../../../access/requests/words.ts'
import { instantText } from '../../../encoding/moment.ts'
import type { RESULTS } from './definitions.ts'

export type Told = z.infer<(typeof RESULTS)['request_access']>

/** A request as the one who asked may see it: not who said what, but what was decided. */
export function toldOf(request: AccessRequest, page: string): Told {
  const { id, kind, state, reason, createdAt } = request
  const said = request.votes.find((vote) => vote.verdict === 'deny')?.reason
  const until = kind === 'access' && state === 'approved' ? request.endsAt : request.expiresAt
  return {
    id,
    kind,
    what: askedInSentence(askedOf(request)),
    state,
    next: nextOf(request),
    page,
    ...(state === 'pending' ? { approvers: whoDecides(request) } : {}),
    ...(reason === '' ? {} : { reason }),
    ...(said === undefined ? {} : { said }),
    created_at: instantText(createdAt),
    ...(until !== undefined && (state === 'pending' || state === 'approved') ? { until: instantText(until) } : {}),
  }
}

function nextOf({ kind, state, startsAt }: AccessRequest): string {
  const call = kind === 'call'
  switch (state) {
    case 'pending':
      return call
        ? 'A human was asked. Send the same call again, unchanged, after the yes; show the page to the person you work for.'
        : 'A human was asked. Show the page to the person you work for, and ask for the status later.'
    case 'approved':
      if (call) return 'Send the same call again, unchanged: it runs once.'
      if (kind === 'server') return 'The server is there, or will be soon.'
      return startsAt === undefined ? 'You have it. Just do what you wanted to do.' : `You have it from ${instantText(startsAt)} on.`
    case 'denied':
      return 'A human said no. Do not try to reach the same in another way.'
    case 'expired':
      return 'Its time is over. Ask again if it is still needed.'
    case 'used':
      return 'The approved call has run. A second one needs a yes of its own.'
    case 'unknown':
      return 'The approved call was sent, and nobody can say what came of it. Look before you ask again.'
    case 'withdrawn':
      return 'It was taken back, or is needed no more.'
    case 'revoked':
      return 'It was taken away again.'
  }
}
