/**
 * npm run test:clients: `chaperone run -- CLIENT` with the clients as they are published. Each is started in the home of a person who
 * has servers of his own in his files; inside of the run it sees those of the run, connected, and none of his.
 */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startFakeModels } from '../mcp/fake-models.ts'
import { NotInstalled, onDemand } from '../mcp/on-demand.ts'
import { runningRig, start } from './rig.ts'

const THEIRS = { command: '/bin/false', args: ['theirs'] }

interface RealClient {
  readonly name: string
  readonly spec: string
  readonly scripts?: boolean
  readonly program: string
  /** A server of the person's own, in his own file. */
  readonly own: { readonly file: string; readonly text: string }
  readonly list: readonly string[]
  readonly shows: RegExp
  readonly not: RegExp
  /** Makes its model call the tool `greet`. */
  ask(models: string): { readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> }
  readonly more?: (home: string, models: string) => Promise<void>
}

const CLIENTS: readonly RealClient[] = [
  {
    name: 'Claude Code',
    spec: '@anthropic-ai/claude-code@2.1.330',
    scripts: true,
    program: 'claude',
    own: { file: '.claude.json', text: JSON.stringify({ mcpServers: { theirs: { type: 'stdio', ...THEIRS } } }) },
    list: ['mcp', 'list'],
    shows: /fixture: .*Connected/,
    not: /theirs/,
    ask: (models) => ({
      args: ['-p', 'go', '--allowedTools', 'mcp__fixture__greet', '--output-format', 'json'],
      env: { ANTHROPIC_API_KEY: 'sk-none', ANTHROPIC_BASE_URL: models, CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1', ENABLE_TOOL_SEARCH: 'false' },
    }),
  },
  {
    name: 'Codex',
    spec: '@openai/codex@0.169.0',
    program: 'codex',
    own: { file: '.codex/config.toml', text: '[mcp_servers.theirs]\ncommand = "/bin/false"\nargs = ["theirs"]\n' },
    list: ['mcp', 'list'],
    shows: /^fixture .* enabled/m,
    not: /^theirs .* enabled/m,
    ask: () => ({ args: ['exec', '--skip-git-repo-check', '--dangerously-bypass-approvals-and-sandbox', 'go'], env: { SCRIPT_KEY: 'none' } }),
    more: (home, models) =>
      writeFile(
        join(home, '.codex', 'config.toml'),
        `model = "script"\nmodel_provider = "script"\n[model_providers.script]\nname = "script"\nbase_url = "${models}/v1"\nwire_api = "responses"\nenv_key = "SCRIPT_KEY"\n[mcp_servers.theirs]\ncommand = "/bin/false"\n`,
      ),
  },
  {
    name: 'Gemini CLI',
    spec: '@google/gemini-cli@0.61.0',
    program: 'gemini',
    own: {
      file: '.gemini/settings.json',
      text: JSON.stringify({ security: { auth: { selectedType: 'gemini-api-key' } }, mcpServers: { theirs: THEIRS } }),
    },
    list: ['mcp', 'list'],
    shows: /fixture: .*Connected/,
    not: /theirs: .*Connected/,
    ask: (models) => ({
      args: ['-p', 'go', '--yolo', '--model', 'gemini-2.5-pro'],
      env: { GEMINI_API_KEY: 'none', GOOGLE_GEMINI_BASE_URL: models },
    }),
    more: (home) => writeFile(join(home, '.gemini', 'trustedFolders.json'), JSON.stringify({ [join(home, 'work')]: 'TRUST_FOLDER' })),
  },
]

for (const client of CLIENTS) {
  test(`chaperone run -- ${client.program}: ${client.name} sees the servers of the run and none of its person's, calls through them, and changes no file of his`, async (t) => {
    const installed = await onDemand(client.spec, { scripts: client.scripts === true }).catch((error: unknown) => {
      if (!(error instanceof NotInstalled)) throw error
      t.skip(error.message)
      return undefined
    })
    if (installed === undefined) return
    const rig = await runningRig(t)
    const cache = fileURLToPath(new URL('../../node_modules/.cache/', import.meta.url))
    // Not below the temporary folder: Codex puts no helpers there, and says so.
    const home = await mkdtemp(join(cache, 'run-home-'))
    t.after(() => rm(home, { recursive: true, force: true, maxRetries: 5 }))
    const cwd = join(home, 'work')
    await mkdir(cwd)
    await mkdir(dirname(join(home, client.own.file)), { recursive: true })
    await writeFile(join(home, client.own.file), client.own.text)
    const env = { HOME: home, PATH: `${installed.dir}/node_modules/.bin:${dirname(process.execPath)}:/usr/bin:/bin` }
    const run = (args: readonly string[], more: NodeJS.ProcessEnv = {}) =>
      start(t, ['run', '--', client.program, ...args], { home: rig.boris.home, cwd, env: { ...env, ...more } })

    const models = await startFakeModels({ tool: 'greet', args: { name: 'Ada' } })
    t.after(() => models.close())
    await client.more?.(home, models.url)
    const before = await readFile(join(home, client.own.file), 'utf8')
    const listed = run(client.list)
    await listed.ended
    const said = `${listed.out()}${listed.err()}`
    t.diagnostic(listed.out().trim())
    assert.match(said, client.shows)
    assert.doesNotMatch(listed.out(), client.not)
    assert.equal(await readFile(join(home, client.own.file), 'utf8'), before)

    const { args, env: own } = client.ask(models.url)
    const asked = run(args, own)
    await asked.ended
    assert.match(models.results[0] ?? `(nothing) ${asked.out()} ${asked.err()}`, /Hello, Ada!/)
    const { sessions } = await rig.boris.api.call<{ sessions: { how: string }[] }>('GET', '/v1/sessions')
    assert.deepEqual(
      sessions.filter(({ how }) => how === 'run'),
      [],
      'nothing is left',
    )
  })
}
