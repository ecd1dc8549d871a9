/**
 * npm run test:clients: Claude Code, Codex, Gemini CLI and the MCP Inspector as they are published, through Chaperone. Each
 * connects over HTTP and through the shim, lists, and calls two tools: one that is allowed and one that a rule refuses. What
 * their model would read is caught by a model that is a script. Each has an empty environment and a home that is thrown away.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { strFromU8, unzipSync } from 'fflate'
import { bundle } from '../../src/client/config/bundle.ts'
import { managedSettings } from '../../src/client/config/managed.ts'
import { folder } from '../parts/process.ts'
import { startFakeModels } from './fake-models.ts'
import { startFixture } from './fixture/fixture.ts'
import { type Installed, NotInstalled, onDemand } from './on-demand.ts'
import { EVERYTHING, openThrough } from './through.ts'

const bin = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))
const DENY = '  deny:\n    - { mcp: fixture, tools: greet, args: { name: Mallory } }\n'
const RULE = /Chaperone refused the call of greet on fixture.*role everything, deny rule 1.*Decision: per_/s

/** How the client reaches the server: an entry of its configuration. */
type Entry = { readonly url: string } | { readonly command: string; readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> }

interface Place {
  readonly home: string
  readonly entry: Entry
  readonly models: string
}

interface Ran {
  readonly out: string
  readonly code: number
}

interface RealClient {
  readonly name: string
  readonly spec: string
  /** its program comes by its own install script */
  readonly scripts?: boolean
  /** Writes its configuration, with the one server `gw`. */
  configure(place: Place): Promise<void>
  /** It lists its servers; undefined where it can only be seen by what it offers to its model. */
  readonly listed?: { readonly args: readonly string[]; readonly shows: RegExp }
  /** The command that makes its model call one tool. */
  ask(place: Place): { readonly args: readonly string[]; readonly env?: Readonly<Record<string, string>> }
  program(installed: Installed): readonly string[]
}

const json = (value: unknown) => JSON.stringify(value)
const typed = (entry: Entry) => ('url' in entry ? { type: 'http', ...entry } : entry)

const CLIENTS: readonly RealClient[] = [
  {
    name: 'Claude Code',
    spec: '@anthropic-ai/claude-code@2.1.330',
    scripts: true,
    program: (installed) => [installed.file('bin/claude.exe')],
    configure: ({ home, entry }) => writeFile(join(home, '.claude.json'), json({ mcpServers: { gw: typed(entry) } })),
    listed: { args: ['mcp', 'list'], shows: /gw: .*Connected/ },
    ask: ({ models }) => ({
      args: ['-p', 'go', '--allowedTools', 'mcp__gw__greet', '--output-format', 'json'],
      env: {
        ANTHROPIC_API_KEY: 'sk-none',
        ANTHROPIC_BASE_URL: models,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
        // Else its model must search for tools before it sees them.
        ENABLE_TOOL_SEARCH: 'false',
      },
    }),
  },
  {
    name: 'Codex',
    spec: '@openai/codex@0.169.0',
    program: (installed) => [process.execPath, installed.file('bin/codex.js')],
    async configure({ home, entry, models }) {
      const table = (values: Readonly<Record<string, unknown>>) =>
        Object.entries(values)
          .map(([key, value]) => `${key} = ${json(value)}\n`)
          .join('')
      const { env, ...server } = 'url' in entry ? { ...entry, env: undefined } : entry
      await mkdir(join(home, '.codex'))
      await writeFile(
        join(home, '.codex', 'config.toml'),
        `model = "script"\nmodel_provider = "script"\n[model_providers.script]\n${table({ name: 'script', base_url: `${models}/v1`, wire_api: 'responses', env_key: 'SCRIPT_KEY' })}` +
          `[mcp_servers.gw]\n${table(server)}${env === undefined ? '' : `[mcp_servers.gw.env]\n${table(env)}`}`,
      )
    },
    ask: () => ({ args: ['exec', '--skip-git-repo-check', '--dangerously-bypass-approvals-and-sandbox', 'go'], env: { SCRIPT_KEY: 'none' } }),
  },
  {
    name: 'Gemini CLI',
    spec: '@google/gemini-cli@0.61.0',
    program: (installed) => [process.execPath, installed.file('bundle/gemini.js')],
    async configure({ home, entry }) {
      await mkdir(join(home, '.gemini'))
      await writeFile(
        join(home, '.gemini', 'settings.json'),
        json({ security: { auth: { selectedType: 'gemini-api-key' } }, mcpServers: { gw: typed(entry) } }),
      )
      await writeFile(join(home, '.gemini', 'trustedFolders.json'), json({ [join(home, 'work')]: 'TRUST_FOLDER' }))
    },
    listed: { args: ['mcp', 'list'], shows: /gw: .*Connected/ },
    ask: ({ models }) => ({
      args: ['-p', 'go', '--yolo', '--model', 'gemini-2.5-pro'],
      env: { GEMINI_API_KEY: 'none', GOOGLE_GEMINI_BASE_URL: models },
    }),
  },
]

