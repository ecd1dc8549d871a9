import type { Columns } from './envelope.ts'
import type { Hash } from './tree.ts'

/**
 * A log opened for reading, also while a server writes it, and without one. It believes nothing: everything is handed on
 * as it is stored.
 */
export interface Log {
  readonly place: LogPlace
  overview(): Promise<Overview>
  /** Leaves by position, `from` up to but without `to`, in pages. */
  leaves(from: number, to: number): AsyncIterable<readonly StoredLeaf[]>
  /** Leaves that have no position, or one from `total` on, by node and sequence. */
  tail(total: number): AsyncIterable<readonly StoredLeaf[]>
  /** Calls `see` for every body of the node's records `from` to `to`. */
  bodies(node: string, from: number, to: number, see: (body: StoredBody) => void): Promise<void>
  /** The nodes that have bodies. */
  bodyNodes(): Promise<readonly string[]>
  /** How many bodies the node's records up to `last` have. */
  countBodies(node: string, last: number): Promise<number>
  /** Checkpoints by size, over more than `after` and at most `to` leaves, in pages. */
  checkpoints(after: number, to: number): AsyncIterable<readonly StoredCheckpoint[]>
  close(): Promise<void>
}

/** Enough for another thread to open the same log. */
export interface LogPlace {
  readonly dialect: 'sqlite' | 'postgres'
  readonly location: string
}

/** Read in one statement, so that it fits together while a server goes on writing. */
export interface Overview {
  /** number of positions that were given */
  readonly total: number
  readonly sequencer: { readonly size: number; readonly frontier: Uint8Array } | undefined
  /** size of the newest checkpoint */
  readonly signed: number
  /** SubjectPublicKeyInfo (DER) of every key of the purpose `checkpoints`, retired ones too */
  readonly keys: readonly Uint8Array[]
}

export interface StoredLeaf extends Columns {
  readonly position: number | null
  readonly node: string
  readonly seq: number
  /** Text when that is exactly what the bytes say, else the bytes. */
  readonly leaf: string | Uint8Array
  readonly hash: Hash
}

export interface StoredBody {
  readonly seq: number
  readonly name: string
  readonly salt: Uint8Array
  readonly body: Uint8Array | null
  readonly erasedAt: number | null
}

export interface StoredCheckpoint {
  readonly size: number
  readonly root: Hash
  readonly note: string
}

/** How many rows are in memory at once; a leaf has at most 64 KiB. */
export const PAGE = 256

/** Records by node and number; compared as code units, whatever the collation of a database is. */
export const byNode = (a: readonly [string, number], b: readonly [string, number]): number => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : a[1] - b[1])
