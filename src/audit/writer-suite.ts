import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { manualClock, systemClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { decodeEnvelope } from './envelope.ts'
import { fill, intent, openRoom, outcome, type Place } from './fixtures.ts'
import { openCheckpoint } from './note.ts'
import { commitment } from './prepare.ts'
import type { Envelope } from './record.ts'
import { openLogForReading, verifyLog } from './verify.ts'

const code = (expected: string) => (error: unknown) => error instanceof ChaperoneError && error.code === expected

/** What the writer promises, on either store. */
export function writerSuite(name: string, place: Place, options: { readonly skip?: string } = {}): void {
  describe(`the writer over ${name}`, { skip: options.skip ?? false }, () => {
    test('rule 3: what append has answered is in the store, with its bodies and columns.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open()
      const draft = intent()
      assert.deepEqual(await audit.append(draft), { id: draft.id, seq: 1 })
      const second = await audit.append(outcome(draft.id))
      assert.equal(second.seq, 2)
      assert.match(second.id, /^rec_/)

      const [leaf] = await room.store.db.selectFrom('audit_leaves').selectAll().orderBy('node_seq').execute()
      const envelope = decodeEnvelope(leaf!.leaf)
      const { bodies, ...rest } = draft
      assert.deepEqual({ ...envelope, bodies }, { ...rest, bodies, v: 1, at: leaf!.at, node: leaf!.node_id, seq: 1 })
      assert.deepEqual([leaf!.type, leaf!.verdict, leaf!.identity_id, leaf!.position], ['action.intent', 'allow', draft.actor!.id, 0])
      const body = await room.store.db.selectFrom('audit_bodies').selectAll().executeTakeFirstOrThrow()
      assert.equal(Buffer.from(body.body!).toString(), bodies![0]!.bytes)
      assert.equal(envelope.bodies![0]!.commitment, commitment(body.salt, body.body!))
    })

    test('A thousand appends at once get a thousand numbers without a gap, in the order they were made.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open()
      const stored = await Promise.all(Array.from({ length: 1000 }, () => audit.append(intent())))
      assert.deepEqual(
        stored.map(({ seq }) => seq),
        Array.from({ length: 1000 }, (_, i) => i + 1),
      )
    })

    test('A record that may wait is stored by itself, with the next one that may not, and when the log is closed; the order stays.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open()
      assert.equal((await audit.append(outcome('per_a'), 'later')).seq, 1)
      const both = [audit.append(outcome('per_b'), 'later'), audit.append(intent())]
      assert.deepEqual(
        (await Promise.all(both)).map(({ seq }) => seq),
        [2, 3],
      )
      const last = audit.append(outcome('per_c'), 'later')
      await audit.close()
      assert.equal((await last).seq, 4)
    })

    test('A log that is opened again goes on where it ended, and verifies.', async (t) => {
      const room = await openRoom(t, place)
      const first = await room.open({ nodeId: 'nod_a' })
      await fill(first, 5)
      await first.close()
      const second = await room.open({ nodeId: 'nod_a' })
      assert.equal((await second.append(intent())).seq, 6)
      await second.close()
      await assert.rejects(second.append(intent()), code('audit_unavailable'))
      const log = await openLogForReading(room.store)
      const report = await verifyLog(log)
      await log.close()
      assert.deepEqual([report.problems, report.records, report.unsigned], [[], 6, 0])
      assert.deepEqual(room.troubles, [])
    })

    test('rule 5: secrets are masked before anything is stored, those told later too.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open({ secrets: ['first-known-value'] })
      audit.addSecrets(['second-known-value'])
      const texts = ['first-known-value', 'second-known-value', `ghp_${'a1B2'.repeat(9)}`]
      for (const text of texts) {
        await audit.append({
          ...intent(undefined, `SELECT '${text}'`),
          purpose: text,
          data: { url: `https://x.example.org/?q=${text}`, encoded: Buffer.from(`u:${text}`).toString('base64') },
          outcome: { status: 'failed', error: text },
        })
      }
      const leaves = await room.store.db.selectFrom('audit_leaves').select('leaf').execute()
      const bodies = await room.store.db.selectFrom('audit_bodies').select('body').execute()
      const all = [...leaves.map(({ leaf }) => leaf), ...bodies.map(({ body }) => body!)].map((bytes) => Buffer.from(bytes).toString()).join('\n')
      for (const text of texts) assert.ok(!all.includes(text), text)
      assert.equal(all.match(/\[masked:/g)!.length, 14)
    })

    test('A checkpoint covers all that was appended before it, is signed, and is made by itself when time goes on.', async (t) => {
      const room = await openRoom(t, place)
      const clock = manualClock(1_795_000_000_000)
      const audit = await room.open({ clock, checkpointEveryMs: 1000 })
      assert.equal((await audit.checkpoint()).size, 0)
      await fill(audit, 3)
      const { size, note } = await audit.checkpoint()
      assert.equal(size, 3)
      const { origin } = openCheckpoint(note, [room.publicKey])
      assert.equal(origin, 'chaperone.example.org/log')
      assert.deepEqual(await audit.checkpoint(), { size, note }, 'nothing new: the same one')
      await fill(audit, 2)
      clock.advance(1000)
      await audit.append(intent()) // answered after the tick was heard
      await audit.close()
      const sizes = await room.store.db.selectFrom('audit_checkpoints').select(['size', 'at']).orderBy('size').execute()
      assert.deepEqual(sizes.map((row) => row.size).slice(0, 2), [3, 5])
      assert.equal(sizes.at(-1)!.size, 6)
    })

    test('A watcher sees every durable record, in order, and one that fails harms nobody.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open()
      const seen: Envelope[] = []
      audit.watch(() => {
        throw new Error('broken tail')
      })
      const stop = audit.watch((envelope) => seen.push(envelope))
      await fill(audit, 4)
      stop()
      await fill(audit, 2)
      assert.deepEqual(
        seen.map(({ seq }) => seq),
        [1, 2, 3, 4],
      )
      assert.ok(room.troubles.length >= 4 && room.troubles.every((error) => error.detail === 'Error: broken tail'))
    })

    test('Who watches some types of record sees those alone, also while others watch all.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open()
      const some: string[] = []
      const all: string[] = []
      audit.watch(({ id }) => some.push(id), new Set(['action.outcome']))
      const [first, second] = [await audit.append(outcome('per_a')), await audit.append(intent())]
      const stop = audit.watch(({ id }) => all.push(id))
      const [third, fourth] = [await audit.append(intent()), await audit.append(outcome('per_b'))]
      stop()
      const [fifth, sixth] = [await audit.append(intent()), await audit.append(outcome('per_c'))]
      assert.deepEqual(some, [first.id, fourth.id, sixth.id])
      assert.deepEqual(all, [third.id, fourth.id])
      assert.ok(second.seq === 2 && fifth.seq === 5)
    })

    test('rule 11: when too many wait, the next ones are refused at once, and none is lost of those that were taken.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open({ maxWaiting: 10, maxWaitingBytes: 100_000 })
      const results = await Promise.allSettled(Array.from({ length: 25 }, () => audit.append(intent())))
      assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 10)
      for (const result of results) if (result.status === 'rejected') assert.ok(code('audit_unavailable')(result.reason))
      const large = await Promise.allSettled(Array.from({ length: 3 }, () => audit.append(intent(undefined, 'x'.repeat(60_000)))))
      assert.deepEqual(
        large.map(({ status }) => status),
        ['fulfilled', 'rejected', 'rejected'],
      )
      assert.equal((await audit.append(intent())).seq, 12)
    })

    test('A draft that cannot be written is refused alone: the others of its batch are stored, and no number is lost.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open()
      const cyclic: Record<string, unknown> = {}
      cyclic.self = cyclic
      const results = await Promise.allSettled([
        audit.append(intent()),
        audit.append({ type: 'lock.made', data: cyclic }),
        audit.append({ type: 'lock.made', id: 'per\0' }),
        audit.append(intent()),
      ])
      assert.deepEqual(
        results.map((result) => (result.status === 'fulfilled' ? result.value.seq : (result.reason as ChaperoneError).code)),
        [1, 'audit_unavailable', 'audit_unavailable', 2],
      )
    })

    test('A caller that reuses its buffer does not change what is recorded.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open()
      const large = Buffer.from('....SELECT 1....')
      const appended = audit.append({ type: 'action.intent', bodies: [{ name: 'statement', bytes: large.subarray(4, 12) }] })
      large.fill('x')
      await appended
      const { body } = await room.store.db.selectFrom('audit_bodies').select('body').executeTakeFirstOrThrow()
      assert.equal(Buffer.from(body!).toString(), 'SELECT 1')
    })

    test('A key that cannot sign is told, and recording goes on.', async (t) => {
      const room = await openRoom(t, place)
      const keyring = {
        signer: async () => {
          throw new Error('no key today')
        },
      }
      const audit = await room.open({ keyring })
      await fill(audit, 2)
      await assert.rejects(audit.checkpoint(), code('internal'))
      assert.equal((await audit.append(intent())).seq, 3)
    })

    test('Two nodes over one store number for themselves, and one of them places both.', async (t) => {
      const room = await openRoom(t, place)
      const [a, b] = [await room.open({ nodeId: 'nod_a' }), await room.open({ nodeId: 'nod_b' })]
      await Promise.all([fill(a, 20), fill(b, 20)])
      await b.close() // it is not the sequencer, and leaves its records to the other
      const { size } = await a.checkpoint()
      assert.equal(size, 40)
      const rows = await room.store.db.selectFrom('audit_leaves').select(['node_id', 'node_seq', 'position']).orderBy('position').execute()
      for (const node of ['nod_a', 'nod_b']) {
        assert.deepEqual(
          rows.filter((row) => row.node_id === node).map((row) => row.node_seq),
          Array.from({ length: 20 }, (_, i) => i + 1),
        )
      }
      const log = await openLogForReading(room.store)
      assert.deepEqual((await verifyLog(log)).problems, [])
      await log.close()
      assert.deepEqual(room.troubles, [])
    })

    test('The clock of a record is the one that was handed in.', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open({ clock: { ...systemClock, now: () => 12_345 } })
      await fill(audit, 1)
      assert.equal((await room.store.db.selectFrom('audit_leaves').select('at').executeTakeFirstOrThrow()).at, 12_345)
    })
  })
}
