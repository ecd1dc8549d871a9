import { hash } from 'node:crypto'

/**
 * The Merkle tree of RFC 6962 section 2.1 over the leaves, in order of their positions. Hashes are hex
 * strings here: node:crypto and SQLite give those three times faster than Buffers, and a verify of millions is all hashes.
 */
export type Hash = string

/** The root of the empty tree: the hash of nothing. */
export const EMPTY_ROOT: Hash = hash('sha256', '', 'hex')

/** 0x00 before a leaf and 0x01 before a node: without them a node could be passed off as a leaf (second preimage). */
export function leafHash(leaf: Uint8Array | string): Hash {
  if (typeof leaf === 'string') return hash('sha256', `\0${leaf}`, 'hex')
  const bytes = Buffer.allocUnsafe(leaf.length + 1)
  bytes[0] = 0
  bytes.set(leaf, 1)
  return hash('sha256', bytes, 'hex')
}

const pair = Buffer.alloc(65, 1)

function nodeHash(left: Hash, right: Hash): Hash {
  pair.write(left, 1, 'hex')
  pair.write(right, 33, 'hex')
  return hash('sha256', pair, 'hex')
}

export const hashToBytes = (value: Hash): Buffer => Buffer.from(value, 'hex')
export const hashFromBytes = (bytes: Uint8Array): Hash => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')

/**
 * All that is needed to grow a tree: its size and the roots of the perfect subtrees on its right edge, largest first, one
 * for each bit that is set in the size.
 */
export interface Frontier {
  readonly size: number
  readonly hashes: readonly Hash[]
}

export const EMPTY_FRONTIER: Frontier = { size: 0, hashes: [] }

/** The frontier after these leaves. */
export function appendLeaves(frontier: Frontier, leaves: readonly Hash[]): Frontier {
  const hashes = [...frontier.hashes]
  let size = frontier.size
  for (const leaf of leaves) push(hashes, size++, leaf)
  return { size, hashes }
}

/**
 * The frontier after a perfect subtree of `width` leaves (a power of two) whose root is known: how parts of a log that were
 * hashed apart are put together. `frontier.size` must be a multiple of `width`.
 */
export function appendSubtree(frontier: Frontier, subtree: Hash, width: number): Frontier {
  const hashes = [...frontier.hashes]
  push(hashes, frontier.size / width, subtree)
  return { size: frontier.size + width, hashes }
}

/** Each trailing 1 bit of the count is a subtree as wide as the new one: they join, as a carry does in addition. */
function push(hashes: Hash[], count: number, added: Hash): void {
  let joined = added
  for (let rest = count; rest % 2 === 1; rest = (rest - 1) / 2) joined = nodeHash(hashes.pop()!, joined)
  hashes.push(joined)
}

/** The tree's root: the subtrees of the right edge, joined from the smallest up. */
export function rootOf(frontier: Frontier): Hash {
  let root = frontier.hashes.at(-1)
  if (root === undefined) return EMPTY_ROOT
  for (let i = frontier.hashes.length - 2; i >= 0; i--) root = nodeHash(frontier.hashes[i]!, root)
  return root
}

/** The form that the store keeps. */
export const frontierToBytes = (frontier: Frontier): Buffer => Buffer.from(frontier.hashes.join(''), 'hex')

/** Throws RangeError when the number of hashes is not the number of bits set in `size`. */
export function frontierFromBytes(size: number, bytes: Uint8Array): Frontier {
  if (bytes.length !== 32 * bitsSet(size)) throw new RangeError(`${bytes.length} bytes are no right edge of a tree of ${size} leaves`)
  const hashes: Hash[] = []
  for (let at = 0; at < bytes.length; at += 32) hashes.push(hashFromBytes(bytes.subarray(at, at + 32)))
  return { size, hashes }
}

function bitsSet(size: number): number {
  let bits = 0
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) bits += rest % 2
  return bits
}
