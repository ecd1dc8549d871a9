import type { Masker } from '../../audit/mask.ts'
import type { Store } from '../../store/store.ts'
import { makeAsking } from './asking.ts'
import { openBook } from './book.ts'
import { type Calls, openCalls } from './calls.ts'
import { openChanges } from './changes.ts'
import { type Announce, type CommitParts, makeCommit } from './commit.ts'
import { makeDeciding } from './deciding.ts'
import { makeEnding } from './ending.ts'
import { whyNotGrant } from './grants.ts'
import type { RequestParts } from './parts.ts'
import { makeSeeing, shownTo } from './seeing.ts'
import { makeSweep, type Sweep } from './sweep.ts'
import { turnsById } from './turns.ts'
import type { Requests } from './types.ts'
import { makeVoters } from './voters.ts'

interface RequestsParts extends Pick<RequestParts, 'state' | 'audit' | 'clock' | 'chaperone'>, Pick<CommitParts, 'raised'> {
  readonly store: Store
  readonly masker: Pick<Masker, 'text' | 'looks' | 'holds'>
  /** where a request is decided in a browser */
  readonly link: (id: string) => string
  /** What nobody waits for went wrong. */
  readonly failed: (error: unknown) => void
}

export interface OpenRequests extends Requests {
  /** what the guard asks */
  readonly calls: Calls
  /** Told of each change inside its transaction, from now on. */
  announcing(announce: Announce): () => void
  readonly parts: RequestParts
  /** The state of rights is another one: after every permit that is out was judged again. */
  rightsChanged(): void
  /** What time does to requests, for a node that knows its permits. */
  sweep(node: { readonly nodeId: string; has(permit: string): boolean }): Sweep
  close(): void
}

/** The one object for every "may I"; made once by `server/`. */
export function openRequests(given: RequestsParts): OpenRequests {
  const { store, clock, state, failed } = given
  const hooks = new Set<Announce>()
  const announce: Announce = async (trx, event) => {
    for (const hook of hooks) await hook(trx, event)
  }
  const book = openBook(store, clock)
  const changes = openChanges({ store, book, clock, failed })
  const voters = makeVoters({ db: store.db, state, clock, chaperone: given.chaperone })
  const commit = makeCommit({ ...given, changes, announce })
  const parts: RequestParts = { ...given, book, changes, voters, commit }
  const seeing = makeSeeing(parts)
  const decide = makeDeciding(parts, seeing, (looked) => whyNotGrant(parts, looked))
  const ending = makeEnding(parts, seeing)
  const inTurn = turnsById()

  return {
    ...makeAsking(parts),
    calls: openCalls({ ...given, book, changes, voters, commit }),
    // One after the other for each person too: a factor that confirms one thing confirms no other.
    decide: (session, id, ask) => inTurn(session.principal.identityId, () => inTurn(id, () => decide(session, id, ask))),
    withdraw: (session, id) => inTurn(id, () => ending.withdraw(session, id)),
    revoke: (session, id, reason) => inTurn(id, () => ending.revoke(session, id, reason)),
    review: (session, id, note) => inTurn(id, () => ending.review(session, id, note)),
    async show(session, id) {
      return shownTo(await seeing.one(session, id), parts.masker)
    },
    list: (session, filter) => seeing.list(session, filter),
    decided: (id, wait) => changes.decided(id, wait),
    get rights() {
      return changes.rights
    },
    rightsChanged: () => changes.rightsChanged(),
    watch: (see) => changes.watch(see),
    announcing(hook) {
      hooks.add(hook)
      return () => hooks.delete(hook)
    },
    parts,
    sweep: (node) => makeSweep({ ...parts, ...node }),
    close: () => changes.close(),
  }
}
