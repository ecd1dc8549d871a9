import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AuditLog } from '../audit/record.ts'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { watched } from './record-health.ts'

test('rule 3: a node that cannot record says that it is not ready, until it can again', async () => {
  const clock = manualClock(0)
  let full = false
  const counted: string[] = []
  const audit = {
    append: async () => {
      if (full) throw new ChaperoneError('audit_unavailable', 'The disk is full.')
      return { id: 'rec_1', seq: 1 }
    },
  } as unknown as AuditLog
  const record = watched(audit, { recorded: (draft) => counted.push(draft.type) }, clock)
  await record.append({ type: 'node.started' })
  assert.equal(record.failing(), false)
  full = true
  await assert.rejects(record.append({ type: 'node.started' }))
  assert.equal(record.failing(), true)
  clock.advance(10_000)
  assert.equal(record.failing(), false, 'or after some seconds: without traffic nobody would find out')
  await assert.rejects(record.append({ type: 'node.started' }))
  full = false
  await record.append({ type: 'node.stopped' })
  assert.equal(record.failing(), false)
  assert.deepEqual(counted, ['node.started', 'node.stopped'])
})
