import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ask, house } from '../parts/house.ts'

/** What one address may try: at most this many at once, and one a second. */
const BURST = 60

test('rule 11: who tries at several doors has no more tries than at one', async (t) => {
  const home = await house(t)
  const { data, web } = home.server.addresses
  const thief = { localAddress: '127.0.0.240' }
  const at = home.server.parts.places.web
  const form = { host: at, origin: `https://${at}`, 'content-type': 'application/x-www-form-urlencoded' }
  const json = { 'content-type': 'application/json' }
  const doors: readonly (() => Promise<number>)[] = [
    () => ask(data, '/v1/join', { ...thief, method: 'POST', headers: json, body: '{"token":"wrong"}' }).then(({ status }) => status),
    () => ask(data, '/v1/enrol/begin', { ...thief, method: 'POST', headers: json, body: '{"secret":"wrong"}' }).then(({ status }) => status),
    () => ask(web, '/signin', { ...thief, method: 'POST', headers: form, body: 'name=dana&code=123456' }).then(({ status }) => status),
  ]
  const statuses: number[] = []
  for (let i = 0; i < BURST + 30; i++) statuses.push(await doors[i % doors.length]!())
  const answered = statuses.filter((status) => status !== 429).length
  // Some more may pass: one a second comes back while it tries.
  assert.ok(answered >= BURST && answered < BURST + 25, String(answered))
  assert.notEqual(
    await ask(data, '/v1/join', { localAddress: '127.0.0.241', method: 'POST', headers: json, body: '{}' }).then(({ status }) => status),
    429,
  )
})
