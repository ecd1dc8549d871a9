import { ChaperoneError } from '../errors.ts'

/** Why a session or a delegation ended, as the store and the record name it, and in words for people. */
const ENDINGS = {
  logout: 'signed out',
  idle: 'not used for longer than a role allows',
  longest: 'at the longest life that a role allows',
  elsewhere: 'signed in elsewhere, and a role leaves no room for both',
  again: 'signed in again in the same browser',
  everywhere: 'signed out of every browser',
  browser: 'its browser was removed',
  certificate: 'its certificate was revoked',
  killed: 'ended',
  revoked: 'revoked',
  copied: 'somebody else has its key',
  lost: 'its answer never arrived',
  directory: 'gone from the directory',
  provider: 'signed out at the company, or let in there no more',
  unchecked: 'the company could not be asked for too long',
  withdrawn: 'what was agreed to was taken back',
  undone: 'it never began',
  deleted: 'an identity was deleted',
  expired: 'its time was over',
  unbound: 'the session that it was bound to is over',
  uprooted: 'what it was handed on under has ended',
} as const

export type EndReason = keyof typeof ENDINGS

/** Whoever ended it; absent when nobody did. */
export interface EndedBy {
  readonly id: string
  readonly name: string
}

/** The reason as a row keeps it. */
export const kept = (reason: EndReason, by?: EndedBy): string => (by ? `${reason} by ${by.name}` : reason)

/** What a row keeps, in words: `revoked by boris`. */
export function endWords(kept: string): string {
  const [reason = '', ...by] = kept.split(' ')
  return [Object.hasOwn(ENDINGS, reason) ? ENDINGS[reason as EndReason] : reason, ...by].join(' ')
}

/** What a session is told that ended by itself, or because what it rested on did; not who did it, and of a thief nothing. */
const TOLD: Partial<Record<EndReason, string>> = {
  idle: 'The session was not used for longer than a role allows.',
  longest: 'The session has reached the longest life that a role allows.',
  revoked: 'The delegation by which it acted was revoked.',
  provider: 'You were signed out at the company, or are let in there no more.',
  unchecked: 'Whether you are still there could not be asked of the company for too long.',
  withdrawn: 'The delegation by which it acted was taken back.',
  expired: 'The time for which it was allowed to act is over.',
  unbound: 'The session that it was bound to is over: whoever it acted for has signed out.',
}

/** The error of a session that was ended; `kept` is what its row says. */
export function sessionOver(kept: string | null): ChaperoneError {
  return new ChaperoneError('session_ended', TOLD[kept?.split(' ')[0] as EndReason] ?? 'The session is over.', {
    detail: kept ?? 'ended',
    fix: 'Sign in or join again.',
  })
}
