import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { ChaperoneError } from '../errors.ts'
import { openRoom, type Place, type Room } from './fixtures.ts'
import { type Ledger, SEQUENCER_TTL_MS } from './ledger.ts'
import { openPostgresLedger } from './ledger-postgres.ts'
import { openSqliteLedger } from './ledger-sqlite.ts'
import type { LeafRow } from './prepare.ts'
import { makeSequencer, type Sequencer } from './sequencer.ts'
import { appendLeaves, EMPTY_FRONTIER, frontierToBytes, hashFromBytes, leafHash } from './tree.ts'

interface Node {
  readonly name: string
  readonly ledger: Ledger
  readonly sequencer: Sequencer
  seq: number
}

async function node(t: TestContext, room: Room, name: string): Promise<Node> {
  const { dialect, location } = room.store
  const ledger = dialect === 'sqlite' ? openSqliteLedger(location) : await openPostgresLedger(location)
  t.after(() => ledger.close())
  return { name, ledger, sequencer: makeSequencer(ledger, name), seq: 0 }
}

/** Stores `count` leaves as the writer does. */
async function append(at: Node, count: number, now: number): Promise<boolean> {
  const rows = Array.from({ length: count }, (_, i): LeafRow => {
    const leaf = `${at.name} ${at.seq + i + 1}`
    const empty = { identity_id: null, session_id: null, resource_id: null, verdict: null, permit: null }
    return { seq: at.seq + i + 1, id: leaf, at: now, type: 'x', ...empty, leaf: Buffer.from(leaf), hash: leafHash(leaf) }
  })
  const placement = at.sequencer.placementFor(
    rows.map(({ hash }) => hash),
    now,
  )
  const placed = await at.ledger.commit(at.name, rows, [], placement)
  at.seq += count
  if (placement) at.sequencer.placed(placement, placed)
  return placed
}

/** PostgreSQL goes by its own clock, so there the row is made to have run out. */
const runOut = ({ store }: Room) => store.db.updateTable('audit_sequencer').set({ expires_at: 0 }).execute()

/** Positions follow each other from 0, each node's leaves in their order, and the right edge is that of these leaves. */
async function assertWhole({ store }: Room): Promise<void> {
  const leaves = await store.db
    .selectFrom('audit_leaves')
    .select(['node_id', 'node_seq', 'position', 'leaf_hash'])
    .where('position', 'is not', null)
    .orderBy('position')
    .execute()
  assert.deepEqual(
    leaves.map(({ position }) => position),
    leaves.map((_, i) => i),
  )
  for (const [name, own] of Map.groupBy(leaves, (leaf) => leaf.node_id)) {
    assert.deepEqual(
      own.map((leaf) => leaf.node_seq),
      own.map((_, i) => i + 1),
      name,
    )
  }
  const row = await store.db.selectFrom('audit_sequencer').selectAll().executeTakeFirstOrThrow()
  const frontier = appendLeaves(
    EMPTY_FRONTIER,
    leaves.map((leaf) => hashFromBytes(leaf.leaf_hash)),
  )
  assert.deepEqual([row.size, Buffer.from(row.frontier)], [frontier.size, frontierToBytes(frontier)])
}

const isBroken = (error: unknown) => error instanceof ChaperoneError && error.code === 'record_broken'

