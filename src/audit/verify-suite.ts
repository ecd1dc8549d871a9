import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { describe, type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { ChaperoneError } from '../errors.ts'
import type { Store } from '../store/store.ts'
import { decodeEnvelope, encodeEnvelope } from './envelope.ts'
import { fill, intent, openRoom, outcome, type Place, type Room } from './fixtures.ts'
import { signCheckpoint } from './note.ts'
import type { AuditLog, Envelope } from './record.ts'
import { appendLeaves, EMPTY_FRONTIER, frontierToBytes, hashFromBytes, hashToBytes, leafHash, rootOf } from './tree.ts'
import { openLogForReading, type Problem, type VerifyOptions, type VerifyReport, verifyLog } from './verify.ts'

async function verify(room: Room, options: VerifyOptions = {}): Promise<VerifyReport> {
  const log = await openLogForReading(room.location)
  try {
    return await verifyLog(log, options)
  } finally {
    await log.close()
  }
}

/** Twelve records, signed after the 4th, 8th and 12th, by a writer that has stopped. */
async function twelve(t: TestContext, place: Place): Promise<Room & { readonly notes: readonly string[] }> {
  const room = await openRoom(t, place)
  const audit = await room.open({ nodeId: 'nod_a' })
  const notes: string[] = []
  for (let i = 0; i < 3; i++) {
    await fill(audit, 4)
    notes.push((await audit.checkpoint()).note)
  }
  await audit.close()
  return { ...room, notes }
}

const at = (problems: readonly Problem[]) =>
  problems.map(({ kind, position, seq, from, to }) => ({
    kind,
    ...(position !== undefined && { position }),
    ...(seq !== undefined && { seq }),
    ...(from !== undefined && { from, to }),
  }))
const kinds = (problems: readonly Problem[]) => [...new Set(problems.map(({ kind }) => kind))].sort()

/** Rewrites a leaf and all that is not signed: its hash, and the sequencer's state. */
async function forge({ store }: Room, position: number, change: (envelope: Envelope) => Envelope): Promise<void> {
  const row = await store.db.selectFrom('audit_leaves').selectAll().where('position', '=', position).executeTakeFirstOrThrow()
  const leaf = encodeEnvelope(change(decodeEnvelope(row.leaf)))
  await store.db
    .updateTable('audit_leaves')
    .set({ leaf: Buffer.from(leaf), leaf_hash: hashToBytes(leafHash(leaf)) })
    .where('position', '=', position)
    .execute()
  await regrow(store)
}

async function regrow(store: Store): Promise<void> {
  const leaves = await store.db
    .selectFrom('audit_leaves')
    .select(['leaf_hash', 'position'])
    .where('position', 'is not', null)
    .orderBy('position')
    .execute()
  const frontier = appendLeaves(
    EMPTY_FRONTIER,
    leaves.map((leaf) => hashFromBytes(leaf.leaf_hash)),
  )
  await store.db
    .updateTable('audit_sequencer')
    .set({ size: frontier.size, frontier: frontierToBytes(frontier) })
    .execute()
}

const swap = (store: Store, a: number, b: number) =>
  store.write(async (trx) => {
    const move = (from: number, to: number) => trx.updateTable('audit_leaves').set({ position: to }).where('position', '=', from).execute()
    await move(a, 1_000_000)
    await move(b, a)
    await move(1_000_000, b)
  })

/** What verify finds, on either store. */
export function verifySuite(name: string, place: Place, options: { readonly skip?: string } = {}): void {
  describe(`verify over ${name}`, { skip: options.skip ?? false }, () => {
    test('An untouched log verifies, and the report says what it could not exclude.', async (t) => {
      const room = await twelve(t, place)
      const report = await verify(room)
      const { records, checkpoints, bodies, ok, problems, unsigned, unsequenced, signed, keysFrom } = report
      assert.deepEqual(
        { records, checkpoints, bodies, ok, problems, unsigned, unsequenced, signed, keysFrom },
        { records: 12, checkpoints: 3, bodies: 6, ok: true, problems: [], unsigned: 0, unsequenced: 0, signed: 12, keysFrom: 'store' },
      )
      assert.match(report.notes.join(' '), /cannot be excluded that the newest records were cut off/)
      const sure = await verify(room, { checkpoint: room.notes[2]!, publicKeys: [room.publicKey] })
      assert.deepEqual([sure.ok, sure.notes, sure.keysFrom], [true, [], 'given'])
    })

    test('An empty log verifies.', async (t) => {
      assert.equal((await verify(await openRoom(t, place))).ok, true)
    })

    test('Any one changed byte of a leaf is found, with its position.', async (t) => {
      const room = await twelve(t, place)
      const { db } = room.store
      for (const position of [0, 5, 11]) {
        const { leaf } = await db.selectFrom('audit_leaves').select('leaf').where('position', '=', position).executeTakeFirstOrThrow()
        for (const byte of [0, 60, leaf.length - 1]) {
          const changed = Uint8Array.from(leaf)
          changed[byte]! ^= 1
          await db.updateTable('audit_leaves').set({ leaf: changed }).where('position', '=', position).execute()
          assert.deepEqual(at((await verify(room)).problems), [{ kind: 'changed', position, seq: position + 1 }])
        }
        await db.updateTable('audit_leaves').set({ leaf }).where('position', '=', position).execute()
      }
      assert.equal((await verify(room)).ok, true)
    })

    test('Bytes that only look the same as text are found: a NUL behind the end, and what reads as U+FFFD.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open()
      await audit.append({ type: 'lock.made', data: { why: '\ufffd' } })
      await audit.close()
      const { leaf } = await room.store.db.selectFrom('audit_leaves').select('leaf').executeTakeFirstOrThrow()
      const bytes = Buffer.from(leaf)
      const broken = Buffer.from(bytes)
      Buffer.from([0xf0, 0x9f, 0x98]).copy(broken, bytes.indexOf('\ufffd'))
      for (const changed of [Buffer.concat([bytes, Buffer.from('\0x')]), Buffer.concat([bytes, Buffer.from([0])]), broken]) {
        await room.store.db.updateTable('audit_leaves').set({ leaf: changed }).execute()
        assert.deepEqual(kinds((await verify(room)).problems), ['changed'])
      }
    })

    test('A changed leaf whose hashes were all recomputed is found between two signatures.', async (t) => {
      const room = await twelve(t, place)
      await forge(room, 5, (envelope) => ({ ...envelope, outcome: { status: 'failed' } }))
      const report = await verify(room)
      assert.deepEqual(at(report.problems), [{ kind: 'tree', from: 4, to: 7 }])
      assert.match(report.notes.join(' '), /1 checkpoints above the first break/)
    })

    test('A changed hash is found as well as a changed leaf.', async (t) => {
      const room = await twelve(t, place)
      await room.store.db
        .updateTable('audit_leaves')
        .set({ leaf_hash: Buffer.alloc(32) })
        .where('position', '=', 9)
        .execute()
      assert.deepEqual(kinds((await verify(room)).problems), ['changed', 'tree'])
    })

    test('A removed record is found, in the middle and at the end.', async (t) => {
      const room = await twelve(t, place)
      await room.store.db.deleteFrom('audit_bodies').where('node_seq', 'in', [7, 12]).execute()
      await room.store.db.deleteFrom('audit_leaves').where('position', '=', 6).execute()
      assert.deepEqual(at((await verify(room)).problems), [{ kind: 'missing', from: 6, to: 6 }])
      await room.store.db.deleteFrom('audit_leaves').where('position', '=', 11).execute()
      assert.deepEqual(at((await verify(room)).problems), [
        { kind: 'cut', from: 11, to: 11 },
        { kind: 'missing', from: 6, to: 6 },
      ])
    })

    test('A removed record is found when the positions were closed up behind it.', async (t) => {
      const room = await twelve(t, place)
      const { db } = room.store
      await db.deleteFrom('audit_bodies').where('node_seq', '=', 7).execute()
      await db.deleteFrom('audit_leaves').where('position', '=', 6).execute()
      for (let position = 7; position < 12; position++)
        await db
          .updateTable('audit_leaves')
          .set({ position: position - 1 })
          .where('position', '=', position)
          .execute()
      await regrow(room.store)
      const { problems } = await verify(room)
      assert.deepEqual(kinds(problems), ['cut', 'missing', 'tree'])
      assert.ok(problems.some(({ seq, message }) => seq === 8 && /record 7 is missing/.test(message)))
    })

    test('Swapped positions are found, and so are leaves that changed places.', async (t) => {
      const room = await twelve(t, place)
      await swap(room.store, 5, 6)
      await regrow(room.store)
      const { problems } = await verify(room)
      assert.ok(problems.some(({ kind, from, to }) => kind === 'tree' && from === 4 && to === 7))
      assert.ok(problems.some(({ kind }) => kind === 'order'))
      await swap(room.store, 5, 6)
      await regrow(room.store)

      const [a, b] = await room.store.db
        .selectFrom('audit_leaves')
        .select(['leaf', 'leaf_hash'])
        .where('position', 'in', [4, 6])
        .orderBy('position')
        .execute()
      await room.store.db.updateTable('audit_leaves').set(b!).where('position', '=', 4).execute()
      await room.store.db.updateTable('audit_leaves').set(a!).where('position', '=', 6).execute()
      const moved = (await verify(room)).problems.filter(({ kind }) => kind === 'moved')
      assert.deepEqual(at(moved), [
        { kind: 'moved', position: 4, seq: 5 },
        { kind: 'moved', position: 6, seq: 7 },
      ])
    })

    test('A forged record is found, in the place of another and inserted between.', async (t) => {
      const room = await twelve(t, place)
      await forge(room, 2, ({ v, id, at: time, node, seq }) => ({ v, id, at: time, node, seq, type: 'lock.lifted' }))
      const { problems } = await verify(room)
      assert.deepEqual(kinds(problems), ['body', 'index', 'tree'])
      assert.ok(problems.some(({ kind, from, to }) => kind === 'tree' && from === 0 && to === 3))

      const other = await twelve(t, place)
      for (let position = 11; position >= 6; position--)
        await other.store.db
          .updateTable('audit_leaves')
          .set({ position: position + 1 })
          .where('position', '=', position)
          .execute()
      const leaf = encodeEnvelope({ v: 1, id: 'rec_x', at: 1, node: 'nod_b', seq: 1, type: 'lock.lifted' })
      const empty = { identity_id: null, session_id: null, resource_id: null, verdict: null, permit: null }
      await other.store.db
        .insertInto('audit_leaves')
        .values({
          node_id: 'nod_b',
          node_seq: 1,
          id: 'rec_x',
          at: 1,
          type: 'lock.lifted',
          ...empty,
          leaf: Buffer.from(leaf),
          leaf_hash: hashToBytes(leafHash(leaf)),
          position: 6,
        })
        .execute()
      await regrow(other.store)
      assert.deepEqual(at((await verify(other)).problems), [{ kind: 'tree', from: 4, to: 7 }])
    })

    test('Columns that lie are found, each by its name.', async (t) => {
      const room = await twelve(t, place)
      const { db } = room.store
      const { identity_id } = await db.selectFrom('audit_leaves').select('identity_id').where('position', '=', 2).executeTakeFirstOrThrow()
      for (const change of [
        { identity_id: 'usr_x' },
        { at: 1 },
        { type: 'node.started' },
        { session_id: null },
        { resource_id: 'r' },
        { verdict: 'deny' },
        { permit: 'p' },
        { id: 'x' },
      ]) {
        const [column] = Object.keys(change) as ['id']
        const before = await db.selectFrom('audit_leaves').select(column).where('position', '=', 2).executeTakeFirstOrThrow()
        await db.updateTable('audit_leaves').set(change).where('position', '=', 2).execute()
        const { problems } = await verify(room)
        assert.deepEqual(at(problems), [{ kind: 'index', position: 2, seq: 3 }])
        assert.match(problems[0]!.message, new RegExp(`${column}\\.$`))
        await db.updateTable('audit_leaves').set(before).where('position', '=', 2).execute()
      }
      assert.notEqual(identity_id, null)
    })

    test('A changed, removed or added body is found; one that was erased on purpose is counted.', async (t) => {
      const room = await twelve(t, place)
      const { db } = room.store
      const original = await db.selectFrom('audit_bodies').selectAll().where('node_seq', '=', 5).executeTakeFirstOrThrow()
      const change = (set: Partial<typeof original>) => db.updateTable('audit_bodies').set(set).where('node_seq', '=', 5).execute()
      for (const set of [{ body: Buffer.from('SELECT 2') }, { salt: Buffer.alloc(32) }, { salt: Buffer.alloc(1) }, { body: null }]) {
        await change(set)
        assert.deepEqual(at((await verify(room)).problems), [{ kind: 'body', position: 4, seq: 5 }], JSON.stringify(set))
        await change({ body: original.body, salt: original.salt })
      }
      await change({ body: null, erased_at: 5 })
      const erased = await verify(room)
      assert.deepEqual([erased.ok, erased.erased], [true, 1])
      await change({ body: original.body, erased_at: null })
      await db
        .insertInto('audit_bodies')
        .values({ ...original, name: 'result' })
        .execute()
      assert.deepEqual(at((await verify(room)).problems), [{ kind: 'body', position: 4, seq: 5 }])
      await db.updateTable('audit_bodies').set({ node_id: 'nod_x' }).where('name', '=', 'result').execute()
      assert.match((await verify(room)).problems[0]!.message, /1 bodies belong to no record/)
      await db.deleteFrom('audit_bodies').where('name', '=', 'result').execute()
      await db.deleteFrom('audit_bodies').where('node_seq', '=', 5).execute()
      assert.deepEqual(at((await verify(room)).problems), [{ kind: 'body', position: 4, seq: 5 }])
    })

    test('A forged checkpoint is found, and does not vouch for anything.', async (t) => {
      const room = await twelve(t, place)
      const foreign = generateKeyPairSync('ed25519')
      const row = await room.store.db.selectFrom('audit_checkpoints').selectAll().where('size', '=', 8).executeTakeFirstOrThrow()
      const note = signCheckpoint({ origin: 'chaperone.example.org/log', size: 8, root: hashFromBytes(row.root) }, foreign)
      const set = (change: Partial<typeof row>) => room.store.db.updateTable('audit_checkpoints').set(change).where('size', '=', 8).execute()
      for (const change of [{ note }, { note: 'nonsense' }, { root: Buffer.alloc(32) }, { note: room.notes[0]! }]) {
        await set(change)
        const { problems } = await verify(room)
        assert.deepEqual(kinds(problems), ['checkpoint'])
        await set({ note: row.note, root: row.root })
      }
      // Whoever adds his key to the store can sign; who keeps the key outside finds him.
      await room.store.db
        .insertInto('keys')
        .values({
          id: 'key_x',
          purpose: 'checkpoints',
          algorithm: 'ed25519',
          public_key: foreign.publicKey.export({ format: 'der', type: 'spki' }),
          wrapped: Buffer.alloc(1),
          state: 'retired',
          created_at: 1,
          retire_at: null,
        })
        .execute()
      await set({ note })
      const believing = await verify(room)
      assert.equal(believing.ok, true)
      assert.match(believing.notes.join(' '), /public keys were read from the store itself/)
      assert.deepEqual(kinds((await verify(room, { publicKeys: [room.publicKey] })).problems), ['checkpoint'])
    })

    test('A log whose end was cut off with everything that spoke of it is found only with a checkpoint from outside.', async (t) => {
      const room = await twelve(t, place)
      const { db } = room.store
      await db.deleteFrom('audit_bodies').where('node_seq', '>', 8).execute()
      await db.deleteFrom('audit_leaves').where('position', '>=', 8).execute()
      await db.deleteFrom('audit_checkpoints').where('size', '>', 8).execute()
      await regrow(room.store)
      const blind = await verify(room)
      assert.equal(blind.ok, true)
      assert.match(blind.notes[0]!, /cannot be excluded/)
      assert.deepEqual(at((await verify(room, { checkpoint: room.notes[2]! })).problems), [{ kind: 'cut', from: 8, to: 11 }])
      // The log goes on, and is longer than it ever was: rolled back is rolled back.
      const audit = await room.open({ nodeId: 'nod_a' })
      await fill(audit, 10)
      await audit.close()
      assert.equal((await verify(room)).ok, true)
      assert.deepEqual(at((await verify(room, { checkpoint: room.notes[2]! })).problems), [{ kind: 'tree', from: 8, to: 11 }])
      assert.equal((await verify(room, { checkpoint: room.notes[1]! })).ok, true)
    })

    test('A checkpoint that nobody signed, or that is none, proves nothing.', async (t) => {
      const room = await twelve(t, place)
      const foreign = signCheckpoint({ origin: 'x', size: 4, root: rootOf(EMPTY_FRONTIER) }, generateKeyPairSync('ed25519'))
      assert.deepEqual(kinds((await verify(room, { checkpoint: foreign })).problems), ['checkpoint'])
      await assert.rejects(verify(room, { checkpoint: 'nonsense' }), (error) => error instanceof ChaperoneError && error.code === 'malformed')
    })

    test('A false state of the sequencer is found before it makes false checkpoints.', async (t) => {
      const room = await twelve(t, place)
      await room.store.db
        .updateTable('audit_sequencer')
        .set({ frontier: Buffer.alloc(64) })
        .execute()
      assert.deepEqual(kinds((await verify(room)).problems), ['tree'])
      await room.store.db.updateTable('audit_sequencer').set({ size: 20 }).execute()
      assert.deepEqual(at((await verify(room)).problems), [{ kind: 'cut', from: 12, to: 19 }])
    })

    test('Records without a position are looked at as well, and so is their numbering.', async (t) => {
      const room = await openRoom(t, place)
      const [a, b] = [await room.open({ nodeId: 'nod_a' }), await room.open({ nodeId: 'nod_b' })]
      await fill(a, 4)
      await a.checkpoint()
      await fill(b, 6)
      const report = await verify(room)
      assert.deepEqual([report.ok, report.records, report.unsequenced, report.unsigned], [true, 10, 6, 6])
      await room.store.db.deleteFrom('audit_bodies').where('node_id', '=', 'nod_b').where('node_seq', '=', 3).execute()
      await room.store.db.deleteFrom('audit_leaves').where('node_id', '=', 'nod_b').where('node_seq', '=', 3).execute()
      assert.match((await verify(room)).problems.map(({ message }) => message).join(), /Of nod_b, record 3 is missing/)
    })

    test('A log verifies while it is written.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open({ checkpointEveryMs: 20 })
      let stop = false
      const writing = (async () => {
        while (!stop) await pair(audit)
      })()
      let records = 0
      while (records < 100) {
        const report = await verify(room, { threads: 0 })
        assert.deepEqual(report.problems, [])
        records = report.records
        // Over SQLite a verify never lets go of the thread that also hands records over.
        await setImmediate()
      }
      stop = true
      await writing
    })

    test('Threads find the same as one thread does, over the borders of their parts.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open({ nodeId: 'nod_a', checkpointEveryMs: 50 })
      await fill(audit, 9000)
      const { note } = await audit.checkpoint()
      await audit.close()
      const whole = await verify(room, { checkpoint: note, threads: 2 })
      assert.deepEqual([whole.problems, whole.records], [[], 9000])
      await room.store.db.updateTable('audit_leaves').set({ verdict: 'deny' }).where('position', 'in', [4096, 8998]).execute()
      await room.store.db.deleteFrom('audit_leaves').where('position', '=', 4095).execute()
      const [one, two] = [await verify(room, { threads: 0 }), await verify(room, { threads: 2 })]
      assert.deepEqual(at(one.problems), at(two.problems))
      assert.deepEqual(at(one.problems).slice(0, 3), [
        { kind: 'missing', from: 4095, to: 4095 },
        { kind: 'index', position: 4096, seq: 4097 },
        { kind: 'index', position: 8998, seq: 8999 },
      ])
    })
  })
}

async function pair(audit: AuditLog): Promise<void> {
  const draft = intent()
  await audit.append(draft)
  await audit.append(outcome(draft.id))
}