const LONGEST_MS = 90_000

function run(program: readonly string[], args: readonly string[], home: string, env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  const [command, ...first] = program
  return new Promise((done) => {
    const child = execFile(
      command!,
      [...first, ...args],
      {
        cwd: join(home, 'work'),
        env: { HOME: home, PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, ...env },
        timeout: LONGEST_MS,
        killSignal: 'SIGKILL',
        maxBuffer: 64 * 1024 * 1024,
      },
      (error, stdout, stderr) => done({ out: `${stdout}${stderr}`, code: error === null ? 0 : Number(error.code ?? -1) }),
    )
    child.stdin?.end()
  })
}

/** The fixture behind Chaperone, and a home for one client. Undefined, with the test skipped, where the client cannot be had. */
async function prepare(t: TestContext, spec: string, scripts = false) {
  let installed: Installed
  try {
    installed = await onDemand(spec, { scripts })
  } catch (error) {
    if (!(error instanceof NotInstalled)) throw error
    t.skip(error.message)
    return undefined
  }
  const fixture = await startFixture()
  t.after(() => fixture.close())
  const documents = `${EVERYTHING.replace('  allow:', `${DENY}  allow:`)}---\nkind: mcp\nname: fixture\nspec: { url: ${json(fixture.url)} }\n`
  const through = await openThrough(documents)
  t.after(() => through.close())
  // Not below the temporary folder: Codex puts no helpers there, and says so.
  const cache = fileURLToPath(new URL('../../node_modules/.cache/', import.meta.url))
  const newHome = async () => {
    const home = await mkdtemp(join(cache, 'client-home-'))
    assert.notEqual(home, homedir())
    t.after(() => rm(home, { recursive: true, force: true, maxRetries: 5 }))
    await mkdir(join(home, 'work'))
    return home
  }
  const entries: Readonly<Record<string, Entry>> = {
    http: { url: (await through.open('fixture')).url },
    shim: { command: process.execPath, args: [bin, 'mcp', 'connect', 'fixture'], env: { CHAPERONE_HOME: through.home } },
  }
  return { installed, fixture, entries, newHome }
}

for (const client of CLIENTS) {
  test(`${client.name} connects, lists and calls over HTTP and through the shim; its model reads why something is refused`, async (t) => {
    const prepared = await prepare(t, client.spec, client.scripts)
    if (prepared === undefined) return
    const program = client.program(prepared.installed)
    for (const [way, entry] of Object.entries(prepared.entries)) {
      for (const [who, reads] of [['Ada', /Hello, Ada!/] as const, ['Mallory', RULE] as const]) {
        const models = await startFakeModels({ tool: 'greet', args: { name: who } })
        t.after(() => models.close())
        const place: Place = { home: await prepared.newHome(), entry, models: models.url }
        await client.configure(place)
        if (client.listed !== undefined && who === 'Ada') {
          const { out } = await run(program, client.listed.args, place.home)
          assert.match(out, client.listed.shows, way)
        }
        const { args, env } = client.ask(place)
        const { out } = await run(program, args, place.home, env)
        const tools = [...models.offered].filter((name) => /test_simple_text$/.test(name))
        assert.equal(tools.length, 1, `${way}: the tools are offered to the model; it said ${out.slice(-500)}`)
        const result = models.results[0] ?? '(nothing)'
        assert.match(result, reads, way)
        if (who === 'Mallory') t.diagnostic(`${client.name}, ${way}, the model reads: ${result}`)
      }
    }
  })
}

test('the MCP Inspector lists and calls in both eras over HTTP and through the shim, and shows why something is refused', async (t) => {
  const prepared = await prepare(t, '@modelcontextprotocol/inspector@2.12.0')
  if (prepared === undefined) return
  const program = [process.execPath, prepared.installed.file('clients/launcher/build/index.js'), '--cli']
  const { entries, newHome } = prepared
  for (const [way, entry] of Object.entries(entries)) {
    const target =
      'url' in entry ? [entry.url, '--transport', 'http'] : [entry.command, ...entry.args, '-e', `CHAPERONE_HOME=${entry.env.CHAPERONE_HOME}`]
    for (const era of ['legacy', 'modern', 'auto']) {
      const home = await newHome()
      const call = (...more: readonly string[]) => run(program, [...target, '--protocol-era', era, ...more], home)
      assert.match((await call('--method', 'tools/list')).out, /"name": "test_simple_text"/, `${way} ${era}`)
      const greet = (name: string) => call('--method', 'tools/call', '--tool-name', 'greet', '--tool-arg', `name=${name}`)
      assert.match((await greet('Ada')).out, /Hello, Ada!/, `${way} ${era}`)
      assert.match((await greet('Mallory')).out, RULE, `${way} ${era}`)
    }
  }
})

