import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { ChaperoneError } from '../errors.ts'
import { intent, openRoom, type Place, type Room } from './fixtures.ts'
import { type RecordQuery, readRecord, searchRecords } from './query.ts'
import type { Draft } from './record.ts'

const person = { id: 'usr_boris', name: 'boris', kind: 'user' }
const agent = { id: 'agt_claude', name: 'boris/claude-code', kind: 'agent' }
const other = { id: 'agt_other', name: 'other', kind: 'agent' }

const drafts: readonly Draft[] = [
  { type: 'session.started', actor: person, session: 'ses_1', data: { how: 'login' } },
  { ...intent('per_1', 'SELECT "Größe" FROM t -- say "hi"'), actor: agent, session: 'ses_1' },
  { type: 'action.outcome', permit: 'per_1', session: 'ses_1', outcome: { status: 'ok', rows: 5 } },
  {
    ...intent('per_2', 'DROP TABLE customers'),
    type: 'action.refused',
    actor: agent,
    session: 'ses_1',
    decision: { ...intent().decision!, verdict: 'deny' },
  },
  { ...intent('per_3', 'UPDATE t SET x = 1'), actor: other, session: 'ses_2' },
  { type: 'lock.made', actor: person, data: { why: 'said "HI" too often', target: 'other' } },
]

/** The drafts, a millisecond apart from 1000 on, but for the last two, which are made at once. */
async function filled(t: TestContext, place: Place): Promise<Room> {
  const room = await openRoom(t, place)
  let now = 1000
  const audit = await room.open({ clock: { now: () => now, at: () => () => {} }, nodeId: 'nod_a' })
  for (const draft of drafts) {
    await audit.append(draft)
    if (now < 1004) now++
  }
  await audit.checkpoint()
  return room
}

const isUsage = (error: unknown) => error instanceof ChaperoneError && error.code === 'usage'

