import { ChaperoneError } from '../errors.ts'
import type { BodyRow, LeafRow } from './prepare.ts'
import type { Claim } from './record.ts'
import type { Frontier, Hash } from './tree.ts'

/**
 * The writer's own connection to the store, and the few statements it needs, once for each dialect. A method that rejects
 * has stored nothing, or nobody knows (a lost connection); after that the ledger is closed and opened anew.
 */
export interface Ledger {
  /** The highest sequence number this node has stored, 0 for none. */
  lastSeq(node: string): Promise<number>
  /**
   * Stores all of it in one transaction, durable on return. With a placement, the leaves get the positions that follow the
   * tree's size, and the result is true, unless somebody else has become the sequencer: then they wait for their positions.
   */
  commit(node: string, rows: readonly LeafRow[], bodies: readonly BodyRow[], placement?: Placement): Promise<boolean>
  /**
   * The same for one leaf, and the approval that it uses up (rule 12): both are durable, or neither. Throws `approval_used`
   * when that is not there to be used; then nothing is stored, and the connection is as good as before.
   */
  commitClaim(node: string, claim: Claim, row: LeafRow, bodies: readonly BodyRow[], placement?: Placement): Promise<boolean>
  /** What there is for a sequencer to do. */
  outlook(): Promise<Outlook>
  /** Makes this node the sequencer if nobody else is: raises the token. `now` counts on SQLite only; PostgreSQL has its own clock. */
  claim(node: string, now: number): Promise<SequencerRow | undefined>
  /** Leaves without a position, those of a node by their sequence. */
  unplaced(limit: number): Promise<readonly Unplaced[]>
  /** Gives them positions in this order. False, and nothing is changed, when the token is no longer the one. */
  place(leaves: readonly Unplaced[], placement: Placement): Promise<boolean>
  /** Keeps a signed checkpoint; one of the same size that is there stays. */
  saveCheckpoint(size: number, root: Hash, note: string, at: number): Promise<void>
  newestCheckpoint(): Promise<{ readonly size: number; readonly root: Hash; readonly note: string } | undefined>
  close(): Promise<void>
}

export const claimLost = () =>
  new ChaperoneError('approval_used', 'The approval of exactly this was used already, or is over.', {
    fix: 'Send the same again: a human is asked anew.',
  })

/** The right to grow the tree from `before` to `after`: holds only while the sequencer's row still says `token` and `before.size`. */
export interface Placement {
  readonly token: number
  readonly before: Frontier
  readonly after: Frontier
  /** ms since 1970, on SQLite */
  readonly now: number
}

export interface Unplaced {
  readonly node: string
  readonly seq: number
  readonly hash: Hash
}

export interface SequencerRow {
  readonly token: number
  readonly size: number
  readonly frontier: Uint8Array
}

export interface Outlook extends SequencerRow {
  readonly waiting: boolean
  /** size of the newest checkpoint */
  readonly signed: number
}

/**
 * How long a sequencer that went silent keeps its place. Nothing is lost meanwhile: leaves are durable, they only wait for
 * their positions.
 */
export const SEQUENCER_TTL_MS = 5000
