import type { StateKeeper } from '../access/state.ts'
import { fingerprintsOf } from '../ca/pem.ts'
import type { CertificateAuthority } from '../ca/types.ts'
import type { Clock } from '../clock.ts'
import type { JoinSpec } from '../identity/joining/document.ts'
import { type Joining, type JoiningParts, openJoining } from '../identity/joining/joins.ts'
import { sweepProofs } from '../identity/joining/used-proofs.ts'
import type { Outgoing } from '../vault/outbound.ts'
import { every } from './every.ts'
import { type Log, logError } from './log.ts'

/** How often proofs are forgotten that nobody would believe any more. */
const SWEEP_PROOFS_MS = 60_000

/** How often the sessions are looked at that rest on certificates. */
const SWEEP_REVOKED_MS = 60_000

/** Joining by documents, with the ways outside that it may take. */
export function joiningOf({
  state,
  outgoing,
  ca,
  clock,
  log,
  undo,
  ...parts
}: Pick<JoiningParts, 'store' | 'audit' | 'keyring' | 'trustDomain' | 'sessions'> & {
  readonly state: StateKeeper
  readonly outgoing: Outgoing
  readonly ca: Pick<CertificateAuthority, 'bundle'>
  readonly clock: Clock
  readonly log: Log
  readonly undo: (() => unknown)[]
}): Joining {
  undo.push(
    every(
      clock,
      SWEEP_PROOFS_MS,
      () => sweepProofs(parts.store, clock.now()),
      (error) => logError(log, 'used proofs', error),
    ),
  )
  const joining = openJoining({
    ...parts,
    clock,
    document: (name) => state.current().find('join', name)?.spec as JoinSpec | undefined,
    open: ({ ca: authority, allowPrivate, maxBytes }) =>
      outgoing.asFetch({ ca: authority, allowPrivate, ...(maxBytes === undefined ? {} : { maxBytes }) }),
    servers: async () => fingerprintsOf(await ca.bundle('server')),
  })
  const failed = (error: unknown) => logError(log, 'revocation lists', error)
  undo.push(every(clock, SWEEP_REVOKED_MS, () => joining.endRevoked(failed), failed))
  return joining
}
