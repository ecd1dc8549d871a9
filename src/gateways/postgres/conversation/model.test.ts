import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import fc from 'fast-check'
import { delayUpstream } from '../delays.fixture.ts'
import { bind, close, describe, execute, type RawClient, sync } from '../raw.fixture.ts'
import { ANYTHING, READER, type Rig, startRig, until } from '../rig.fixture.ts'
import { parseMessage as parse, queryMessage as query } from '../wire/write.ts'
import { answersOfServer, type Part, type Sent } from './unnamed.fixture.ts'

/**
 * The state machine against the server itself: whatever a client sends, in whatever order, everything being allowed, it gets the
 * answers that the server gives to the same messages; and every statement ends with an outcome that is true.
 */
let rig: Rig
before(async () => {
  rig = await startRig({ roles: [ANYTHING] })
  await rig.admin.query(
    'create schema app; create table app.touched (what text); grant all on schema app to writer; grant all on app.touched to writer',
  )
})
after(() => rig.stop())

const name = fc.constantFrom('', 's', 't')
const texts = [
  "insert into touched values ('x') returning what",
  'select what from touched order by what limit 2',
  'select 1 / 0',
  'select 1 / (select 0)',
  'selec',
  '',
  'begin',
  'commit',
  'rollback',
  'rollback to a',
  'set search_path = app',
  'set local search_path = app, public',
  'reset search_path',
  'prepare s as select 5',
  'prepare t as select count(*) from touched',
  'execute s',
  'execute t',
  'deallocate s',
  'deallocate all',
  'discard all',
  'declare s cursor for select generate_series(1, 5)',
  'fetch 2 from s',
  'close s',
  'select 1; select 2',
  'show search_path',
] as const
const sql = fc.constantFrom(...texts)

// A SAVEPOINT that the protocol prepared stays out: its EXECUTE ends the session, directly as well (18.4: "DefineSavepoint: unexpected state STARTED").
const simple: fc.Arbitrary<Sent> = fc
  .constantFrom(...texts, 'savepoint a', 'release a', 'commit; begin', 'begin; select 1 / (select 0)')
  .map((text) => ({ kind: 'query', frames: [query(text)], words: `Q ${text}` }))
const parsed = (to: string, text: string): Part => ({ does: 'parse', frame: parse(to, text), words: `P ${to} ${text}` })
const bound = (portal: string, of: string): Part => ({ does: 'bind', portal, frame: bind(portal, of), words: `B ${portal} ${of}` })
const ran = (portal: string, most = 0): Part => ({ does: 'execute', portal, frame: execute(portal, most), words: `E ${portal} ${most}` })
const described = (of: 'S' | 'P', what: string): Part => ({
  does: 'describe',
  ...(of === 'P' ? { portal: what } : {}),
  frame: describe(of, what),
  words: `D ${of} ${what}`,
})
const closed = (of: 'S' | 'P', what: string): Part => ({
  does: 'close',
  ...(of === 'P' ? { portal: what } : {}),
  frame: close(of, what),
  words: `C ${of} ${what}`,
})
const inBatch = (parts: readonly Part[]): Sent => ({
  kind: 'batch',
  frames: [...parts.map(({ frame }) => frame), sync()],
  parts,
  words: `[${parts.map(({ words }) => words).join(' | ')}]`,
})
const part = fc.oneof(
  fc.tuple(name, sql).map(([to, text]) => parsed(to, text)),
  fc.tuple(name, name).map(([portal, of]) => bound(portal, of)),
  fc.tuple(name, fc.constantFrom(0, 1)).map(([portal, most]) => ran(portal, most)),
  fc.tuple(fc.constantFrom('S' as const, 'P' as const), name).map(([of, what]) => closed(of, what)),
  fc.tuple(fc.constantFrom('S' as const, 'P' as const), name).map(([of, what]) => described(of, what)),
)
const batch: fc.Arbitrary<Sent> = fc.array(part, { minLength: 1, maxLength: 6 }).map(inBatch)
/** Parse, Bind, Execute of one text, as drivers do. */
const whole: fc.Arbitrary<Sent> = fc.tuple(name, sql).map(([to, text]) => inBatch([parsed(to, text), bound('', to), ran('')]))

/** What a client sees: types, rows, codes and status. */
async function answers(raw: RawClient, sent: readonly Sent[], atOnce: boolean): Promise<string[]> {
  const all: string[] = []
  if (atOnce) raw.send(...sent.flatMap(({ frames }) => frames))
  for (const { frames } of sent) {
    if (!atOnce) raw.send(...frames)
    const said = await raw.answers(1, true).catch(() => undefined)
    all.push(said?.join(' ') ?? 'closed')
    if (!said) break
  }
  return all
}

/** In pieces that end anywhere, with pauses between them. */
async function dribble(raw: RawClient, sent: readonly Sent[], random: () => number): Promise<void> {
  const all = Buffer.concat(sent.flatMap(({ frames }) => frames))
  for (let at = 0; at < all.length; ) {
    const size = random() < 0.3 ? all.length : 1 + Math.floor(random() * 60)
    raw.send(all.subarray(at, at + size))
    at += size
    if (random() < 0.5) await wait(random() * 4)
  }
}

