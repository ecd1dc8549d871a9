import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Draft } from '../audit/record.ts'
import { manualClock } from '../clock.ts'
import { recordStrangers } from './turned-away.ts'

function strangers() {
  const records: Draft[] = []
  const clock = manualClock(0)
  const audit = { append: async (draft: Draft) => ({ id: 'rec', seq: records.push(draft) }) }
  const refused = (from: string): Draft => ({ type: 'connection.refused', data: { reason: 'unauthenticated', from } })
  return { records, clock, refused, log: recordStrangers({ audit, clock, failed: (error) => assert.fail(String(error)) }) }
}

test('rule 11: a flood of strangers costs a few records a minute, and none of them goes uncounted (peers R75)', async () => {
  const { records, clock, refused, log } = strangers()
  for (let i = 0; i < 5000; i++) await log.append(refused('10.0.0.1'))
  await log.append(refused('10.0.0.2'))
  assert.equal(records.length, 21, 'another address is not drowned by it')
  clock.advance(60_000)
  await new Promise((turn) => setImmediate(turn))
  assert.deepEqual(records.at(-1)?.data, { reason: 'too_many', from: '10.0.0.1', more: 4980, withinMs: 60_000 })
  assert.equal(records.length, 22)
  await log.append(refused('10.0.0.1'))
  assert.equal(records.length, 23, 'the next minute is a new one')
})

test('rule 11: a flood from many addresses is bounded, too', async () => {
  const { records, refused, log } = strangers()
  for (let i = 0; i < 5000; i++) await log.append(refused(`10.0.${i >> 8}.${i & 255}`))
  assert.equal(records.length, 1020)
  await log.close()
  assert.equal(records.at(-1)?.data?.more, 3980)
})

test('every other record passes as it is', async () => {
  const { records, log } = strangers()
  for (let i = 0; i < 100; i++) await log.append({ type: 'connection.opened' })
  assert.equal(records.length, 100)
})
