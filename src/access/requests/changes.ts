import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Store } from '../../store/store.ts'
import type { Book } from './book.ts'
import type { AccessRequest, RequestEvent, RequestState } from './types.ts'

/** How soon a decision on another node is noticed here, while somebody waits for one. */
const LOOK_MS = 500
/** A transaction may take its time from the store long before it commits: what is older than this was seen, if it is there. */
const OVERLAP_MS = 20_000

const EVENT: Readonly<Record<RequestState, RequestEvent['type']>> = {
  pending: 'made',
  approved: 'approved',
  denied: 'denied',
  expired: 'expired',
  withdrawn: 'withdrawn',
  used: 'used',
  revoked: 'revoked',
  unknown: 'unknown',
}

export interface Changes {
  /** A change that was made here, once it is stored. */
  tell(event: RequestEvent): void
  watch(see: (event: RequestEvent) => void): () => void
  decided(id: string, wait: { readonly ms: number; readonly signal?: AbortSignal; readonly rights?: number }): Promise<AccessRequest>
  readonly rights: number
  /** Rights have changed here: who waits looks again whether he must. */
  rightsChanged(): void
  close(): void
}

/** Who watches and who waits. The store is looked at only while there is somebody: for what other nodes change. */
export function openChanges({
  store,
  book,
  clock,
  failed,
}: {
  readonly store: Store
  readonly book: Book
  readonly clock: Clock
  readonly failed: (error: unknown) => void
}): Changes {
  const watchers = new Set<(event: RequestEvent) => void>()
  const waiting = new Set<(why: ChaperoneError) => void>()
  /** who waits for an answer only while rights are what they were */
  const wary = new Set<() => void>()
  let rights = 0
  /** what is known of each request: time of the change and state, and whether somebody was told of it */
  const told = new Map<string, { readonly at: number; readonly request: AccessRequest; readonly heard: boolean }>()
  let looking = false
  let closed = false
  let cancel = () => {}

  const tell = (event: RequestEvent): void => {
    const { request } = event
    const before = told.get(request.id)
    // The first look may have found it stored, and taken it for old, before whoever made it could tell of it.
    if (before?.heard && before.at >= request.updatedAt) return
    if (looking) told.set(request.id, { at: request.updatedAt, request, heard: true })
    for (const see of [...watchers]) {
      try {
        see(event)
      } catch (error) {
        failed(error)
      }
    }
  }

  const look = async (silently: boolean): Promise<void> => {
    const since = (await store.now()) - OVERLAP_MS
    for (const request of await book.changedSince(since)) {
      const before = told.get(request.id)
      if (before && before.at >= request.updatedAt) continue
      if (silently) told.set(request.id, { at: request.updatedAt, request, heard: false })
      else tell({ type: typeOf(before?.request, request), request })
    }
    for (const [id, { at }] of told) if (at < since) told.delete(id)
  }

  const keepLooking = (): void => {
    cancel = clock.at(clock.now() + LOOK_MS, () => {
      if (watchers.size === 0 || closed) {
        looking = false
        told.clear()
        return
      }
      look(false).catch(failed).finally(keepLooking)
    })
  }

  const begin = (): void => {
    if (looking || closed) return
    looking = true
    // What was there before anybody watched is not news.
    look(true).catch(failed).finally(keepLooking)
  }

  const watch = (see: (event: RequestEvent) => void): (() => void) => {
    watchers.add(see)
    begin()
    return () => watchers.delete(see)
  }

  return {
    tell,
    watch,
    get rights() {
      return rights
    },
    rightsChanged() {
      rights++
      for (const wake of [...wary]) wake()
    },
    async decided(id, { ms, signal, rights: asOf }) {
      const over = Promise.withResolvers<AccessRequest | undefined>()
      // Nobody may be listening when the process goes: that is no fault of theirs.
      over.promise.catch(() => {})
      waiting.add(over.reject)
      const unwatch = watch(({ request }) => {
        if (request.id === id && request.state !== 'pending') over.resolve(request)
      })
      const disarm = clock.at(clock.now() + ms, () => over.resolve(undefined))
      const woken = () => over.resolve(undefined)
      signal?.addEventListener('abort', woken, { once: true })
      if (asOf !== undefined) wary.add(woken)
      try {
        // Looked at after the watch began: what is decided between the two is seen by one of them.
        const now = await book.find(id)
        if (!now) throw new ChaperoneError('not_found', 'There is no such request.')
        if (now.state !== 'pending' || signal?.aborted || (asOf !== undefined && asOf !== rights)) return now
        return (await over.promise) ?? (await book.find(id)) ?? now
      } finally {
        waiting.delete(over.reject)
        unwatch()
        disarm()
        wary.delete(woken)
        signal?.removeEventListener('abort', woken)
      }
    },
    close() {
      closed = true
      cancel()
      watchers.clear()
      for (const reject of waiting) reject(new ChaperoneError('draining', 'Chaperone is shutting down; the question stays, and so does its answer.'))
    },
  }
}

/** What happened on another node, told from the rows before and after. */
function typeOf(before: AccessRequest | undefined, now: AccessRequest): RequestEvent['type'] {
  if (before && before.state === now.state) {
    if (now.votes.length > before.votes.length) return 'voted'
    if (now.escalatedAt !== before.escalatedAt) return 'escalated'
    if (now.reviewedBy !== before.reviewedBy) return 'reviewed'
    if (now.reviewDue !== before.reviewDue) return 'review_overdue'
  }
  if (now.state === 'approved' && now.reviewDue !== undefined && !before) return 'broke_glass'
  return EVENT[now.state]
}