/** Who may give positions, on either store. */
export function sequencerSuite(name: string, place: Place, options: { readonly skip?: string } = {}): void {
  describe(`the sequencer over ${name}`, { skip: options.skip ?? false }, () => {
    test('Only one node places leaves; the other stores its own without positions, and they are picked up.', async (t) => {
      const room = await openRoom(t, place)
      const [a, b] = [await node(t, room, 'nod_a'), await node(t, room, 'nod_b')]
      await a.sequencer.start(0)
      await b.sequencer.start(0)
      assert.deepEqual([await append(a, 3, 0), await append(b, 2, 0), await append(a, 1, 0)], [true, false, true])
      assert.equal(await b.sequencer.round(0), undefined)
      assert.equal((await a.sequencer.round(0))!.size, 6)
      await assertWhole(room)
    })

    test('A sequencer that was away too long changes nothing when it comes back.', async (t) => {
      const room = await openRoom(t, place)
      const [a, b] = [await node(t, room, 'nod_a'), await node(t, room, 'nod_b')]
      await a.sequencer.start(0)
      await append(a, 3, 0)
      await append(b, 2, 0)
      // The stale holder has its placements ready before the other takes over.
      const waiting = await a.ledger.unplaced(10)
      const before = appendLeaves(
        EMPTY_FRONTIER,
        ['nod_a 1', 'nod_a 2', 'nod_a 3'].map((leaf) => leafHash(leaf)),
      )
      const { token } = await a.ledger.outlook()
      await runOut(room)
      await b.sequencer.start(SEQUENCER_TTL_MS)
      await append(b, 1, SEQUENCER_TTL_MS)
      await assertWhole(room)

      const stale = {
        token,
        before,
        after: appendLeaves(
          before,
          waiting.map(({ hash }) => hash),
        ),
        now: 0,
      }
      assert.equal(await a.ledger.place(waiting, stale), false)
      await assertWhole(room)
      assert.equal(await append(a, 2, 0), false, 'stored, without positions')
      await b.sequencer.round(SEQUENCER_TTL_MS)
      await assertWhole(room)
      assert.equal((await b.ledger.outlook()).waiting, false)
    })

    test('A token that is right does not help with a size that is not.', async (t) => {
      const room = await openRoom(t, place)
      const a = await node(t, room, 'nod_a')
      await a.sequencer.start(0)
      await append(a, 2, 0)
      const other = await node(t, room, 'nod_b')
      await append(other, 1, 0)
      const { token } = await a.ledger.outlook()
      const waiting = await a.ledger.unplaced(10)
      const stale = {
        token,
        before: EMPTY_FRONTIER,
        after: appendLeaves(
          EMPTY_FRONTIER,
          waiting.map(({ hash }) => hash),
        ),
        now: 0,
      }
      assert.equal(await a.ledger.place(waiting, stale), false)
      await assertWhole(room)
    })

    test('A tree that was changed from outside is not signed, neither while the node runs nor when it starts again.', async (t) => {
      const room = await openRoom(t, place)
      const a = await node(t, room, 'nod_a')
      await a.sequencer.start(0)
      await append(a, 3, 0)
      const tree = (await a.sequencer.round(0))!
      await a.ledger.saveCheckpoint(tree.size, tree.root, 'note', 0)
      const forged = frontierToBytes(
        appendLeaves(
          EMPTY_FRONTIER,
          ['x', 'y', 'z'].map((leaf) => leafHash(leaf)),
        ),
      )
      await room.store.db.updateTable('audit_sequencer').set({ frontier: forged }).execute()
      await assert.rejects(a.sequencer.round(0), isBroken)
      const again = await node(t, room, 'nod_a')
      await assert.rejects(again.sequencer.start(0), isBroken)
      await room.store.db
        .updateTable('audit_sequencer')
        .set({ size: 2, frontier: forged.subarray(0, 32) })
        .execute()
      await assert.rejects((await node(t, room, 'nod_a')).sequencer.start(0), isBroken)
      await room.store.db
        .updateTable('audit_sequencer')
        .set({ size: 3, frontier: Buffer.alloc(5) })
        .execute()
      await assert.rejects((await node(t, room, 'nod_a')).sequencer.start(0), isBroken)
    })

    test('A tree that was put back to an older state behind the back of its sequencer is not grown on.', async (t) => {
      const room = await openRoom(t, place)
      const a = await node(t, room, 'nod_a')
      await a.sequencer.start(0)
      await append(a, 3, 0)
      const frontier = frontierToBytes(
        appendLeaves(
          EMPTY_FRONTIER,
          ['nod_a 1', 'nod_a 2'].map((leaf) => leafHash(leaf)),
        ),
      )
      await room.store.db.updateTable('audit_sequencer').set({ size: 2, frontier }).execute()
      assert.equal(await append(a, 1, 0), false)
      await assert.rejects(a.sequencer.round(0), isBroken)
    })

    test('However nodes append, stop, take over and come back, the tree stays whole and nothing is left over.', async (t) => {
      const step = fc.record({
        who: fc.nat(2),
        what: fc.constantFrom('append', 'append', 'round', 'restart', 'run out'),
        count: fc.integer({ min: 1, max: 5 }),
      })
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
          const room = await openRoom(t, place)
          const nodes = [await node(t, room, 'nod_a'), await node(t, room, 'nod_b'), await node(t, room, 'nod_c')]
          let now = 0
          for (const { who, what, count } of steps) {
            const at = nodes[who]!
            if (what === 'append') await append(at, count, now)
            else if (what === 'round') await at.sequencer.round(now)
            else if (what === 'restart') {
              nodes[who] = { ...(await node(t, room, at.name)), seq: at.seq }
              await nodes[who]!.sequencer.start(now)
            } else {
              now += SEQUENCER_TTL_MS
              await runOut(room)
            }
          }
          await runOut(room)
          await nodes[0]!.sequencer.round(now + SEQUENCER_TTL_MS)
          await assertWhole(room)
          const { waiting, size } = await nodes[0]!.ledger.outlook()
          assert.deepEqual({ waiting, size }, { waiting: false, size: nodes.reduce((sum, { seq }) => sum + seq, 0) })
        }),
        { numRuns: 8 },
      )
    })
  })
}
