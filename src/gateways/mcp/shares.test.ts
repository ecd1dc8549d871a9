import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { call, MB, upstream } from './bounded.fixture.ts'
import { answerOf, eventually, type Harness, harness, initialize, openSession } from './harness.fixture.ts'

describe('each person has a share', () => {
  let given: Harness
  let server: Awaited<ReturnType<typeof upstream>>
  let dana: Record<string, string>
  let noisy: Record<string, string>

  before(async () => {
    server = await upstream()
    given = await harness({
      role: {
        allow: [
          { mcp: 'any', tools: ['ok', 'never'] },
          { mcp: 'any', tools: ['twice'], limits: { rate: '1/1h' } },
          { mcp: 'any', resources: 'any', limits: { rate: '1/1h' } },
        ],
      },
      servers: { web: { url: server.url } },
      limits: { requestsPerPerson: 32, lanesPerPerson: 3 },
    })
    dana = await openSession(given, 'web', { 'x-test-as': 'dana' })
    noisy = await openSession(given, 'web', { 'x-test-as': 'noisy' })
  })
  after(async () => {
    await given.close()
    server.close()
  })
  const done = async (): Promise<void> => assert.ok((await answerOf(await given.post('web', call('ok'), dana))).result)

  test('rule 11: large messages of one client do not stop the small ones of another', async () => {
    const numbers = Array.from({ length: 300_000 }, (_, i) => ({ i }))
    const bodies = Array.from({ length: 12 }, () => JSON.stringify(call('ok', { numbers })))
    assert.ok(bodies[0]!.length > 3 * MB && bodies[0]!.length < 4 * MB)
    /** How many of the large ones were answered before each small one. */
    const beside = async (): Promise<readonly number[]> => {
      let answered = 0
      const large = bodies.map((body) =>
        given
          .post('web', body, noisy)
          .then(answerOf)
          .finally(() => answered++),
      )
      const before: number[] = []
      while (answered < bodies.length) {
        await done()
        before.push(answered)
      }
      for (const { result, error } of await Promise.all(large)) assert.ok(result, JSON.stringify(error))
      return before
    }
    // By order, not by time, and once more where the machine was too busy to send the small one in time: client and gateway share this process.
    const looks: string[] = []
    for (let look = 0; look < 3; look++) {
      const before = await beside()
      if (before[0]! < bodies.length) return
      looks.push(before.join(' '))
    }
    assert.fail(`the small ones waited for the large ones: ${looks.join(', ')} of ${bodies.length}`)
  })

  test('rule 11: who has too many requests under way is told when to try again, and others are served', async () => {
    const stop = new AbortController()
    const post = () =>
      fetch(`${given.base}web`, {
        method: 'POST',
        signal: stop.signal,
        headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...noisy },
        body: JSON.stringify(call('never')),
      })
    const waiting = Array.from({ length: 32 }, () => post().catch(() => {}))
    await eventually(() => given.guard.open === 32, 'they are under way')
    const refused = await post()
    assert.deepEqual([refused.status, refused.headers.get('retry-after')], [429, '1'])
    assert.equal((await answerOf(refused)).error.data.reason, 'too_many')
    await done()
    stop.abort()
    await Promise.all(waiting)
  })

  test('rule 11: one person cannot open all the sessions that there may be', async () => {
    for (let i = 0; i < 2; i++) await openSession(given, 'web', { 'x-test-as': 'greedy' })
    await openSession(given, 'web', { 'x-test-as': 'greedy' })
    const refused = await given.post('web', initialize(), { 'x-test-as': 'greedy' })
    assert.equal((await answerOf(refused)).error.data.reason, 'too_many')
    await openSession(given, 'web', { 'x-test-as': 'modest' })
  })

  test('a call over its limit is a result that a model reads; anything else is 429 with Retry-After', async () => {
    await answerOf(await given.post('web', call('twice'), dana))
    const over = await given.post('web', call('twice'), dana)
    const { result } = await answerOf(over)
    assert.equal(over.status, 200)
    assert.equal(result.isError, true)
    assert.match(result.content[0].text, /rate 1\/1h per identity .* Try again in 3[56]\d\d seconds .* send the same call again\./)
    const read = (id: number) => given.post('web', { jsonrpc: '2.0', id, method: 'resources/read', params: { uri: 'test://1' } }, dana)
    await (await read(1)).text()
    const refused = await read(2)
    assert.equal(refused.status, 429)
    assert.ok(Number(refused.headers.get('retry-after')) > 3590)
    assert.equal((await answerOf(refused)).error.data.reason, 'rate_limited')
    await done()
  })
})