const BWRAP = '/usr/bin/bwrap'

/** How each client says which servers it has, and that it has ours. */
const LISTS = {
  'claude-code': { spec: '@anthropic-ai/claude-code@2.1.330', scripts: true, args: ['mcp', 'list'], shows: /fixture: .*Connected/ },
  codex: { spec: '@openai/codex@0.169.0', scripts: false, args: ['mcp', 'list'], shows: /fixture +.*mcp connect fixture.*enabled/ },
  gemini: { spec: '@google/gemini-cli@0.61.0', scripts: false, args: ['mcp', 'list'], shows: /fixture: .*Connected/ },
} as const

for (const [client, { spec, scripts, args, shows }] of Object.entries(LISTS)) {
  test(`what \`chaperone mcp config ${client}\` writes is what the client reads, and is gone when it is taken out`, async (t) => {
    const prepared = await prepare(t, spec, scripts)
    if (prepared === undefined) return
    const program = CLIENTS.find((one) => one.spec === spec)!.program(prepared.installed)
    const home = await prepared.newHome()
    const { CHAPERONE_HOME } = (prepared.entries.shim as unknown as { env: { CHAPERONE_HOME: string } }).env
    if (client === 'gemini') {
      await mkdir(join(home, '.gemini'))
      await writeFile(join(home, '.gemini', 'trustedFolders.json'), json({ [join(home, 'work')]: 'TRUST_FOLDER' }))
    }
    const chaperone = (...more: readonly string[]) => run([process.execPath, bin], ['mcp', 'config', client, ...more], home, { CHAPERONE_HOME })
    const wrote = await chaperone('fixture')
    assert.equal(wrote.code, 0, wrote.out)
    const { out } = await run(program, args, home)
    t.diagnostic(`${client}: ${out}`)
    assert.match(out, shows)
    assert.match((await chaperone('fixture')).out, /has it already/)
    assert.match((await chaperone('--remove')).out, /Took fixture out/)
    assert.doesNotMatch((await run(program, args, home)).out, /fixture/)
  })
}

test('with the managed settings of `chaperone mcp export`, Claude Code has nothing but Chaperone', {
  skip: !existsSync(BWRAP) && `there is no ${BWRAP}`,
}, async (t) => {
  const { spec, scripts } = LISTS['claude-code']
  const prepared = await prepare(t, spec, scripts)
  if (prepared === undefined) return
  const home = await prepared.newHome()
  const shim = { type: 'stdio', command: 'chaperone', args: ['mcp', 'connect', '--client', 'claude-code'] }
  const others = { foreign: { type: 'stdio', command: 'npx', args: ['thing'] }, web: { type: 'http', url: 'http://127.0.0.1:9/mcp' } }
  await writeFile(join(home, '.claude.json'), json({ mcpServers: { ...others, shim } }))
  const managed = join(home, 'managed')
  await mkdir(managed)
  await writeFile(
    join(managed, 'managed-settings.json'),
    json(managedSettings('https://gw.example.com', [], ['claude-code'], { command: 'chaperone' })),
  )
  const [program = ''] = CLIENTS.find((one) => one.spec === spec)!.program(prepared.installed)
  // Its folder is the computer's: here it is one that only this process sees.
  const fence = ['--dev-bind', '/', '/', '--tmpfs', '/etc', '--ro-bind', '/etc/passwd', '/etc/passwd', '--unshare-net']
  const list = async (...more: readonly string[]) => (await run([BWRAP], [...fence, ...more, program, 'mcp', 'list'], home)).out
  const free = await list()
  for (const name of ['foreign', 'web', 'shim']) assert.match(free, new RegExp(`^${name}: `, 'm'))
  const bound = await list('--ro-bind', managed, '/etc/claude-code')
  assert.match(bound, /^shim: /m)
  assert.doesNotMatch(bound, /foreign|web/)
})

test('the publisher of the format reads the manifest', async (t) => {
  let installed: Installed
  try {
    installed = await onDemand('@anthropic-ai/mcpb@2.1.2')
  } catch (error) {
    if (!(error instanceof NotInstalled)) throw error
    return t.skip(error.message)
  }
  const dir = await folder(t)
  const manifest = join(dir, 'manifest.json')
  const first = { address: 'chaperone.example.com:7443', authorities: '' }
  await writeFile(manifest, strFromU8(unzipSync(await bundle({ version: '0.1.0', mcp: 'github', first }))['manifest.json']!))
  const { validateManifest } = (await import(pathToFileURL(installed.file('dist/index.js')).href)) as { validateManifest(path: string): boolean }
  assert.equal(validateManifest(manifest), true)
})
