import type { Need, RequestKind, RequestState } from './types.ts'

export const REQUEST_KINDS = ['access', 'call', 'server'] as const satisfies readonly RequestKind[]

export const REQUEST_STATES = [
  'pending',
  'approved',
  'denied',
  'expired',
  'withdrawn',
  'used',
  'revoked',
  'unknown',
] as const satisfies readonly RequestState[]

/** What can happen to a request. */
export type Change = 'approve' | 'deny' | 'expire' | 'withdraw' | 'use' | 'lose' | 'revoke'

/** What is not here does not happen: most of all, nothing leads back to `approved`, and nothing from `used` to a second use. */
const NEXT: Readonly<Record<RequestState, Readonly<Partial<Record<Change, RequestState>>>>> = {
  pending: { approve: 'approved', deny: 'denied', expire: 'expired', withdraw: 'withdrawn' },
  approved: { use: 'used', expire: 'expired', withdraw: 'withdrawn', revoke: 'revoked' },
  used: { lose: 'unknown' },
  denied: {},
  expired: {},
  withdrawn: {},
  revoked: {},
  unknown: {},
}

/** The state after the change, or undefined where it cannot happen. Pure. */
export const next = (state: RequestState, change: Change): RequestState | undefined => NEXT[state][change]

export const TIMES = {
  /** a call waits for an answer */
  callPendingMs: 60 * 60_000,
  /** and its approval waits to be used */
  callApprovedMs: 15 * 60_000,
  accessPendingMs: 24 * 3_600_000,
  /** what was taken without asking is looked at within this */
  reviewMs: 24 * 3_600_000,
  /** and is called overdue again each time this is over */
  overdueEveryMs: 24 * 3_600_000,
} as const

/** Where several rules ask, the shortest time that one of them says. */
export const shortest = (needs: readonly Need[], otherwise: number): number => {
  const said = needs.flatMap((need) => (need.expiresMs === undefined ? [] : [need.expiresMs]))
  return said.length === 0 ? otherwise : Math.min(...said)
}
