import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { manualClock } from '../../clock.ts'
import { makeCrowd } from './crowd.ts'
import { quiet } from './quiet.ts'

const LARGE = 1024 * 1024

test('rule 11: one person has only so many requests under way, and others still have room', () => {
  const crowd = makeCrowd({ requestsPerPerson: 2, requests: 3 })
  const leave = crowd.enter('boris')
  crowd.enter('boris')
  assert.throws(() => crowd.enter('boris'), { code: 'too_many', message: 'You have 2 requests under way.' })
  crowd.enter('dana')
  assert.throws(() => crowd.enter('dana'), { code: 'too_many', message: 'Chaperone has as many requests under way as it may.' })
  leave()
  leave()
  assert.equal(crowd.size, 2, 'who leaves twice leaves once')
  crowd.enter('boris')
})

test('rule 11: large messages are read by turns: a person with a hundred of them does not keep another waiting', async () => {
  const crowd = makeCrowd({ requestsPerPerson: 1000, requests: 1000 })
  const read: string[] = []
  const noisy = Array.from({ length: 100 }, () => crowd.turn('noisy', LARGE).then(() => read.push('noisy')))
  await crowd.turn('dana', LARGE)
  assert.ok(read.length <= 2, `${read.length} were read before`)
  await crowd.turn('dana', 10)
  assert.ok(read.length <= 3, 'a small one waits for none')
  await Promise.all(noisy)
  assert.equal(read.length, 100)
})

test('rule 11: one large message a turn of the event loop: what is small comes between', async () => {
  const crowd = makeCrowd({ requestsPerPerson: 1000, requests: 1000 })
  let loop = 0
  let over = false
  const count = () => {
    loop++
    if (!over) setImmediate(count)
  }
  setImmediate(count)
  const loops = await Promise.all(Array.from({ length: 20 }, (_, i) => crowd.turn(`person ${i}`, LARGE).then(() => loop)))
  over = true
  assert.equal(new Set(loops).size, 20)
})

test('whoever waits for a turn gets one', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.integer({ min: 1, max: 2 * LARGE })), { maxLength: 40 }), async (asked) => {
      const crowd = makeCrowd({ requestsPerPerson: 1000, requests: 1000 })
      await Promise.all(asked.map(([person, bytes]) => crowd.turn(person, bytes)))
    }),
    { numRuns: 50 },
  )
})

test('rule 11: a server that writes nonsense does not fill the log', () => {
  const clock = manualClock(0)
  const lines: Record<string, unknown>[] = []
  const log = quiet((_, facts) => lines.push(facts), clock)
  for (let i = 0; i < 1000; i++) log('mcp.upstream.noise', { server: 'web', i })
  assert.equal(lines.length, 20)
  log('mcp.upstream.noise', { server: 'other' })
  log('mcp.child.ended', { server: 'web' })
  assert.equal(lines.length, 22, 'another server, another kind')
  clock.advance(60_000)
  log('mcp.upstream.noise', { server: 'web' })
  assert.deepEqual(lines.at(-1), { server: 'web', leftOut: 980 })
})
