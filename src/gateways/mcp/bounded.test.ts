import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, type IncomingMessage, type OutgoingHttpHeaders, request as open } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { call, floods, MB, upstream } from './bounded.fixture.ts'
import { answerOf, eventually, type Harness, harness, initialize, openSession } from './harness.fixture.ts'

/** The clients and the server are in the same process, so this is loose; what is not bounded grows by gigabytes. */
const FLAT = 256 * MB

// What is kept is of interest, not what waits to be collected.
setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

const SILENCE_MS = 3_000

describe('what one client or server does harms nobody else', () => {
  let given: Harness
  let server: Awaited<ReturnType<typeof upstream>>
  let dana: Record<string, string>
  let noisy: Record<string, string>

  before(async () => {
    server = await upstream()
    given = await harness({
      role: { allow: [{ mcp: 'any', tools: 'any' }] },
      servers: { web: { url: server.url }, other: { url: server.url } },
      limits: { silenceMs: SILENCE_MS, drainMs: 200, bodyMs: 2_500, tellMs: 300, startMs: 10_000, lineBytes: MB },
    })
    dana = await openSession(given, 'web', { 'x-test-as': 'dana' })
    noisy = await openSession(given, 'web', { 'x-test-as': 'noisy' })
  })
  after(async () => {
    await given.close()
    server.close()
  })

  /** Another client's call, served at once: the slowest of five in ms. */
  const servedMeanwhile = async (): Promise<void> => {
    for (let i = 0; i < 5; i++) {
      const begun = performance.now()
      const { result, error } = await answerOf(await given.post('web', call('ok'), dana))
      assert.equal(result?.content[0].text, 'done', JSON.stringify(error))
      // Milliseconds where nothing else runs, seconds on a busy machine: client, gateway and server share this process.
      assert.ok(performance.now() - begun < 20_000, `another client waited ${Math.round(performance.now() - begun)} ms`)
    }
  }
  /** Runs it and says by how many bytes the process has grown since, most of what it had at any time. */
  const grown = async (act: () => Promise<void>): Promise<number> => {
    const size = () => {
      gc()
      const { heapUsed, external } = process.memoryUsage()
      return heapUsed + external
    }
    const begin = size()
    let most = begin
    const watch = setInterval(() => {
      most = Math.max(most, size())
    }, 1_000)
    try {
      await act()
    } finally {
      clearInterval(watch)
    }
    return most - begin
  }
  const agent = new Agent({ keepAlive: false, maxSockets: 2_000 })
  after(() => agent.destroy())

  /** A request by hand, of which the client may leave out what it likes. */
  const raw = (headers: OutgoingHttpHeaders, more: { readonly method?: string; readonly body?: string } = {}) => {
    const request = open(`${given.base}web`, {
      method: more.method ?? 'POST',
      agent,
      headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...noisy, ...headers },
    })
    request.on('error', () => {})
    if (more.body === undefined) request.flushHeaders()
    else request.end(more.body)
    return request
  }
  const statusOf = async (request: ReturnType<typeof raw>): Promise<number> => {
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    response.resume()
    return response.statusCode ?? 0
  }

  test('rule 11: posts of a gigabyte are refused while they come, and memory stays flat (peers R11, R12)', async () => {
    const chunk = Buffer.alloc(64 * 1024, 'x')
    const growth = await grown(async () => {
      const statuses = Array.from({ length: 8 }, async (_, i) => {
        const request = raw(i % 2 ? { 'transfer-encoding': 'chunked' } : { 'content-length': 1024 * MB })
        let sent = 0
        const more = () => {
          while (!request.destroyed && sent < 1024 * MB) {
            sent += chunk.length
            if (!request.write(chunk)) return
          }
        }
        request.on('drain', more)
        more()
        const status = await statusOf(request)
        request.destroy()
        return status
      })
      await servedMeanwhile()
      assert.deepEqual(await Promise.all(statuses), Array(8).fill(413))
    })
    assert.ok(growth < FLAT, `grew by ${growth / MB} MB`)
  })

  test('rule 11: clients that send a byte and wait are let go, and others do not wait for them', async () => {
    const slow = Array.from({ length: 200 }, () => {
      const request = raw({ 'content-length': 1000 })
      request.write('{')
      return request
    })
    const statuses = Promise.all(slow.map(statusOf))
    await servedMeanwhile()
    assert.deepEqual(new Set(await statuses), new Set([408]))
    for (const request of slow) request.destroy()
  })

  test('rule 11: a thousand session ids that nobody has cost nothing and open nothing (peers R51)', async () => {
    const before = given.gateway.sessions
    const growth = await grown(async () => {
      for (let round = 0; round < 4; round++) {
        const answers = await Promise.all(
          Array.from({ length: 250 }, (_, i) =>
            given.post('web', { jsonrpc: '2.0', id: 1, method: 'ping' }, { ...noisy, 'mcp-session-id': `guess-${round}-${i}` }),
          ),
        )
        for (const answer of answers) {
          assert.equal(answer.status, 404)
          await answer.arrayBuffer()
        }
        if (round === 2) await servedMeanwhile()
      }
    })
    assert.equal(given.gateway.sessions, before)
    assert.ok(growth < FLAT, `grew by ${growth / MB} MB`)
  })

  test('rule 11: headers over the limit are refused by themselves', async () => {
    assert.equal(await statusOf(raw({ 'x-long': 'x'.repeat(64 * 1024) }, { body: '{}' })), 431)
    await servedMeanwhile()
  })

  test('rule 11: a server that never answers has failed after its time, and holds up nobody (peers R95)', async () => {
    const begun = performance.now()
    const waiting = Array.from({ length: 50 }, () => given.post('web', call('never'), noisy).then(answerOf))
    await servedMeanwhile()
    for (const { error } of await Promise.all(waiting)) assert.equal(error.data.reason, 'upstream_timeout')
    // The clocks of a machine are kept right a little at a time.
    assert.ok(performance.now() - begun >= SILENCE_MS - 100)
  })

  test('rule 11: of two answers to one request the client gets the first', async () => {
    const text = await (await given.post('web', call('twice'), noisy)).text()
    assert.equal(text.match(/"id":"call/g)?.length, 1)
    assert.doesNotMatch(text, /second/)
    await servedMeanwhile()
  })

  test('rule 11: a stream without end goes on while its client reads, and memory stays flat when it does not (peers R95)', async () => {
    const growth = await grown(async () => {
      // Nobody reads these: what the server writes must wait at the server.
      const unread = await Promise.all(
        Array.from({ length: 10 }, async () => {
          const request = raw({}, { body: JSON.stringify(call('endless')) })
          const [response] = (await once(request, 'response')) as [IncomingMessage]
          response.pause()
          return request
        }),
      )
      await servedMeanwhile()
      const reader = await given.post('web', call('endless'), noisy)
      let size = 0
      const begun = performance.now()
      for await (const chunk of reader.body!) {
        size += chunk.length
        if (performance.now() - begun > 1.5 * SILENCE_MS) break
      }
      assert.ok(size > MB)
      await servedMeanwhile()
      for (const request of unread) request.destroy()
    })
    assert.ok(growth < FLAT, `grew by ${growth / MB} MB`)
    await eventually(() => given.guard.open === 0, 'all permits are settled')
  })

  test('rule 11: an answer of one line without end is cut at its limit', async () => {
    for (const name of ['endless-body', 'endless-line']) {
      const growth = await grown(async () => {
        const text = await given
          .post('web', call(name), noisy)
          .then(async (response) => {
            let size = 0
            for await (const chunk of response.body!) {
              size += chunk.length
              if (size > 64 * MB) break
            }
            return size
          })
          .catch(() => 0)
        assert.ok(name === 'endless-body' || text < 4 * MB, 'no more of an event is passed on than an event may be long')
        await servedMeanwhile()
      })
      assert.ok(growth < FLAT, `${name} grew by ${growth / MB} MB`)
    }
  })

  test('rule 11: long headers of a server are a failure of that server', async () => {
    const { error } = await answerOf(await given.post('web', call('headers'), noisy))
    assert.equal(error.data.reason, 'upstream_unavailable')
    await servedMeanwhile()
  })

  test('rule 11: a client that opens streams and reads nothing keeps no more than its streams', async () => {
    const growth = await grown(async () => {
      const streams = await Promise.all(
        Array.from({ length: 8 }, async () => {
          const request = raw({ accept: 'text/event-stream' }, { method: 'GET' })
          request.end()
          const [response] = (await once(request, 'response')) as [IncomingMessage]
          response.pause()
          return { request, status: response.statusCode }
        }),
      )
      assert.equal(streams.filter(({ status }) => status === 200).length, 4)
      assert.equal(streams.filter(({ status }) => status === 429).length, 4)
      await servedMeanwhile()
      for (const { request } of streams) request.destroy()
    })
    assert.ok(growth < FLAT, `grew by ${growth / MB} MB`)
  })

  test('rule 11: a server that goes on after its answer is let go', async () => {
    await eventually(() => floods.size === 0, 'what was before is over')
    for (let i = 0; i < 5; i++) assert.match(await (await given.post('web', call('endless-after'), noisy)).text(), /done/)
    await servedMeanwhile()
    await eventually(() => floods.size === 0, 'it can write no more')
  })

  test('rule 11: nonsense is not passed on, and does not fill the log', async () => {
    const before = given.logs.length
    const text = await (await given.post('web', call('garbage'), noisy)).text()
    assert.match(text, /done/)
    assert.doesNotMatch(text, /nonsense/)
    await servedMeanwhile()
    assert.ok(given.logs.length - before <= 50, `${given.logs.length - before} lines of log`)
  })

  test('rule 11: a server that asks and asks is answered at the speed at which it listens', async () => {
    const growth = await grown(async () => {
      const answered = given.post('web', call('asks'), noisy).then((response) => response.text())
      await servedMeanwhile()
      assert.match(await answered, /done/)
    })
    assert.ok(server.sockets.size < 600, `${server.sockets.size} connections at once to tell it`)
    assert.ok(growth < FLAT, `grew by ${growth / MB} MB`)
  })

  test('rule 11: a handshake that is answered by an endless stream ends', async () => {
    server.greetBy('endless')
    try {
      const begun = performance.now()
      const answer = await Promise.race([
        given.post('other', initialize(), { 'x-test-as': 'noisy' }).then(answerOf),
        new Promise<undefined>((late) => setTimeout(() => late(undefined), 20_000).unref()),
      ])
      assert.ok(answer !== undefined, 'it is still open')
      assert.equal(answer.error?.data.reason, 'too_large')
      assert.ok(performance.now() - begun < 20_000)
    } finally {
      server.greetBy(undefined)
    }
    await servedMeanwhile()
  })
})
