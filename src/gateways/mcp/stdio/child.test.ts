import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { manualClock, systemClock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { answerOf, eventually, type Harness, harness, initialize, type Json, openSession } from '../harness.fixture.ts'
import { MCP_LIMITS } from '../limits.ts'
import { Child } from './child.ts'
import { isolator, probe } from './isolation.ts'

const folder = mkdtempSync(join(tmpdir(), 'chaperone-child-'))
chmodSync(folder, 0o755)
after(() => rmSync(folder, { recursive: true, force: true }))

/** A stdio server in a few lines; tools do what their name says. */
const script = join(folder, 'server.mjs')
writeFileSync(
  script,
  `
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { readFileSync } from 'node:fs'
const mode = process.argv[2]
if (mode === 'dies') process.exit(3)
if (mode === 'stubborn') process.on('SIGTERM', () => {}), setInterval(() => {}, 1000)
if (mode === 'banner') console.log('Server running on stdio')
const say = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\\n')
const later = []
createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line)
  if (method === 'initialize') return say({ id, result: { protocolVersion: params.protocolVersion, capabilities: {}, serverInfo: { name: 's', version: '1' } } })
  if (method === 'server/discover') return say({ id, error: { code: -32601, message: 'Method not found' } })
  if (method === 'notifications/cancelled') return say({ method: 'notifications/message', params: { level: 'info', data: { cancelled: params.requestId } } })
  if (method !== 'tools/call') return id !== undefined && say({ id, result: { method } })
  const text = (value) => say({ id, result: { content: [{ type: 'text', text: JSON.stringify(value) }] } })
  const read = (path) => { try { return readFileSync(path, 'utf8') } catch (error) { return error.code } }
  switch (params.name) {
    case 'echo': return process.stdout.write('{"result":{"line":' + JSON.stringify(line) + ',"n":12345678901234567890},"jsonrpc":"2.0","id":' + id + '}\\n')
    case 'environment': return text(process.env)
    case 'whoami': return text({ uid: process.getuid(), cwd: process.cwd(), pid: process.pid })
    case 'read': return text(read(params.arguments.path))
    case 'progress': say({ method: 'notifications/progress', params: { progressToken: params._meta?.progressToken, progress: 1 } }); return text('done')
    case 'die': return process.exit(7)
    case 'hang': return
    case 'grandchild': return text(spawn(process.execPath, ['-e', 'setInterval(()=>{},1000)'], { stdio: 'ignore' }).pid)
    case 'pid': return text(process.pid)
    case 'twice': return process.stdout.write('{"jsonrpc":"2.0","id":' + id + ',"result":{"a":1},"id":' + (id + 1) + '}\\n')
    case 'foreign': say({ id: 4242, result: {} }); return text('ok')
    case 'ping': say({ id: 'p1', method: 'ping' }); later.push([id]); return
    case 'long': return process.stdout.write('x'.repeat(2 * 1024 * 1024))
    case 'later': later.push([id, params.arguments.n]); if (later.length === 3) for (const [to, n] of later.splice(0).reverse()) say({ id: to, result: { n } }); return
  }
}).on('line', (line) => {
  const { id, result } = JSON.parse(line)
  if (id === 'p1') say({ id: later.pop()[0], result: { pong: result } })
})
`,
)
chmodSync(script, 0o644)
const serve = (...args: string[]) => ({ command: [process.execPath, script, ...args] })
const call = (name: string, args: Json = {}, id: number | string = 1, more = {}) => ({
  jsonrpc: '2.0',
  id,
  method: 'tools/call',
  params: { name, arguments: args, ...more },
})
const allowAll = { allow: [{ mcp: 'any', tools: 'any' }] }
const alive = (pid: number) => {
  try {
    process.kill(pid, 0)
    // A zombie that its parent has not collected yet is gone.
    return process.platform !== 'linux' || !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
const means = await probe()

describe('a stdio server under supervision', () => {
  let given: Harness
  before(async () => {
    given = await harness({
      role: allowAll,
      servers: {
        s: { ...serve(), isolation: 'none', env: { GREETING: 'hello', TOKEN: { secret: 'token' } } },
        dies: { ...serve('dies'), isolation: 'none' },
        banner: { ...serve('banner'), isolation: 'none' },
        own: { ...serve(), isolation: 'none', share: 'session' },
      },
      secrets: { token: 'the-secret' },
      limits: { lineBytes: 1024 * 1024, killMs: 500, termMs: 50, probeMs: 5_000 },
    })
  })
  after(() => given.close())
  const text = async (response: Response): Promise<Json> => JSON.parse((await answerOf(response)).result.content[0].text)

  test('rule 10: the message goes through as it was written but for its id, and so does the answer', async () => {
    const session = await openSession(given, 's')
    const sent =
      '{"params":{"name":"echo","x":1.0,\n "arguments":{"n":12345678901234567890}},"id": "my \\"id\\"","method":"tools/call","jsonrpc":"2.0"}'
    const stream = await (await given.post('s', sent, session)).text()
    const answer = /^data: (.*)$/m.exec(stream)![1]!
    assert.equal(answer.slice(answer.indexOf(',"n":')), ',"n":12345678901234567890},"jsonrpc":"2.0","id":"my \\"id\\""}')
    assert.equal(JSON.parse(answer).result.line, sent.replace('\n', ' ').replace('"my \\"id\\""', JSON.parse(JSON.parse(answer).result.line).id))
  })

  test('rule 5: the child sees the environment that its document names, PATH and a HOME of its own (peers R89)', async () => {
    process.env.CHAPERONE_TEST_SECRET = 'must not be inherited'
    const environment = await text(await given.post('s', call('environment'), await openSession(given, 's')))
    delete process.env.CHAPERONE_TEST_SECRET
    assert.deepEqual(Object.keys(environment).sort(), ['GREETING', 'HOME', 'PATH', 'TOKEN'])
    assert.equal(environment.TOKEN, 'the-secret')
    assert.equal(JSON.stringify(given.records).includes('the-secret'), false)
    assert.equal(JSON.stringify(given.logs).includes('the-secret'), false)
  })

  test('answers that come in another order reach those who asked', async () => {
    const session = await openSession(given, 's')
    const answers = await Promise.all(['a', 'b', 'c'].map((id, n) => given.post('s', call('later', { n }, id), session).then(answerOf)))
    assert.deepEqual(
      answers.map(({ id, result }) => [id, result.n]),
      [
        ['a', 0],
        ['b', 1],
        ['c', 2],
      ],
    )
  })

  test("progress comes on the request's own stream, under the client's token", async () => {
    const session = await openSession(given, 's')
    const stream = await (await given.post('s', call('progress', {}, 1, { _meta: { progressToken: 'tok' } }), session)).text()
    assert.match(stream, /"progressToken":"tok"/)
    assert.match(stream, /"id":1/)
  })

  test('a cancellation reaches the child under its own id, once', async () => {
    const session = await openSession(given, 's')
    const stop = new AbortController()
    const stream = await fetch(`${given.base}s`, { headers: { ...session, accept: 'text/event-stream' }, signal: stop.signal })
    const reader = stream.body!.getReader()
    const hanging = given.post('s', call('hang', {}, 'H'), session)
    await eventually(() => given.of('action.intent').at(-1)?.action?.summary === 'tools/call hang', 'it hangs')
    assert.equal((await given.post('s', { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'H' } }, session)).status, 202)
    assert.match(Buffer.from((await reader.read()).value!).toString(), /"cancelled":\d+/)
    stop.abort()
    await fetch(`${given.base}s`, { method: 'DELETE', headers: session })
    assert.equal((await hanging).status, 404)
  })

  test('a ping of the server is answered', async () => {
    assert.deepEqual((await answerOf(await given.post('s', call('ping'), await openSession(given, 's')))).result, { pong: {} })
  })

  test('an answer that could be read in two ways, or that answers nobody, is not passed on', async () => {
    const session = await openSession(given, 's')
    assert.equal((await answerOf(await given.post('s', call('twice'), session))).error.data.reason, 'upstream_unavailable')
    assert.equal((await answerOf(await given.post('s', call('foreign'), session))).result.content[0].text, '"ok"')
  })

  test('a banner on stdout disturbs nobody', async () => {
    assert.equal((await answerOf(await given.post('banner', call('foreign'), await openSession(given, 'banner')))).result.content[0].text, '"ok"')
  })

  test('a child that ends answers all who wait, at once (peers R88)', async () => {
    const session = await openSession(given, 's')
    const waiting = [1, 2, 3].map((id) => given.post('s', call('hang', {}, id), session))
    await eventually(() => given.guard.open === 3, 'three hang')
    const fatal = await answerOf(await given.post('s', call('die', {}, 9), session))
    assert.equal(fatal.error.data.reason, 'upstream_unavailable')
    for (const response of waiting) assert.equal((await answerOf(await response)).error.data.reason, 'upstream_unavailable')
    assert.equal(given.of('action.outcome').at(-1)?.outcome?.status, 'unknown')
    assert.equal((await given.post('s', call('pid'), session)).status, 404)
    assert.equal(given.of('server.stopped').at(-1)?.data?.code, 7)
    await openSession(given, 's')
  })

  test('rule 11: a line without end ends the child, not us', async () => {
    const session = await openSession(given, 's')
    const { error } = await answerOf(await given.post('s', call('long'), session))
    assert.match(error.message, /has ended|wrote a line over/)
  })

  test('with `share: session` each has its own, and all that a child started ends with it (peers R82, R86)', async () => {
    const session = await openSession(given, 'own')
    const [pid, grandchild] = [
      await text(await given.post('own', call('pid'), session)),
      await text(await given.post('own', call('grandchild'), session)),
    ]
    const other = await text(await given.post('own', call('pid'), await openSession(given, 'own')))
    assert.notEqual(pid, other)
    await fetch(`${given.base}own`, { method: 'DELETE', headers: session })
    await eventually(() => !alive(pid) && !alive(grandchild), 'both are gone')
    assert.ok(alive(other))
  })

  test('rule 6: a lock ends the child', async () => {
    const session = await openSession(given, 's', { 'x-test-as': 'locked' })
    const pid = await text(await given.post('s', call('pid'), session))
    const hanging = given.post('s', call('hang', {}, 2), session)
    await eventually(() => given.guard.open === 1, 'it hangs')
    given.cut('locked')
    assert.equal((await answerOf(await hanging)).error.data.reason, 'locked')
    await eventually(() => !alive(pid), 'the child is gone')
  })

  test('a server that keeps ending is started more and more seldom, and says so', async () => {
    const first = await answerOf(await given.post('dies', initialize()))
    assert.match(first.error.message, /has ended/)
    await answerOf(await given.post('dies', initialize()))
    const third = await answerOf(await given.post('dies', initialize()))
    assert.match(third.error.message, /keeps ending/)
    assert.equal(given.of('action.outcome').at(-1)?.outcome?.status, 'failed')
  })
})

describe('how long a session lasts', () => {
  test('one that nobody uses ends with its child, an open stream or not (peers R85)', async (t) => {
    const clock = manualClock(1_000_000)
    const given = await harness({ role: allowAll, servers: { s: { ...serve(), isolation: 'none' } }, clock })
    t.after(() => given.close())
    const session = await openSession(given, 's')
    const pid = JSON.parse((await answerOf(await given.post('s', call('pid'), session))).result.content[0].text)
    const stream = await fetch(`${given.base}s`, { headers: { ...session, accept: 'text/event-stream' } })
    clock.advance(MCP_LIMITS.idleMs - 60_000)
    assert.equal((await given.post('s', { jsonrpc: '2.0', id: 2, method: 'ping' }, session)).status, 200)
    clock.advance(MCP_LIMITS.idleMs - 60_000)
    assert.ok(alive(pid), 'it was used')
    clock.advance(90_000)
    assert.match(await stream.text(), /idle for too long/)
    await eventually(() => !alive(pid), 'the child is gone')
    assert.equal((await given.post('s', call('pid'), session)).status, 404)
    assert.equal(given.gateway.sessions, 0)
  })

  test('a server whose document changed is another server: what ran by the old one ends', async (t) => {
    const given = await harness({ role: allowAll, servers: { s: { ...serve(), isolation: 'none' } } })
    t.after(() => given.close())
    const session = await openSession(given, 's')
    const pid = JSON.parse((await answerOf(await given.post('s', call('pid'), session))).result.content[0].text)
    given.setServer('s', { ...serve('banner'), isolation: 'none' })
    assert.equal((await given.post('s', call('pid'), session)).status, 404)
    await eventually(() => !alive(pid), 'the old child is gone')
  })

  test('rule 6: a permit that the role no longer gives is cut while its call is under way', async (t) => {
    const given = await harness({ role: allowAll, servers: { s: { ...serve(), isolation: 'none' } } })
    t.after(() => given.close())
    const session = await openSession(given, 's')
    const hanging = given.post('s', call('hang'), session)
    const calling = () => given.of('action.intent').at(-1)?.action?.operation === 'tools/call'
    await eventually(() => calling() && given.guard.open === 1, 'it hangs')
    given.setRole({ allow: [{ mcp: 's', tools: ['echo'] }] })
    assert.match(JSON.stringify(await answerOf(await hanging)), /"reason":"no_rule"/)
    assert.equal(given.of('action.outcome').at(-1)?.outcome?.status, 'unknown')
  })

  test('rule 6: who may not use the server any more keeps no child, even if nothing is asked of it', async (t) => {
    const clock = manualClock(1_000_000)
    const given = await harness({ role: allowAll, servers: { s: { ...serve(), isolation: 'none' } }, clock })
    t.after(() => given.close())
    const session = await openSession(given, 's')
    const pid = JSON.parse((await answerOf(await given.post('s', call('pid'), session))).result.content[0].text)
    given.setRole({ allow: [] })
    clock.advance(30_000)
    await eventually(() => !alive(pid), 'the child is gone')
  })

  test('what waits long is kept open with comments', async (t) => {
    const clock = manualClock(1_000_000)
    const given = await harness({ role: allowAll, servers: { s: { ...serve(), isolation: 'none' } }, clock })
    t.after(() => given.close())
    const session = await openSession(given, 's')
    const hanging = given.post('s', call('hang'), session)
    await eventually(() => given.of('action.intent').at(-1)?.action?.summary === 'tools/call hang', 'it hangs')
    await clock.armed(MCP_LIMITS.keepAliveMs)
    clock.advance(MCP_LIMITS.keepAliveMs)
    const response = await hanging
    assert.equal(response.headers.get('content-type'), 'text/event-stream')
    const reader = response.body!.getReader()
    clock.advance(MCP_LIMITS.keepAliveMs)
    assert.equal(Buffer.from((await reader.read()).value!).toString(), ':\n\n')
  })

  test('closing ends every child', async () => {
    const given = await harness({ role: allowAll, servers: { s: { ...serve(), isolation: 'none', share: 'session' } } })
    const sessions = await Promise.all(Array.from({ length: 8 }, () => openSession(given, 's')))
    const pids = await Promise.all(
      sessions.map(async (session) => Number(JSON.parse((await answerOf(await given.post('s', call('pid'), session))).result.content[0].text))),
    )
    assert.equal(new Set(pids).size, 8)
    await given.close()
    assert.deepEqual(pids.filter(alive), [])
  })
})

describe('how a child ends', () => {
  const started = async (mode: string, clock = systemClock) => {
    const launch = await isolator({ dataDir: folder }).prepare(
      { id: mode, name: mode },
      { command: [process.execPath, script, mode], isolation: 'none', read: [], write: [], network: true },
    )
    const lines: string[] = []
    const child = new Child({
      name: mode,
      launch,
      env: {},
      clock,
      limits: MCP_LIMITS,
      line: (line) => lines.push(line),
      ended: (why) => lines.push(`ended: ${why.message}`),
    })
    child.answer(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params: {} }))
    await eventually(() => lines.length > 0, 'it answers')
    return { child, lines }
  }

  test('one that reads its stdin ends when that is closed, before any signal', async () => {
    const { child } = await started('plain', manualClock(0))
    const gone = child.stop(new ChaperoneError('draining', 'stop'))
    await gone
    assert.equal(alive(child.pid!), false)
  })

  test('one that hears no signal is killed after five seconds', async () => {
    const clock = manualClock(0)
    const { child } = await started('stubborn', clock)
    const gone = child.stop(new ChaperoneError('draining', 'stop'))
    clock.advance(MCP_LIMITS.killMs - 1)
    assert.ok(alive(child.pid!))
    clock.advance(1)
    await gone
    assert.equal(alive(child.pid!), false)
  })

  test('one whose program is not there says so', async () => {
    await assert.rejects(
      isolator({ dataDir: folder }).prepare(
        { id: 'x', name: 'x' },
        { command: ['no-such-program-here'], isolation: 'none', read: [], write: [], network: true },
      ),
      (error: unknown) => error instanceof ChaperoneError && error.code === 'upstream_unavailable',
    )
  })

  test('no child outlives a Chaperone that was killed', { skip: means.setpriv === undefined && 'needs setpriv of util-linux' }, async () => {
    const parent = spawn(process.execPath, [
      '--input-type=module',
      '-e',
      `import { isolator } from ${JSON.stringify(new URL('isolation.ts', import.meta.url).href)}
       import { Child } from ${JSON.stringify(new URL('child.ts', import.meta.url).href)}
       import { systemClock } from ${JSON.stringify(new URL('../../../clock.ts', import.meta.url).href)}
       import { MCP_LIMITS } from ${JSON.stringify(new URL('../limits.ts', import.meta.url).href)}
       for (const isolation of ${JSON.stringify(['none', ...(means.user.works ? ['user'] : []), ...(means.bubblewrap.works ? ['bubblewrap'] : [])])}) {
         const launch = await isolator({ dataDir: '/nowhere' }).prepare({ id: isolation, name: isolation }, { command: [process.execPath, ${JSON.stringify(script)}, 'stubborn'], isolation, read: [], write: [], network: true })
         const child = new Child({ name: isolation, launch, env: {}, clock: systemClock, limits: MCP_LIMITS, line: () => console.log(child.pid), ended: (why) => console.log(why) })
         child.answer(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params: {} }))
       }`,
    ])
    let out = ''
    parent.stdout.on('data', (chunk) => {
      out += chunk
    })
    const wanted = 1 + Number(means.user.works) + Number(means.bubblewrap.works)
    await eventually(() => out.trim().split('\n').length === wanted && /^[\d\s]+$/.test(out), 'the children are up')
    const pids = out.trim().split('\n').map(Number)
    const mine = () => readdirSync('/proc').filter((name) => /^\d+$/.test(name) && alive(Number(name)) && readCommand(name).includes(script)).length
    assert.ok(mine() >= wanted)
    parent.kill('SIGKILL')
    await once(parent, 'exit')
    await eventually(() => pids.every((pid) => !alive(pid)) && mine() === 0, 'all are gone')
  })
})

const readCommand = (pid: string) => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}
