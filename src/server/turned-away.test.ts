import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Draft } from '../audit/record.ts'
import { manualClock } from '../clock.ts'
import { recordStrangers } from './turned-away.ts'

const turn = () => new Promise((done) => setImmediate(done))

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
  await turn()
  assert.deepEqual(records.at(-1)?.data, { reason: 'too_many', from: '10.0.0.1', more: 4980, withinMs: 60_000 })
  assert.equal(records.length, 22)
  await log.append(refused('10.0.0.1'))
  assert.equal(records.length, 23, 'the next minute is a new one')
})

test('rule 11: a flood from many addresses is bounded by the house as a whole, and counted in one record', async () => {
  const { records, clock, refused, log } = strangers()
  for (let i = 0; i < 5000; i++) await log.append(refused(`10.0.${i >> 8}.${i & 255}`))
  assert.equal(records.length, 300)
  clock.advance(60_000)
  await turn()
  assert.deepEqual(
    records.slice(300).map(({ data }) => data),
    [{ reason: 'too_many', from: 'others', more: 4700, withinMs: 60_000 }],
  )
  // It goes on for an hour: half a record a second, and the numbers.
  const before = records.length
  for (let minute = 0; minute < 60; minute++) {
    for (let i = 0; i < 200; i++) await log.append(refused(`10.${minute}.${i >> 8}.${i & 255}`))
    clock.advance(60_000)
    await turn()
  }
  assert.ok(records.length - before <= 60 * (30 + 31), `${records.length - before} in an hour`)
  const told = records.reduce((sum, { data }) => sum + (data?.reason === 'too_many' ? Number(data.more) : 1), 0)
  assert.equal(told, 5000 + 60 * 200, 'none goes uncounted')
})

test('rule 11: a bad secret, link, join token or code of a stranger is one of these; each kind has its own count, and whose door it was', async () => {
  const { records, clock, log } = strangers()
  const dana = { id: 'usr_1', name: 'dana', kind: 'user' } as const
  const drafts: Draft[] = [
    { type: 'credential.refused', data: { how: 'join', reason: 'invitation_invalid', from: '10.0.0.1' } },
    { type: 'factor.refused', actor: dana, data: { how: 'login', reason: 'factor_invalid', from: '10.0.0.1' } },
  ]
  for (let i = 0; i < 100; i++) for (const draft of drafts) await log.append(draft)
  assert.equal(records.length, 40)
  clock.advance(60_000)
  await turn()
  const more = { reason: 'too_many', from: '10.0.0.1', more: 80, withinMs: 60_000 }
  assert.deepEqual(records.slice(40), [
    { type: 'credential.refused', data: more },
    { type: 'factor.refused', actor: dana, data: more },
  ])
})

test('a subscriber is one stranger with all the addresses of his network', async () => {
  const { records, refused, log } = strangers()
  for (let i = 0; i < 100; i++) await log.append(refused(`2001:db8:0:7::${i.toString(16)}`))
  assert.equal(records.length, 20)
})

test('what somebody does who is signed in is recorded one by one', async () => {
  const { records, log } = strangers()
  for (let i = 0; i < 100; i++) await log.append({ type: 'factor.refused', session: 'ses_1', data: { reason: 'factor_invalid' } })
  assert.equal(records.length, 100)
})

test('every other record passes as it is', async () => {
  const { records, log } = strangers()
  for (let i = 0; i < 100; i++) await log.append({ type: 'connection.opened' })
  assert.equal(records.length, 100)
})
