import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stop } from './measure.ts'

export interface Peer {
  readonly name: string
  readonly pid: number
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  stop(): Promise<void>
}

const require = createRequire(import.meta.url)

/** A large one, and not needed for anything else: installed when it is first measured. */
const PASSTHROUGH = '@civic/passthrough-mcp-server'
const PASSTHROUGH_VERSION = '0.12.1'

/**
 * Gateways from npm, without TLS, identity, policy or record: what they do less of is part of the comparison. Two stand
 * before the same tiny stdio server, one before the HTTP server that everybody else has.
 */
export async function peers({ upstream }: { readonly upstream: string }): Promise<{ readonly running: Peer[]; readonly notes: string[] }> {
  const running: Peer[] = []
  const notes: string[] = []
  const echo = fileURLToPath(new URL('./echo-stdio.ts', import.meta.url))
  const kinds: readonly (readonly [name: string, make: (port: number) => readonly string[], env?: (port: number) => Record<string, string>])[] = [
    ['mcp-proxy', (port) => [bin('mcp-proxy'), '--port', String(port), '--server', 'stream', '--', process.execPath, echo]],
    [
      'supergateway',
      (port) => [
        bin('supergateway'),
        '--stdio',
        `${process.execPath} ${echo}`,
        '--outputTransport',
        'streamableHttp',
        '--stateful',
        '--port',
        String(port),
        '--logLevel',
        'none',
      ],
    ],
    ['passthrough', () => [passthrough()], (port) => ({ PORT: String(port), TARGET_SERVER_URL: upstream, TARGET_SERVER_TRANSPORT: 'httpStream' })],
  ]
  for (const [name, make, env] of kinds) {
    try {
      const port = await freePort()
      const child = spawn(process.execPath, make(port), { stdio: 'ignore', env: { ...process.env, ...env?.(port) } })
      const url = `http://127.0.0.1:${port}/mcp`
      const headers = await initialize(url, child)
      running.push({ name, pid: child.pid!, url, headers, stop: () => stop(child) })
    } catch (error) {
      notes.push(`${name} was not measured: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  return { running, notes }
}

function passthrough(): string {
  const dir = fileURLToPath(new URL(`../node_modules/.cache/bench-passthrough-${PASSTHROUGH_VERSION}`, import.meta.url))
  const program = join(dir, 'node_modules', PASSTHROUGH, 'dist', 'cli.js')
  if (!existsSync(program)) {
    mkdirSync(dir, { recursive: true })
    const args = ['install', '--prefix', dir, '--no-audit', '--no-fund', '--ignore-scripts', `${PASSTHROUGH}@${PASSTHROUGH_VERSION}`]
    const { status } = spawnSync('npm', args, { stdio: 'ignore', timeout: 120_000 })
    if (status !== 0) throw new Error(`${PASSTHROUGH} could not be installed`)
  }
  // It starts only under its own real path.
  return realpathSync(program)
}

function bin(name: string): string {
  const manifest = require.resolve(`${name}/package.json`)
  const { bin: entry } = require(manifest) as { bin: string | Record<string, string> }
  return join(dirname(manifest), typeof entry === 'string' ? entry : entry[name]!)
}

async function initialize(url: string, child: ChildProcess): Promise<Record<string, string>> {
  const body = JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'initialize',
    params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'bench', version: '1' } },
  })
  const headers = { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' }
  const until = performance.now() + 20_000
  for (;;) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`)
    const answer = await fetch(url, { method: 'POST', headers, body }).catch(() => undefined)
    if (answer?.ok) {
      await answer.text()
      const session = answer.headers.get('mcp-session-id')
      const more: Record<string, string> = { 'MCP-Protocol-Version': '2025-06-18', ...(session === null ? {} : { 'Mcp-Session-Id': session }) }
      await (
        await fetch(url, {
          method: 'POST',
          headers: { ...headers, ...more },
          body: JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' }),
        })
      ).text()
      return more
    }
    if (performance.now() > until) {
      await stop(child)
      throw new Error('it did not answer initialize in 20 s')
    }
    await new Promise((done) => setTimeout(done, 200))
  }
}

const freePort = () =>
  new Promise<number>((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })
