import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { systemClock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import { openStore } from '../../store/open.ts'
import { openTasks } from './tasks.ts'
import { type Request, readMessages } from './wire.ts'

const as = (identity: string) => ({ principal: { chain: [{ identity }] } }) as unknown as LiveSession
const call = (name: string) =>
  readMessages(Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name } })), {
    bodyBytes: 1e4,
    depth: 9,
    batch: 1,
  }) as Request
const made = (taskId: string) => JSON.stringify({ jsonrpc: '2.0', id: 1, result: { resultType: 'task', taskId, status: 'working' } })

test('a task is its caller’s alone, also after a restart, and is judged as the tool that made it last', async (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), 'chaperone-tasks-'))
  const store = await openStore({ dataDir }, { clock: systemClock })
  t.after(async () => {
    await store.close()
    rmSync(dataDir, { recursive: true })
  })
  const tasks = openTasks(store, systemClock)
  await tasks.learn('res_a', as('agt_ada'), call('report'), made('t1'))
  const again = openTasks(store, systemClock)
  assert.deepEqual(await again.ownerOf('res_a', as('agt_ada'), 't1'), { tool: 'report' })
  assert.equal(await again.ownerOf('res_a', as('agt_eve'), 't1'), undefined)
  assert.equal(await again.ownerOf('res_b', as('agt_ada'), 't1'), undefined)
  await again.learn('res_a', as('agt_ada'), call('wipe'), made('t1'))
  assert.deepEqual(await again.ownerOf('res_a', as('agt_ada'), 't1'), { tool: 'wipe' })
  // A server that gives one id to two callers would show one what the other did.
  await assert.rejects(again.learn('res_a', as('agt_eve'), call('report'), made('t1')), (error) => error instanceof ChaperoneError)
  assert.deepEqual(await again.ownerOf('res_a', as('agt_ada'), 't1'), { tool: 'wipe' })
})
