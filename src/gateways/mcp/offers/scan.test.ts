import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Permit } from '../../../access/types.ts'
import type { Draft } from '../../../audit/record.ts'
import { flagsOfDefinition } from '../../../catalog/flags.ts'
import { mcpServerSpec } from '../../../catalog/mcp-server.ts'
import { definitionOf, MOST_PINS } from '../../../catalog/pins.ts'
import { systemClock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { LiveSession } from '../../../identity/types.ts'
import { MCP_LIMITS, type McpLimits } from '../limits.ts'
import type { ServersParts } from '../servers.ts'
import { isolator } from '../stdio/isolation.ts'
import { proposeEffects } from './propose.ts'
import { makeScanner } from './scan.ts'

const FILESYSTEM = fileURLToPath(new URL('../../../../node_modules/@modelcontextprotocol/server-filesystem/dist/index.js', import.meta.url))

/** A scanner over the real parts, and what it recorded. The permit would be the guard's; here only its signal matters. */
function scanner(
  t: TestContext,
  more: { readonly secrets?: Record<string, string>; readonly logins?: ServersParts['logins']; readonly limits?: Partial<McpLimits> } = {},
) {
  const dataDir = mkdtempSync(join(tmpdir(), 'scan-'))
  mkdirSync(join(dataDir, 'work'))
  t.after(() => rmSync(dataDir, { recursive: true, force: true }))
  const records: Draft[] = []
  const logs: { what: string; facts: Record<string, unknown> }[] = []
  const controller = new AbortController()
  const permit = { id: 'per_1', signal: controller.signal } as unknown as Permit
  const session = {
    id: 'ses_1',
    principal: { identityId: 'usr_1', name: 'dana', kind: 'user', credentialId: 'crd_1', chain: [{ identity: 'usr_1' }] },
  } as unknown as LiveSession
  const scan = makeScanner({
    audit: {
      async append(draft) {
        records.push(draft)
        return { id: 'rec_1', seq: records.length }
      },
      addSecrets: () => {},
    },
    reveal: async (name) => more.secrets?.[name] ?? '',
    logins: more.logins,
    isolator: isolator({ dataDir }),
    clock: systemClock,
    limits: { ...MCP_LIMITS, ...more.limits },
    log: (what, facts) => void logs.push({ what, facts }),
  })
  const look = (spec: object, applied = false) =>
    scan({ server: { resource: { kind: 'mcp', id: 'res_x', name: 'x', labels: {} }, spec: mcpServerSpec.parse(spec) }, applied, session, permit })
  return { look, records, controller, dataDir, logs }
}

/** A stdio server of a few lines: answers are what `answers` (a JS object literal of functions by method) gives. */
function script(dataDir: string, answers: string): string[] {
  const file = join(dataDir, `${Math.random()}.mjs`)
  writeFileSync(
    file,
    `import { createInterface } from 'node:readline'
const say = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\\n')
const answers = { initialize: ({ protocolVersion }) => ({ protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'fake', version: '1' } }), ...(${answers}) }
createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params = {}, result, error } = JSON.parse(line)
  if (method === undefined) return answers.reply?.({ id, result, error }, say)
  if (id === undefined) return
  const answer = answers[method]?.bind(answers)
  if (!answer) return say({ id, error: { code: -32601, message: 'unknown' } })
  const value = answer(params, say, id)
  if (value !== undefined) say({ id, result: value })
})
`,
  )
  return [process.execPath, file]
}

describe('a look at a server', () => {
  test('server-filesystem: fourteen tools, proposals as it says itself, nothing to flag', async (t) => {
    const { look, records, dataDir } = scanner(t)
    const { listed, about, more } = await look({ command: [process.execPath, FILESYSTEM, join(dataDir, 'work')], isolation: 'none' })
    assert.equal(about.name, 'secure-filesystem-server')
    assert.equal(more, false)
    assert.deepEqual(new Set(listed.map(({ kind }) => kind)), new Set(['tool']))
    assert.equal(listed.length, 14)
    assert.deepEqual(
      listed.flatMap(({ kind, value }) => flagsOfDefinition(kind, value)),
      [],
    )
    const proposal = (name: string) => proposeEffects(listed.find((one) => one.name === name)!.value)
    assert.deepEqual(proposal('write_file').effects.slice(0, 2), ['write', 'destroy'])
    assert.equal(proposal('read_text_file').from, 'annotations')
    assert.equal(proposal('read_text_file').effects[0], 'read')

    assert.deepEqual(
      records.map(({ type }) => type),
      ['server.started', 'server.listed', 'server.stopped'],
    )
    const record = records.find(({ type }) => type === 'server.listed')!
    assert.deepEqual(record.data, { server: { id: 'res_x', name: 'x' }, version: '2025-11-25', tools: 14, prompts: 0, templates: 0, more: false })
    assert.equal(record.actor?.name, 'dana')
    // A process of its own: not under the id, nor as the user, of the one that serves people.
    assert.notEqual((records[0]!.data as { server: { id: string } }).server.id, 'res_x')
  })

  test('what the server asks meanwhile is answered by nobody, pages are followed, and the process is gone after', async (t) => {
    const { look, records, dataDir } = scanner(t)
    const command = script(
      dataDir,
      `{
        heard: {},
        // The last page waits for the three answers, in whatever order they come.
        done(say) {
          const { heard, waits } = this
          if (waits && Object.keys(heard).length === 3)
            say({ id: waits, result: { tools: [{ name: 'two', inputSchema: {}, description: JSON.stringify([heard.r, heard.s, heard.p]) }, 7, { nameless: true }] } })
        },
        reply({ id, result, error }, say) {
          this.heard[id] = result ?? error.code
          this.done(say)
        },
        'tools/list'({ cursor }, say, id) {
          if (cursor === undefined) {
            for (const [id, method] of [['r', 'roots/list'], ['s', 'sampling/createMessage'], ['p', 'ping']]) say({ id, method, params: {} })
            return { tools: [{ name: 'one', inputSchema: {} }], nextCursor: 'two' }
          }
          this.waits = id
          this.done(say)
        },
      }`,
    )
    const { listed } = await look({ command, isolation: 'none' })
    assert.deepEqual(
      listed.map(({ name }) => name),
      ['one', 'two'],
    )
    assert.equal((listed[1]!.value as { description: string }).description, '[{"roots":[]},-32601,{}]')
    assert.equal(records.filter(({ type }) => type === 'server.stopped').length, 1)
  })

  test('instructions, prompts and templates are looked at too, each with the hash of a pin', async (t) => {
    const { look, dataDir } = scanner(t)
    const command = script(
      dataDir,
      `{
        initialize: ({ protocolVersion }) => ({ protocolVersion, capabilities: { tools: {}, prompts: {}, resources: {} }, serverInfo: { name: 'fake', version: '1' }, instructions: 'Be brief.' }),
        'tools/list': () => ({ tools: [] }),
        'prompts/list': () => ({ prompts: [{ name: 'review' }] }),
        'resources/templates/list': () => ({ resourceTemplates: [{ uriTemplate: 'note://{id}', name: 'note' }] }),
      }`,
    )
    const { listed } = await look({ command, isolation: 'none' })
    assert.deepEqual(
      listed.map(({ kind, name }) => `${kind} ${name}`),
      ['instructions ', 'prompt review', 'template note://{id}'],
    )
    for (const { definition } of listed) assert.match(definition.sha256, /^[0-9a-f]{64}$/)
  })

  test('rule 11: so many looks at once, and not more; they end with their permit', async (t) => {
    const { look, controller, dataDir } = scanner(t)
    const command = script(dataDir, `{ 'tools/list': () => undefined }`)
    const looks = Array.from({ length: 8 }, () => look({ command, isolation: 'none' }))
    await assert.rejects(look({ command, isolation: 'none' }), (error: ChaperoneError) => error.code === 'too_many')
    controller.abort(new ChaperoneError('locked', 'A lock stops this.'))
    for (const one of await Promise.allSettled(looks)) assert.equal(one.status, 'rejected')
    await assert.rejects(look({ command, isolation: 'none' }), (error: ChaperoneError) => error.code === 'locked', 'there is room again')
  })

  test('a server of the modern era only: the same definitions', async (t) => {
    const { look, dataDir } = scanner(t)
    const command = script(
      dataDir,
      `{
        initialize: undefined,
        'server/discover': () => ({ resultType: 'complete', supportedVersions: ['2026-07-28'], capabilities: { tools: {} }, serverInfo: { name: 'new', version: '3' }, instructions: 'Be new.', ttlMs: 0, cacheScope: 'public' }),
        'tools/list': ({ _meta }) => ({ resultType: 'complete', tools: [{ name: 'one', inputSchema: { type: 'object' }, 'x-more': 1.50 }], ttlMs: 0, cacheScope: 'public' }),
      }`,
    )
    const { listed } = await look({ command, isolation: 'none' })
    const value = { name: 'one', inputSchema: { type: 'object' }, 'x-more': 1.5 }
    assert.deepEqual(
      listed.map(({ kind, name, definition }) => [kind, name, definition.sha256]),
      [
        ['instructions', '', definitionOf('Be new.', '"Be new."').sha256],
        ['tool', 'one', definitionOf(value, JSON.stringify(value)).sha256],
      ],
    )
  })

  test('rule 11: lists without end, silence, garbage and an early end are errors or cut, and leave no process', async (t) => {
    const { look, records, dataDir } = scanner(t)
    const endless = await look({
      command: script(
        dataDir,
        `{ 'tools/list': ({ cursor = '0' }) => ({ tools: [{ name: 'tool' + cursor, inputSchema: {} }], nextCursor: String(Number(cursor) + 1) }) }`,
      ),
      isolation: 'none',
    })
    assert.equal(endless.more, true)
    assert.equal(endless.listed.length, 50)
    const many = `{ 'tools/list': () => ({ tools: Array.from({ length: 5000 }, (_, i) => ({ name: 'tool' + i, inputSchema: {} })) }) }`
    const crowd = await look({ command: script(dataDir, many), isolation: 'none' })
    assert.equal(crowd.more, true)
    assert.equal(crowd.listed.length, MOST_PINS)

    const wordy = `{ 'tools/list': () => ({ tools: Array.from({ length: 20 }, (_, i) => ({ name: 'tool' + i, description: 'x'.repeat(100_000), inputSchema: {} })) }) }`
    await look({ command: script(dataDir, wordy), isolation: 'none' })
    const record = records.findLast(({ type }) => type === 'server.listed')!
    assert.equal(record.bodies?.[0]?.bytes.length, 1024 * 1024)
    assert.match((record.data as { cut: { sha256: string } }).cut.sha256, /^[0-9a-f]{64}$/, 'cut visibly')

    const refuses = (answers: string, code: RegExp) =>
      assert.rejects(look({ command: script(dataDir, answers), isolation: 'none' }), (error: ChaperoneError) => code.test(error.code))
    await refuses(`{ 'tools/list': () => process.exit(3) }`, /upstream_unavailable/)
    await refuses(`{ initialize: () => ({}) }`, /upstream_unavailable|unsupported|malformed/)
    await refuses(`{ 'tools/list': () => ({ tools: 'none' }) }`, /upstream_unavailable/)
    await refuses(`{ 'tools/list': undefined }`, /upstream_unavailable/)
    await assert.rejects(look({ command: ['/no/such/program'], isolation: 'none' }), (error: ChaperoneError) => error.code === 'upstream_unavailable')
    const started = records.filter(({ type }) => type === 'server.started').length
    assert.equal(records.filter(({ type }) => type === 'server.stopped').length, started)
    assert.equal(records.filter(({ type }) => type === 'server.listed').length, 3, 'what could not be listed is not recorded as listed')
  })

  test('a server that prints what is not MCP, or nothing, is given up after its time to start, and the record says which', async (t) => {
    const { look, records, logs } = scanner(t, { limits: { probeMs: 30_000 } })
    const stopped = () => records.filter(({ type }) => type === 'server.stopped').map(({ data }) => data as { reason: string; message: string })
    // A shell, because it writes long before its second is over, also where Node takes that long to begin.
    const program = (text: string) => ({ command: ['/bin/sh', '-c', text], isolation: 'none', limits: { start: '1s' } })
    const banner = program(`i=0; while [ $i -lt 50 ]; do echo "Starting up... $i"; i=$((i + 1)); done; exec cat >/dev/null`)
    const began = performance.now()
    await assert.rejects(look(banner), { code: 'upstream_timeout', message: /did not answer for 1 s, and writes to stdout what is not MCP/ })
    assert.ok(performance.now() - began < 20_000, 'not as long as a probe may take')
    assert.deepEqual(
      stopped().map(({ reason }) => reason),
      ['garbage'],
      'one process: no other era was tried',
    )
    assert.equal(logs.filter(({ what }) => what === 'mcp.child.noise').length, 20)

    const flood = program('while echo noise noise noise; do sleep 0.02; done')
    await assert.rejects(look(flood), { message: /writes to stdout what is not MCP/ })
    assert.deepEqual(
      stopped().map(({ reason }) => reason),
      ['garbage', 'garbage'],
    )

    const since = performance.now()
    await assert.rejects(look(program('exec cat >/dev/null')), { code: 'upstream_timeout', message: /did not answer for 1 s\./ })
    assert.ok(performance.now() - since < 20_000, 'the probe takes no longer than a start may')
    for (const { reason, message } of stopped().slice(2)) {
      assert.equal(reason, 'not_started')
      assert.match(message, /did not answer for 1 s/)
    }
    assert.equal(stopped().length, 4)
  })

  test('rule 6: the look ends with the permit', async (t) => {
    const { look, controller, dataDir } = scanner(t)
    const looking = look({ command: script(dataDir, `{ 'tools/list': () => undefined }`), isolation: 'none' })
    setTimeout(() => controller.abort(new ChaperoneError('locked', 'A lock stops this.')), 300)
    await assert.rejects(looking, (error: ChaperoneError) => error.code === 'locked')
  })

  test('rule 5: a login at a server goes to that server as it is applied, never to what is only proposed under its name', async (t) => {
    const asked: string[] = []
    const logins = {
      of({ id }: { id: string }) {
        asked.push(id)
        throw new ChaperoneError('upstream_login_required', 'A login is needed.')
      },
    } as unknown as NonNullable<ServersParts['logins']>
    const { look } = scanner(t, { logins })
    const spec = { url: 'https://evil.example/mcp', auth: { oauth: {} } }
    for (const applied of [false, true])
      await assert.rejects(look(spec, applied), (error: ChaperoneError) => error.code === 'upstream_login_required')
    assert.equal(asked.length, 2)
    assert.notEqual(asked[0], 'res_x')
    assert.equal(asked[1], 'res_x')
  })

  test('over HTTP, with a sealed secret in a header', async (t) => {
    const seen: string[] = []
    const server = createServer(async (request, response) => {
      seen.push(String(request.headers['x-key']))
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      const text = Buffer.concat(chunks).toString()
      const { id, method } = text === '' ? { id: undefined, method: undefined } : (JSON.parse(text) as { id?: string; method: string })
      if (id === undefined) return void response.writeHead(202).end()
      const result =
        method === 'initialize'
          ? { protocolVersion: '2025-06-18', capabilities: { tools: {} }, serverInfo: { name: 'web', version: '2' } }
          : { tools: [{ name: 'search', inputSchema: { type: 'object' } }] }
      response.writeHead(200, { 'content-type': 'application/json', ...(method === 'initialize' ? { 'mcp-session-id': 'abc' } : {}) })
      response.end(JSON.stringify({ jsonrpc: '2.0', id, result }))
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.after(() => server.close())
    const { look, records } = scanner(t, { secrets: { key: 'hush' } })
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`
    const { listed, version } = await look({ url, headers: { 'x-key': { secret: 'key' } } })
    assert.equal(version, '2025-06-18')
    assert.deepEqual(
      listed.map(({ name }) => name),
      ['search'],
    )
    assert.ok(seen.every((key) => key === 'hush'))
    assert.ok(!JSON.stringify(records).includes('hush'), 'rule 5')
  })
})

describe('effects that are proposed', () => {
  const of = (name: string, args: readonly string[] = [], annotations?: object) => {
    const { effects, from, doubt } = proposeEffects({
      name,
      inputSchema: { type: 'object', properties: Object.fromEntries(args.map((arg) => [arg, {}])) },
      ...(annotations ? { annotations } : {}),
    })
    return `${from}: ${effects.join(' ')}${doubt === undefined ? '' : ` (${doubt})`}`
  }
  test('from annotations, with the pessimistic defaults of the standard', () => {
    assert.equal(of('x', [], { readOnlyHint: true }), 'annotations: read egress')
    assert.equal(of('x', [], { readOnlyHint: true, openWorldHint: false }), 'annotations: read')
    assert.equal(of('x', [], { destructiveHint: false, openWorldHint: false }), 'annotations: write')
    assert.equal(of('x', [], { openWorldHint: false }), 'annotations: write destroy')
    assert.equal(of('x', [], { title: 'X' }), 'default: write destroy egress')
    assert.match(of('delete_file', [], { readOnlyHint: true, openWorldHint: false }), /said to only read, and is called `delete`/)
  })
  test('from the name, cautiously; what runs what it is given may do anything', () => {
    assert.equal(of('read_file', ['path']), 'name: read')
    assert.equal(of('searchNodes', ['query']), 'name: read')
    assert.equal(of('get_page', ['url']), 'name: read egress')
    assert.equal(of('fetch', ['url']), 'name: read egress')
    assert.equal(of('create_issue', ['title']), 'name: write')
    assert.equal(of('send_message', ['to']), 'name: write egress')
    assert.equal(of('delete_entities'), 'name: write destroy')
    assert.equal(of('files.remove-all'), 'name: write destroy')
    assert.equal(of('grant_access', ['user']), 'name: write admin')
    assert.equal(of('add_member'), 'name: write admin')
    for (const name of ['query', 'run_tests', 'list_query', 'sequentialthinking', 'get_and_update', ''])
      assert.match(of(name), /^default: write destroy egress/, name)
    assert.match(of('read', ['sql']), /^default/)
  })
})