/** What is answered before `ms` are over; the last word says that the rest never came. */
async function answersInTime(raw: RawClient, sent: readonly Sent[], ms: number): Promise<string[]> {
  const all: string[] = []
  const late = new AbortController()
  const end = wait(ms, 'late' as const, { signal: late.signal }).catch(() => 'late' as const)
  for (const _ of sent) {
    const said = await Promise.race([raw.answers(1, true).catch(() => undefined), end])
    all.push(said === 'late' ? 'nothing more came' : (said?.join(' ') ?? 'closed'))
    if (said === 'late' || !said) break
  }
  late.abort()
  return all
}

/** In an aborted transaction the server may know the unnamed portal of a Query that failed; that it cannot be run is said in two ways. */
const aborted = (answer: string) => answer.replace(/E:(34000|26000) ZE$/, 'E:25P02 ZE')

/** Refusals that the server does not know: in one batch, what may have changed hands is not used. */
const OWN = /E:42501/

const runs = Number(process.env.CHAPERONE_RUNS ?? (process.env.CHAPERONE_DEEP ? 400 : 20))

test('rule 10: whatever is sent, one after the other or all at once, the answers are those of the server', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(simple, batch, whole), { minLength: 1, maxLength: 12 }), fc.boolean(), async (sent, atOnce) => {
      rig.records.length = 0
      await rig.admin.query('truncate touched, app.touched')
      const direct = await rig.rawDirect('writer')
      const expected = await answersOfServer(direct, sent)
      await ended(direct)
      const after = await rows()
      await rig.admin.query('truncate touched, app.touched')
      const through = await rig.raw('writer')
      const actual = await answers(through, sent, atOnce)
      await ended(through)
      const said = () => sent.map(({ words }, i) => `${words}\n   server: ${expected[i]}\n   got:    ${actual[i]}`).join('\n')
      for (const [i, answer] of actual.entries()) {
        // From a refusal of our own on the two may differ in all that follows.
        if (OWN.test(answer) && !OWN.test(expected[i]!)) {
          assert.equal(sent[i]!.kind, 'batch', said())
          return
        }
        assert.equal(aborted(answer), aborted(expected[i]!), said())
      }
      assert.deepEqual(await rows(), after, said())
      await until(() => rig.open.size === 0)
      for (const record of rig.records) assert.ok(record.outcome || record.kind === 'refused', said())
    }),
    { numRuns: runs },
  )
})

test('nobody waits for ever: with everything slow, and messages in pieces, every answer comes, and is that of the server', async () => {
  let seed = 1
  const random = () => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff
    return (seed >>> 8) / 0x800000
  }
  // Each permit takes its own time; so do both directions to the database. A comment on a table has the mirror made anew.
  const own = Object.getOwnPropertyDescriptor(rig.gate, 'wait')!
  Object.defineProperty(rig.gate, 'wait', { configurable: true, get: () => (random() < 0.6 ? wait(random() * 8) : undefined) })
  const delayed = await delayUpstream(rig, () => (random() < 0.5 ? random() * 6 : 0))
  const comment: fc.Arbitrary<Sent> = fc.constant({ kind: 'query', frames: [query("comment on table touched is 'x'")], words: 'Q comment' })
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(simple, batch, whole, comment), { minLength: 1, maxLength: 12 }), fc.nat(), async (sent, start) => {
        rig.records.length = 0
        await rig.admin.query('truncate touched, app.touched')
        const direct = await rig.rawDirect('writer')
        const expected = await answersOfServer(direct, sent)
        await ended(direct)
        await rig.admin.query('truncate touched, app.touched')
        seed = start
        const through = await rig.raw('writer')
        const sending = dribble(through, sent, random)
        const actual = await answersInTime(through, sent, 15_000)
        await sending
        await ended(through)
        const said = () => sent.map(({ words }, i) => `${words}\n   server: ${expected[i]}\n   got:    ${actual[i]}`).join('\n')
        for (const [i, answer] of actual.entries()) {
          if (OWN.test(answer) && !OWN.test(expected[i]!)) return
          assert.equal(aborted(answer), aborted(expected[i]!), said())
        }
        await until(() => rig.open.size === 0)
      }),
      { numRuns: runs, endOnFailure: true },
    )
  } finally {
    delayed.stop()
    Object.defineProperty(rig.gate, 'wait', own)
  }
})

test('rule 2: whatever is sent by somebody who may only read, nothing is written, and every answer has its place', async () => {
  rig.state.roles = [READER]
  await rig.admin.query('truncate touched, app.touched')
  const before = await rows()
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(simple, batch, whole), { minLength: 1, maxLength: 12 }), async (sent) => {
      const raw = await rig.raw('writer')
      const said = await answers(raw, sent, true)
      if (said.at(-1) === 'closed') return
      assert.ok(said.every((answer) => /Z[ITE]$/.test(answer)))
      raw.send(query('rollback'), query('select 9'))
      assert.deepEqual((await raw.answers(2)).slice(-3), ['D:9', 'C:SELECT 1', 'ZI'])
      await ended(raw)
      assert.deepEqual(await rows(), before)
    }),
    { numRuns: runs },
  )
})

const rows = async () =>
  (await rig.admin.query('select (select count(*) from touched)::int as here, (select count(*) from app.touched)::int as there')).rows[0]

/** Its transaction, if it has one, is over in the database. */
async function ended(raw: RawClient): Promise<void> {
  raw.end()
  await until(async () => (await rig.admin.query("select 1 from pg_stat_activity where usename = 'writer'")).rowCount === 0)
}
