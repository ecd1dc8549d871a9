import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import type { Worker } from 'node:worker_threads'
import { ChaperoneError } from '../errors.ts'
import { fill, intent, openRoom, outcome, sqlitePlace } from './fixtures.ts'
import { openLogForReading, verifyLog } from './verify.ts'

const unavailable = (error: unknown) => error instanceof ChaperoneError && error.code === 'audit_unavailable'

async function assertVerifies(t: TestContext, from: Parameters<typeof openLogForReading>[0]): Promise<number> {
  const log = await openLogForReading(from)
  t.after(() => log.close())
  const { problems, records } = await verifyLog(log)
  assert.deepEqual(problems, [])
  return records
}

const CHILD = `
  import { openStore } from '${new URL('../store/open.ts', import.meta.url)}'
  import { openAudit } from '${new URL('./writer.ts', import.meta.url)}'
  import { intent } from '${new URL('./fixtures.ts', import.meta.url)}'
  import { systemClock as clock } from '${new URL('../clock.ts', import.meta.url)}'
  import { generateKeyPairSync } from 'node:crypto'
  import { writeSync } from 'node:fs'
  const store = await openStore({ dataDir: process.argv[1] }, { clock })
  const key = { id: 'key_1', ...generateKeyPairSync('ed25519') }
  const keyring = { signer: async () => { throw new Error('none here') } }
  const audit = await openAudit(store, { nodeId: 'nod_child', trustDomain: 'example.org', keyring, clock, checkpointEveryMs: 20 })
  await Promise.all(Array.from({ length: 8 }, async () => {
    for (;;) {
      const { id, seq } = await audit.append(intent())
      writeSync(1, seq + ' ' + id + '\\n')
    }
  }))
`

test('rule 3: after kill -9, everything that was acknowledged is there, and numbering goes on without a gap.', async (t) => {
  const room = await openRoom(t, sqlitePlace)
  const dataDir = 'dataDir' in room.location ? room.location.dataDir : ''
  let numbered = 0
  for (let round = 0; round < 3; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', CHILD, dataDir], { stdio: ['ignore', 'pipe', 'inherit'] })
    const acknowledged = new Map<number, string>()
    for await (const line of createInterface({ input: child.stdout })) {
      const [seq, id] = line.split(' ')
      acknowledged.set(Number(seq), id!)
      if (acknowledged.size === 150) child.kill('SIGKILL')
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    assert.ok(acknowledged.size >= 150)
    const rows = await room.store.db.selectFrom('audit_leaves').select(['node_seq', 'id']).orderBy('node_seq').execute()
    assert.deepEqual(
      rows.map((row) => row.node_seq),
      rows.map((_, i) => i + 1),
    )
    const stored = new Map(rows.map((row) => [row.node_seq, row.id]))
    for (const [seq, id] of acknowledged) assert.equal(stored.get(seq), id)
    assert.ok(rows.length > numbered)
    numbered = rows.length
  }
  const audit = await room.open({ nodeId: 'nod_child' })
  assert.equal((await audit.append(intent())).seq, numbered + 1)
  await audit.close()
  assert.equal(await assertVerifies(t, room.location), numbered + 1)
})

test('rule 1: when the disk is full, append refuses and the process lives; with room it works again (peers R70).', async (t) => {
  const room = await openRoom(t, sqlitePlace)
  const filler = 'x'.repeat(2_000_000)
  await room.store.write((trx) => trx.insertInto('meta').values({ key: 'filler', value: filler }).execute())
  const audit = await room.open({ maxPages: 900 })
  let acknowledged = 0
  let refusal: unknown
  while (refusal === undefined) {
    await audit.append(intent(undefined, 'y'.repeat(20_000))).then(
      () => acknowledged++,
      (error) => {
        refusal = error
      },
    )
  }
  assert.ok(unavailable(refusal) && /full/.test((refusal as ChaperoneError).detail!), String(refusal))
  await assert.rejects(audit.append(intent(undefined, 'y'.repeat(20_000))), unavailable)

  await room.store.write((trx) => trx.deleteFrom('meta').where('key', '=', 'filler').execute())
  const { seq } = await audit.append(intent())
  assert.equal(seq, acknowledged + 1, 'what was refused has used up no number')
  await audit.close()
  assert.equal(await assertVerifies(t, room.location), acknowledged + 1)
})

test('rule 1: when the writer crashes, what waits is refused, and the next append is written by a new one.', async (t) => {
  const room = await openRoom(t, sqlitePlace)
  const workers: Worker[] = []
  const see = (worker: Worker) => workers.push(worker)
  process.on('worker', see)
  t.after(() => process.off('worker', see))
  const audit = await room.open({ secrets: ['a-known-value'] })
  await fill(audit, 3)
  const waiting = Promise.allSettled([audit.append(intent()), audit.append(outcome('per_x'))])
  await workers[0]!.terminate()
  // Whether they were stored before it ended, nobody knows; they were not acknowledged.
  const refused = (await waiting).filter((result) => result.status === 'rejected')
  for (const { reason } of refused) assert.ok(unavailable(reason))
  const { seq } = await audit.append({ ...intent(), purpose: 'a-known-value' })
  assert.ok(seq >= 4 && seq <= 6)
  await audit.close()
  assert.equal(await assertVerifies(t, room.location), seq)
  const leaf = await room.store.db.selectFrom('audit_leaves').select('leaf').where('node_seq', '=', seq).executeTakeFirstOrThrow()
  assert.match(Buffer.from(leaf.leaf).toString(), /"purpose":"\[masked:secret\]"/, 'the new writer knows the secrets')
})

test('rule 1: a store that is locked or gone refuses the append, and later ones try again.', async (t) => {
  const room = await openRoom(t, sqlitePlace)
  const audit = await room.open()
  await fill(audit, 1)
  await room.store.db.schema.alterTable('audit_leaves').renameTo('elsewhere').execute()
  await assert.rejects(audit.append(intent()), unavailable)
  await assert.rejects(audit.append(intent()), unavailable)
  await room.store.db.schema.alterTable('elsewhere').renameTo('audit_leaves').execute()
  assert.equal((await audit.append(intent())).seq, 2)
})

test('A log that was tampered with is recorded to still, and no longer signed.', async (t) => {
  const room = await openRoom(t, sqlitePlace)
  const audit = await room.open()
  await fill(audit, 3)
  await room.store.db
    .updateTable('audit_sequencer')
    .set({ frontier: Buffer.alloc(64) })
    .execute()
  const broken = (error: unknown) => error instanceof ChaperoneError && error.code === 'record_broken'
  await assert.rejects(audit.checkpoint(), broken)
  assert.equal((await audit.append(intent())).seq, 4)
  await assert.rejects(audit.checkpoint(), broken)
})

test('A store that cannot be opened is told at the start.', async (t) => {
  const room = await openRoom(t, sqlitePlace)
  await room.store.db.schema.dropTable('audit_sequencer').execute()
  await assert.rejects(room.open(), (error) => error instanceof ChaperoneError && error.code === 'store_unavailable')
})