/** Finding records, on either store. */
export function querySuite(name: string, place: Place, options: { readonly skip?: string } = {}): void {
  describe(`searching over ${name}`, { skip: options.skip ?? false }, () => {
    test('Each filter finds what it names, newest first, and they all hold together.', async (t) => {
      const { db } = (await filled(t, place)).store
      const seqs = async (query: Omit<RecordQuery, 'limit'>) =>
        (await searchRecords(db, { ...query, limit: 100 })).rows.map(({ envelope }) => envelope.seq)
      assert.deepEqual(await seqs({}), [6, 5, 4, 3, 2, 1])
      assert.deepEqual(await seqs({ identity: agent.id }), [4, 2])
      assert.deepEqual(await seqs({ identity: [person.id, agent.id, person.id] }), [6, 4, 2, 1])
      assert.deepEqual(await seqs({ session: 'ses_1' }), [4, 3, 2, 1])
      assert.deepEqual(await seqs({ resource: intent().action!.resource.id }), [5, 4, 2])
      assert.deepEqual(await seqs({ type: 'action.intent' }), [5, 2])
      assert.deepEqual(await seqs({ type: 'lock.made' }), [6])
      assert.deepEqual(await seqs({ verdict: 'deny' }), [4])
      assert.deepEqual(await seqs({ verdict: 'allow' }), [5, 2])
      assert.deepEqual(await seqs({ since: 1001, until: 1003 }), [3, 2])
      assert.deepEqual(await seqs({ identity: agent.id, verdict: 'deny', session: 'ses_1' }), [4])
      assert.deepEqual(await seqs({ identity: agent.id, verdict: 'deny', session: 'ses_2' }), [])
    })

    test('Text is found in records and in bodies, in any case and with quotes in it.', async (t) => {
      const { db } = (await filled(t, place)).store
      const seqs = async (text: string, more: Partial<RecordQuery> = {}) =>
        (await searchRecords(db, { ...more, text, limit: 100 })).rows.map(({ envelope }) => envelope.seq)
      assert.deepEqual(await seqs('drop table'), [4])
      assert.deepEqual(await seqs('GRÖSSE'), [])
      assert.deepEqual(await seqs('größe'), [2])
      assert.deepEqual(await seqs('"hi"'), [6, 2])
      assert.deepEqual(await seqs('"hi"', { identity: person.id }), [6])
      assert.deepEqual(await seqs('no such thing'), [])
    })

    test('Pages follow each other without a gap or an overlap, with text and without.', async (t) => {
      const { db } = (await filled(t, place)).store
      for (const query of [{}, { text: 's' }, { identity: [person.id, agent.id, other.id] }]) {
        const all = (await searchRecords(db, { ...query, limit: 100 })).rows.map(({ envelope }) => envelope.seq)
        for (const limit of [1, 2, 3]) {
          const seen: number[] = []
          let before: string | undefined
          do {
            const page = await searchRecords(db, { ...query, limit, ...(before !== undefined && { before }) })
            seen.push(...page.rows.map(({ envelope }) => envelope.seq))
            before = page.next
          } while (before !== undefined && seen.length < 50)
          assert.deepEqual(seen, all)
        }
      }
    })

    test('A search that stops says so, and goes on from there to the end; a count says that there is more.', async (t) => {
      const { db } = (await filled(t, place)).store
      for (const query of [{ text: 'drop table' }, { session: 'ses_1', type: 'session.started' }, { session: 'ses_1', verdict: 'allow' }] as const) {
        const seen: number[] = []
        const stops: (number | undefined)[] = []
        let before: string | undefined
        do {
          const page = await searchRecords(db, { ...query, limit: 5, ...(before !== undefined && { before }) }, 2)
          seen.push(...page.rows.map(({ envelope }) => envelope.seq))
          stops.push(page.stoppedAfter)
          before = page.next
        } while (before !== undefined && stops.length < 20)
        assert.deepEqual(
          seen,
          (await searchRecords(db, { ...query, limit: 5 })).rows.map(({ envelope }) => envelope.seq),
        )
        assert.deepEqual([stops[0], stops.at(-1)], [2, undefined])
      }
    })

    test('An intent comes with its statement, its position and what came of it.', async (t) => {
      const { db } = (await filled(t, place)).store
      const { rows } = await searchRecords(db, { identity: agent.id, limit: 10 })
      const [refused, sent] = rows
      assert.equal(sent!.statement, 'SELECT "Größe" FROM t -- say "hi"')
      assert.deepEqual(sent!.outcome, { status: 'ok', rows: 5 })
      assert.deepEqual([sent!.position, refused!.position, refused!.outcome], [1, 3, undefined])
    })

    test('One record is read with its bodies and what followed.', async (t) => {
      const { db } = (await filled(t, place)).store
      const detail = (await readRecord(db, 'per_1'))!
      assert.equal(Buffer.from(detail.bodies[0]!.bytes!).toString(), 'SELECT "Größe" FROM t -- say "hi"')
      assert.match(detail.leafHash, /^[0-9a-f]{64}$/)
      assert.deepEqual(
        detail.followedBy.map(({ envelope }) => envelope.type),
        ['action.outcome'],
      )
      assert.equal(await readRecord(db, 'per_x'), undefined)
      await db.updateTable('audit_bodies').set({ body: null, erased_at: 7 }).where('node_seq', '=', 2).execute()
      assert.deepEqual((await readRecord(db, 'per_1'))!.bodies, [{ name: 'statement', bytes: null, erasedAt: 7 }])
    })

    test('A record that somebody broke does not hide the others.', async (t) => {
      const { db } = (await filled(t, place)).store
      await db
        .updateTable('audit_leaves')
        .set({ leaf: Buffer.from('{"v":7}') })
        .where('node_seq', '=', 4)
        .execute()
      const { rows } = await searchRecords(db, { limit: 10 })
      assert.equal(rows.length, 6)
      assert.match(String(rows[2]!.envelope.data!.unreadable), /version 7/)
    })

    test('Queries that make no sense are refused.', async (t) => {
      const { db } = (await filled(t, place)).store
      for (const query of [
        { limit: 0 },
        { limit: 1001 },
        { limit: 1.5 },
        { limit: 1, before: 'x' },
        { limit: 1, identity: Array.from({ length: 51 }, (_, i) => `usr_${i}`) },
      ]) {
        await assert.rejects(searchRecords(db, query), isUsage)
      }
    })
  })
}
