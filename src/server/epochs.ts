import type { LockWatch } from '../access/lock-watch.ts'
import type { RightsWatch } from '../access/rights-watch.ts'
import type { StateKeeper } from '../access/state.ts'
import { sessionOver } from '../identity/end-reasons.ts'
import { endedAmong } from '../identity/session-endings.ts'
import type { Sessions } from '../identity/types.ts'
import type { StoredKeyring } from '../keys/keyring.ts'
import type { Lease } from '../store/lease.ts'
import type { Store } from '../store/store.ts'
import type { standingOf } from './standing.ts'

export interface EpochParts {
  readonly store: Store
  readonly lease: Pick<Lease, 'onEpoch' | 'epoch'>
  readonly state: Pick<StateKeeper, 'refresh'>
  readonly credentials: { changed(): void }
  readonly sessions: Pick<Sessions, 'list' | 'review'>
  readonly guard: { review(): void; reviewQuestions(): void }
  readonly keyring: Pick<StoredKeyring, 'refresh'>
  readonly requests: { rightsChanged(): void }
  readonly lockWatch: Pick<LockWatch, 'look'>
  readonly rightsWatch: Pick<RightsWatch, 'look'>
  readonly standing: Pick<ReturnType<typeof standingOf>, 'whyCut' | 'whyCredential'>
}

/**
 * What a node does when rights may have become fewer anywhere, until what is returned is called. A lock is acknowledged once
 * every node has been through this, so what falls under it comes first; everything that asks the store again comes after.
 */
export async function followEpochs(parts: EpochParts): Promise<() => void> {
  const { store, lease, state, credentials, sessions, guard, keyring, requests, lockWatch, rightsWatch, standing } = parts
  const stop = lease.onEpoch(async (epoch) => {
    const { locks } = await state.refresh(epoch)
    credentials.changed()
    sessions.review(standing.whyCut, locks.some(({ target_kind }) => target_kind === 'credential') ? standing.whyCredential : undefined)
    guard.review()
    // Keys are rotated with the epoch: what another node sealed or signed from now on must be readable here.
    await keyring.refresh()
    const over = await endedAmong(
      store,
      sessions.list().map((session) => session.id),
    )
    if (over.size > 0) {
      sessions.review((session) => (over.has(session.id) ? sessionOver(over.get(session.id) ?? null) : undefined))
      guard.review()
    }
    requests.rightsChanged()
    guard.reviewQuestions()
    lockWatch.look(locks)
    rightsWatch.look()
  })
  credentials.changed()
  lockWatch.look((await state.refresh(lease.epoch())).locks) // what rose between the first look and the listener
  return stop
}
