import { ChaperoneError } from '../errors.ts'
import type { Ledger, Placement, SequencerRow } from './ledger.ts'
import { appendLeaves, type Frontier, frontierFromBytes, type Hash, rootOf } from './tree.ts'

/** One round never holds more leaves than this. */
const ROUND = 1000

/**
 * Gives leaves their places in the tree. One node at a time does so, elected by the row `audit_sequencer`; its token is in
 * every change, so that one who was away too long (a stopped process, a lost network) changes nothing when it comes back.
 *
 * While a node holds the row it places its own leaves as it stores them; those of other nodes, and those stored while
 * nobody held it, it picks up in rounds.
 */
export interface Sequencer {
  /** Becomes the sequencer if nobody else is, and places what waits. Throws as `round` does. */
  start(now: number): Promise<void>
  /** The places for leaves that are about to be stored; nothing while this node is not the sequencer. */
  placementFor(hashes: readonly Hash[], now: number): Placement | undefined
  /** What came of a placement. */
  placed(placement: Placement, done: boolean): void
  /**
   * Places what waits, if this node is the sequencer or can become it, and says which tree is to be signed: none when
   * another node holds the row, or when the newest checkpoint covers everything. Throws 'record_broken' when the store is
   * not as this node, or the newest checkpoint, left it.
   */
  round(now: number): Promise<{ readonly size: number; readonly root: Hash } | undefined>
}

interface Held {
  readonly token: number
  readonly frontier: Frontier
}

export function makeSequencer(ledger: Ledger, node: string): Sequencer {
  let held: Held | undefined
  /** What this node last knew to be true; a store that says otherwise under the same token was tampered with. */
  let known: Held | undefined

  async function claim(now: number): Promise<Held | undefined> {
    const row = await ledger.claim(node, now)
    if (!row) return undefined
    const frontier = read(row)
    if (known && row.token === known.token + 1 && rootOf(frontier) !== rootOf(known.frontier))
      throw broken('the tree changed while nobody had the right to change it')
    const checkpoint = await ledger.newestCheckpoint()
    if (checkpoint && checkpoint.size > frontier.size)
      throw broken(`a checkpoint was signed over ${checkpoint.size} records, and the tree has ${frontier.size}`)
    if (checkpoint && checkpoint.size === frontier.size && checkpoint.root !== rootOf(frontier))
      throw broken(`the tree is not the one that the checkpoint of size ${frontier.size} was signed over`)
    return { token: row.token, frontier }
  }

  /** Places what waits. Until all of it has its place, nothing new may be placed: a node's leaves follow in their order. */
  async function placeWaiting(mine: Held | undefined, now: number): Promise<Held | undefined> {
    held = undefined
    for (let at = mine; at; ) {
      const leaves = await ledger.unplaced(ROUND)
      if (leaves.length > 0) {
        const after = appendLeaves(
          at.frontier,
          leaves.map(({ hash }) => hash),
        )
        if (!(await ledger.place(leaves, { token: at.token, before: at.frontier, after, now }))) {
          known = at
          return undefined
        }
        at = { token: at.token, frontier: after }
      }
      if (leaves.length < ROUND) return at
    }
    return undefined
  }

  function settle(placement: Placement, done: boolean): void {
    if (!done) {
      known = held
      held = undefined
    } else if (held) held = { ...held, frontier: placement.after }
  }

  return {
    async start(now) {
      held = await placeWaiting(held ?? (await claim(now)), now)
    },
    placementFor(hashes, now) {
      if (!held) return undefined
      return { token: held.token, before: held.frontier, after: appendLeaves(held.frontier, hashes), now }
    },
    placed: settle,
    async round(now) {
      const outlook = await ledger.outlook()
      if (held && outlook.token === held.token && (outlook.size !== held.frontier.size || rootOf(read(outlook)) !== rootOf(held.frontier))) {
        throw broken('the tree in the store is not the one that this node has grown')
      }
      if (held && outlook.token !== held.token) held = undefined
      if (!outlook.waiting && outlook.size === outlook.signed) return undefined
      held = await placeWaiting(held ?? (await claim(now)), now)
      if (!held || held.frontier.size === outlook.signed) return undefined
      return { size: held.frontier.size, root: rootOf(held.frontier) }
    },
  }
}

function read(row: SequencerRow): Frontier {
  try {
    return frontierFromBytes(row.size, row.frontier)
  } catch (cause) {
    throw broken('the right edge of the tree in the store has the wrong length', cause)
  }
}

function broken(detail: string, cause?: unknown): ChaperoneError {
  return new ChaperoneError('record_broken', 'The record in the store was changed from outside. No checkpoint is signed over it.', {
    detail,
    fix: 'Run `chaperone audit verify` and keep a copy of the store.',
    cause,
  })
}
