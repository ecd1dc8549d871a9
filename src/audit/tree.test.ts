import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { appendLeaves, appendSubtree, EMPTY_FRONTIER, frontierFromBytes, frontierToBytes, type Hash, leafHash, rootOf } from './tree.ts'

/** MTH of RFC 6962 section 2.1, word for word. */
function definedRoot(leaves: readonly Buffer[]): Buffer {
  const sha256 = (...parts: readonly Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest()
  if (leaves.length === 0) return sha256()
  if (leaves.length === 1) return sha256(Buffer.from([0]), leaves[0]!)
  let k = 1
  while (k * 2 < leaves.length) k *= 2
  return sha256(Buffer.from([1]), definedRoot(leaves.slice(0, k)), definedRoot(leaves.slice(k)))
}

const leaves = fc.array(
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  { maxLength: 70 },
)
const hashes = (list: readonly Buffer[]): Hash[] => list.map((leaf) => leafHash(leaf))

test('The root of a grown tree is the one that RFC 6962 defines.', () => {
  fc.assert(
    fc.property(leaves, (list) => {
      assert.equal(rootOf(appendLeaves(EMPTY_FRONTIER, hashes(list))), definedRoot(list).toString('hex'))
    }),
  )
})

test('Growing in pieces, with the frontier stored in between, gives the same tree.', () => {
  fc.assert(
    fc.property(leaves, fc.nat(), (list, cut) => {
      const at = list.length === 0 ? 0 : cut % list.length
      const first = appendLeaves(EMPTY_FRONTIER, hashes(list.slice(0, at)))
      const stored = frontierFromBytes(first.size, frontierToBytes(first))
      assert.deepEqual(appendLeaves(stored, hashes(list.slice(at))), appendLeaves(EMPTY_FRONTIER, hashes(list)))
    }),
  )
})

test('Perfect subtrees that were hashed apart join to the same tree.', () => {
  fc.assert(
    fc.property(leaves, fc.constantFrom(1, 2, 4, 8), (list, width) => {
      let frontier = EMPTY_FRONTIER
      let at = 0
      for (; at + width <= list.length; at += width) {
        frontier = appendSubtree(frontier, rootOf(appendLeaves(EMPTY_FRONTIER, hashes(list.slice(at, at + width)))), width)
      }
      assert.deepEqual(appendLeaves(frontier, hashes(list.slice(at))), appendLeaves(EMPTY_FRONTIER, hashes(list)))
    }),
  )
})

test('The roots of the known log of Certificate Transparency come out.', () => {
  // The vectors of google/certificate-transparency, merkletree/merkle_tree_test.cc.
  const inputs = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f']
  const roots = [
    '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
    'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
    'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
    '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
    'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
    '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
  ]
  const list = inputs.map((hex) => Buffer.from(hex, 'hex'))
  for (const [i, root] of roots.entries()) assert.equal(rootOf(appendLeaves(EMPTY_FRONTIER, hashes(list.slice(0, i + 1)))), root)
})

test('A leaf hashes the same as text and as bytes.', () => {
  fc.assert(fc.property(fc.string({ unit: 'grapheme' }), (text) => assert.equal(leafHash(text), leafHash(Buffer.from(text)))))
})

test('A stored frontier of the wrong length is refused.', () => {
  assert.throws(() => frontierFromBytes(3, Buffer.alloc(32)), RangeError)
  assert.throws(() => frontierFromBytes(1, Buffer.alloc(31)), RangeError)
})
