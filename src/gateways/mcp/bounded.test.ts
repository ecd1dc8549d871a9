import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, createServer, type IncomingMessage, type OutgoingHttpHeaders, request as open, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { answerOf, eventually, type Harness, harness, initialize, type Json, listen, openSession } from './harness.fixture.ts'

/** What the server does when a tool of this name is called. All of it harms nobody else (rule 11). */
type Behaviour = (response: ServerResponse, id: Json) => void

const MB = 1024 * 1024
/** The clients and the server are in the same process, so this is loose; what is not bounded grows by gigabytes. */
const FLAT = 256 * MB

// What is kept is of interest, not what waits to be collected.
setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

const json = (value: unknown) => JSON.stringify({ jsonrpc: '2.0', ...(value as object) })
const event = (value: unknown) => `data: ${json(value)}\n\n`
const progress = event({ method: 'notifications/progress', params: { progressToken: 1, progress: 1, message: 'x'.repeat(16 * 1024) } })
const result = (id: Json) => ({ id, result: { content: [{ type: 'text', text: 'done' }] } })

/** Answers that are being written without end. */
const floods = new Set<ServerResponse>()

/** Writes as fast as the other side reads, until it goes away. */
function flood(response: ServerResponse, chunk: string): void {
  floods.add(response)
  response.on('close', () => floods.delete(response))
  const more = () => {
    while (!response.destroyed && response.write(chunk)) {}
  }
  response.on('drain', more).on('error', () => {})
  more()
}
const stream = (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/event-stream' })

const BEHAVIOURS: Readonly<Record<string, Behaviour>> = {
  ok: (response, id) => response.writeHead(200, { 'content-type': 'application/json' }).end(json(result(id))),
  never() {},
  twice: (response, id) => stream(response).end(event(result(id)) + event({ id, result: { content: [], second: true } })),
  endless: (response) => flood(stream(response), progress),
  'endless-after': (response, id) => {
    stream(response).write(event(result(id)))
    flood(response, progress)
  },
  'endless-body': (response) => flood(response.writeHead(200, { 'content-type': 'application/json' }), 'x'.repeat(64 * 1024)),
  'endless-line': (response) =>
    flood(
      stream(response).on('pipe', () => {}),
      `data: ${'x'.repeat(64 * 1024)}`.repeat(1).replace(/\n/g, ''),
    ),
  garbage: (response, id) => stream(response).end(`${'data: {nonsense\n\n'.repeat(2_000)}${event(result(id))}`),
  asks: (response, id) =>
    stream(response).end(Array.from({ length: 1_000 }, (_, i) => event({ id: i, method: 'ping' })).join('') + event(result(id))),
  headers: (response, id) => response.writeHead(200, { 'content-type': 'application/json', 'x-long': 'x'.repeat(64 * 1024) }).end(json(result(id))),
}

/** A legacy server over HTTP. `sockets` are those that are open to it. */
async function upstream() {
  const sockets = new Set<Socket>()
  const told: Json[] = []
  let greet: Behaviour | undefined
  const server = createServer({ maxHeaderSize: 256 * 1024 }, async (request, response) => {
    if (request.method === 'GET') return flood(stream(response), progress)
    let text = ''
    for await (const chunk of request) text += chunk
    const message = text === '' ? {} : JSON.parse(text)
    const answer = (value: object, headers: OutgoingHttpHeaders = {}) =>
      response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(json({ id: message.id, result: value }))
    if (message.method === 'initialize') {
      if (greet) return greet(response, message.id)
      return answer(
        { protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 'x', version: '1' } },
        { 'mcp-session-id': 's' },
      )
    }
    if (message.method === 'tools/list') return answer({ tools: Object.keys(BEHAVIOURS).map((name) => ({ name, inputSchema: { type: 'object' } })) })
    if (message.method === 'tools/call') return BEHAVIOURS[message.params.name]!(response, message.id)
    told.push(message)
    response.writeHead(202).end()
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
  })
  const url = await listen(server)
  return {
    url,
    sockets,
    told,
    greetBy: (behaviour: string | undefined) => {
      greet = behaviour === undefined ? undefined : BEHAVIOURS[behaviour]
    },
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}

let calls = 0
const call = (name: string, args: unknown = {}) => ({
  jsonrpc: '2.0',
  id: `call ${++calls}`,
  method: 'tools/call',
  params: { name, arguments: args },
})

const SILENCE_MS = 3_000

/** The gateway's part of it is being built. */

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
