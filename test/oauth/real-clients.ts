/**
 * npm run test:clients: Claude Code and Codex as they are published sign in at the web listener by OAuth, with nothing in their
 * configuration but the address of a server. Their browser is a script that does what a person does.
 */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startFakeModels } from '../mcp/fake-models.ts'
import { type Installed, NotInstalled, onDemand } from '../mcp/on-demand.ts'
import { type Rig, rig } from './rig.ts'

const LONGEST_MS = 60_000
const CODEX = 'https://chatgpt.com/oauth/codex/client.json'

interface SigningIn {
  readonly name: string
  readonly spec: string
  readonly scripts?: boolean
  program(installed: Installed): readonly string[]
  /** `models`: where its model answers. */
  configure(home: string, url: string, models?: string): Promise<void>
  /** Has its model call the one tool. */
  ask(models: string): { readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> }
  readonly login: readonly string[]
  /** It signs in at a terminal alone; `script` (util-linux) is one. */
  readonly terminal?: boolean
  readonly list: readonly string[]
  readonly connected: RegExp
  readonly agent: string
}

const CLIENTS: readonly SigningIn[] = [
  {
    name: 'Claude Code',
    spec: '@anthropic-ai/claude-code@2.1.330',
    scripts: true,
    program: (installed) => [installed.file('bin/claude.exe')],
    configure: (home, url) => writeFile(join(home, '.claude.json'), JSON.stringify({ mcpServers: { gw: { type: 'http', url } } })),
    login: ['mcp', 'login', 'gw'],
    terminal: true,
    list: ['mcp', 'list'],
    connected: /gw: .*Connected/,
    ask: (models) => ({
      args: ['-p', 'go', '--allowedTools', 'mcp__gw__test_simple_text', '--output-format', 'json'],
      env: {
        ...{ ANTHROPIC_API_KEY: 'sk-none', ANTHROPIC_BASE_URL: models },
        ...{ CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1', ENABLE_TOOL_SEARCH: 'false' },
      },
    }),
    agent: 'boris/claude-code',
  },
  {
    name: 'Codex',
    spec: '@openai/codex@0.169.0',
    program: (installed) => [process.execPath, installed.file('bin/codex.js')],
    async configure(home, url, models) {
      await mkdir(join(home, '.codex'))
      const model =
        models === undefined
          ? ''
          : `model = "script"\nmodel_provider = "script"\n[model_providers.script]\nname = "script"\nbase_url = "${models}/v1"\nwire_api = "responses"\nenv_key = "SCRIPT_KEY"\n`
      // Its key store is a file, where there is none of the system.
      await writeFile(
        join(home, '.codex', 'config.toml'),
        `mcp_oauth_credentials_store = "file"\n${model}[mcp_servers.gw]\nurl = ${JSON.stringify(url)}\n`,
      )
    },
    login: ['mcp', 'login', 'gw'],
    list: ['mcp', 'list'],
    connected: /gw\b.*\bOAuth\b/,
    ask: () => ({ args: ['exec', '--skip-git-repo-check', '--dangerously-bypass-approvals-and-sandbox', 'go'], env: { SCRIPT_KEY: 'none' } }),
    agent: 'boris/codex',
  },
]

const PINNED = `---
kind: oauth-client
name: codex
spec: { client_id: "${CODEX}", client_name: Codex, redirect_uris: ["http://127.0.0.1/callback", "http://localhost/callback"] }
`

for (const client of CLIENTS) {
  test(`${client.name} signs in by OAuth with a person's consent, and is connected`, async (t) => {
    const prepared = await prepare(t, client)
    if (!prepared) return
    const { r, home, env, program, person } = prepared
    await client.configure(home, r.resource())
    const line = [...program, ...client.login].map((word) => `'${word}'`).join(' ')
    const out = await (client.terminal ? run(['script'], ['-qfec', line, '/dev/null'], home, env) : run(program, client.login, home, env))
    assert.deepEqual(person.failed, [], out)
    const listed = await run(program, client.list, home, env)
    assert.match(listed, client.connected, `${out}\n${listed}`)
    const issued = r.records.filter(({ type, actor }) => type === 'credential.issued' && actor?.name === client.agent)
    assert.ok(issued.length > 0, `nothing was issued to ${client.agent}: ${out}`)
    assert.deepEqual(
      issued[0]?.chain?.map(({ name }) => name),
      ['boris', client.agent],
    )
  })
}

/** Its model cannot call what is not in the list, so no 403 comes of it; what the client asks for is never less than all. */
for (const client of CLIENTS) {
  test(`${client.name} with a token for reading alone is not shown what changes something; after one more sign-in it is, and calls it`, async (t) => {
    const prepared = await prepare(t, client)
    if (!prepared) return
    const { r, home, env, program, person } = prepared
    const models = await startFakeModels({ tool: 'test_simple_text', args: {} })
    t.after(() => models.close())
    await client.configure(home, r.resource(), models.url)
    const login = async () => {
      const line = [...program, ...client.login].map((word) => `'${word}'`).join(' ')
      return client.terminal ? run(['script'], ['-qfec', line, '/dev/null'], home, env) : run(program, client.login, home, env)
    }
    const { args, env: more } = client.ask(models.url)
    const ask = () => run(program, args, home, { ...env, ...more })
    person.chooses = { read: 'only' }
    const first = await login()
    assert.deepEqual(person.failed, [], first)
    const said = await ask()
    const issued = () => r.records.filter(({ type, actor }) => type === 'credential.issued' && actor?.name === client.agent).length
    t.diagnostic(
      `${client.name}: pages opened ${person.opened}, tokens ${issued()}, the model reads: ${models.results.join(' | ') || '(nothing)'}; it says: ${said.slice(-300)}`,
    )
    assert.ok(models.offered.size > 0 && ![...models.offered].some((name) => name.endsWith('test_simple_text')), [...models.offered].join(' '))
    assert.deepEqual(models.results, [])
    person.chooses = {}
    const again = await login()
    const then = await ask()
    t.diagnostic(
      `${client.name}: after one more sign-in: pages opened ${person.opened}, tokens ${issued()}, the model reads: ${models.results.at(-1)}; asked for ${person.scopes.join(', ')}`,
    )
    assert.match(models.results.at(-1) ?? '', /simple text/i, `${again}\n${then}`)
  })
}

async function prepare(t: TestContext, client: SigningIn) {
  let installed: Installed
  try {
    installed = await onDemand(client.spec, { scripts: client.scripts === true })
  } catch (error) {
    if (!(error instanceof NotInstalled)) throw error
    t.skip(error.message)
    return undefined
  }
  const r = await rig(t, {}, PINNED)
  const cache = fileURLToPath(new URL('../../node_modules/.cache/', import.meta.url))
  const home = await mkdtemp(join(cache, 'client-home-'))
  t.after(() => rm(home, { recursive: true, force: true, maxRetries: 5 }))
  for (const folder of ['work', 'bin']) await mkdir(join(home, folder))
  const authorities = join(home, 'authorities.pem')
  await writeFile(authorities, await r.home.server.parts.ca.bundle('server'))
  const person = await watchBrowser(t, r, home)
  const env = {
    PATH: `${join(home, 'bin')}:${dirname(process.execPath)}:/usr/bin:/bin`,
    NODE_EXTRA_CA_CERTS: authorities,
    SSL_CERT_FILE: authorities,
    CODEX_CA_CERTIFICATE: authorities,
    BROWSER: join(home, 'bin', 'xdg-open'),
    DISPLAY: ':0',
  }
  return { r, home, env, program: client.program(installed), person }
}

interface Watched {
  readonly failed: unknown[]
  /** the scopes that pages were opened for */
  readonly scopes: string[]
  opened: number
  /** what the person chooses on the page */
  chooses: Record<string, string>
}

/** What the client opens goes through a pipe to a person, who agrees. */
async function watchBrowser(t: TestContext, r: Rig, home: string): Promise<Watched> {
  const pipe = join(home, 'opened')
  await run(['mkfifo'], [pipe], home)
  const script = `#!/bin/sh\nprintf '%s\\n' "$1" > ${pipe}\n`
  for (const name of ['xdg-open', 'open', 'sensible-browser']) {
    await writeFile(join(home, 'bin', name), script)
    await chmod(join(home, 'bin', name), 0o755)
  }
  const reader = spawn('sh', ['-c', `while :; do cat ${pipe}; done`], { stdio: ['ignore', 'pipe', 'ignore'], detached: true })
  t.after(() => void process.kill(-reader.pid!, 'SIGKILL'))
  const watched: Watched = { failed: [], scopes: [], opened: 0, chooses: {} }
  const browser = await r.browser('boris')
  const agree = async (url: string): Promise<URL> => {
    watched.opened++
    watched.scopes.push(new URL(url).searchParams.get('scope') ?? '(none)')
    const page = await browser.open({ query: url.slice(url.indexOf('?') + 1), verifier: '', state: '' })
    const looked = Object.keys(watched.chooses).length === 0 ? page.page : await browser.answer(page, { verdict: 'look', ...watched.chooses })
    return browser.finish({ path: page.path, page: looked }, watched.chooses)
  }
  reader.stdout.setEncoding('utf8')
  reader.stdout.on('data', (text: string) => {
    for (const url of text.split('\n').filter((line) => line.startsWith('https://')))
      agree(url)
        .then((back) => fetch(back, { redirect: 'manual' }))
        .catch((error: unknown) => void watched.failed.push(error))
  })
  return watched
}

function run(program: readonly string[], args: readonly string[], home: string, env: Readonly<Record<string, string>> = {}): Promise<string> {
  const [command, ...first] = program
  return new Promise((done) => {
    const child = execFile(
      command!,
      [...first, ...args],
      { cwd: join(home, 'work'), env: { HOME: home, PATH: '/usr/bin:/bin', ...env }, timeout: LONGEST_MS, killSignal: 'SIGKILL' },
      (_error, stdout, stderr) => done(`${stdout}${stderr}`),
    )
    if (command !== 'script') child.stdin?.end()
  })
}
