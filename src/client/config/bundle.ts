import { strToU8, zipSync } from 'fflate'
import { shimCommand } from './entries.ts'

/**
 * A `.mcpb` bundle (manifest 0.3): a zip that Claude Desktop installs by a double click. What it brings is a starter, not
 * Chaperone: that must be on the computer anyhow, to sign in. Nothing in a bundle is secret, so one is good for everybody.
 */
export interface BundleOptions {
  /** one server of the catalog; undefined: all that one may use, as one */
  readonly server?: string
  readonly version: string
  /** how the starter tries first to start Chaperone; default: this very installation */
  readonly command?: string
  /** `--server` of the shim */
  readonly address?: string
}

const NAME = 'chaperone'

export function manifestOf({ server, version }: BundleOptions): Record<string, unknown> {
  return {
    manifest_version: '0.3',
    name: server === undefined ? NAME : `${NAME}-${server.replace(/[^A-Za-z0-9-]+/g, '-')}`,
    display_name: server === undefined ? 'Chaperone' : `${server} (Chaperone)`,
    version,
    description: server === undefined ? 'The MCP servers that you may use, through Chaperone.' : `The MCP server ${server}, through Chaperone.`,
    author: { name: 'Chaperone' },
    server: {
      type: 'node',
      entry_point: 'server/start.js',
      mcp_config: {
        command: 'node',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: Claude Desktop fills these in.
        args: ['${__dirname}/server/start.js'],
        // biome-ignore lint/suspicious/noTemplateCurlyInString: Claude Desktop fills these in.
        env: { CHAPERONE_COMMAND: '${user_config.command}' },
      },
    },
    tools_generated: true,
    user_config: {
      command: {
        type: 'file',
        title: 'Chaperone',
        description: 'The program `chaperone`, where it is not found by itself.',
        required: false,
        default: '',
      },
    },
    compatibility: { platforms: ['darwin', 'win32', 'linux'], runtimes: { node: '>=18.0.0' } },
    license: 'Apache-2.0',
  }
}

export function bundle(options: BundleOptions): Uint8Array {
  const { server, command, address } = options
  const args = [
    'mcp',
    'connect',
    ...(server === undefined ? [] : [server]),
    '--client',
    'claude-desktop',
    ...(address === undefined ? [] : ['--server', address]),
  ]
  const files = {
    'manifest.json': `${JSON.stringify(manifestOf(options), null, 2)}\n`,
    'server/package.json': '{ "type": "commonjs" }\n',
    'server/start.js': starter(shimCommand(command), args),
  }
  // The same bundle has the same bytes, whenever it was made.
  const mtime = new Date('2026-01-01T00:00:00Z')
  return zipSync(Object.fromEntries(Object.entries(files).map(([name, text]) => [name, [strToU8(text), { mtime }] as const])))
}

/** Runs in the Node that Claude Desktop brings, which may be older than ours. */
const starter = (first: readonly string[], args: readonly string[]): string => `'use strict'
const { spawn } = require('node:child_process')
const { existsSync } = require('node:fs')
const { homedir } = require('node:os')
const { join } = require('node:path')

// Desktop programs have a short PATH: these are the places where package managers put programs.
const windows = process.platform === 'win32'
const chosen = process.env.CHAPERONE_COMMAND
const folders = windows
  ? [join(process.env.APPDATA || '', 'npm')]
  : ['/usr/local/bin', '/opt/homebrew/bin', join(homedir(), '.local/bin'), '/usr/bin', join(homedir(), '.npm-global/bin')]
const candidates = [
  ...(chosen && !chosen.startsWith('\${') ? [[chosen]] : []),
  ${JSON.stringify(first)},
  ...folders.map((folder) => [join(folder, windows ? 'chaperone.cmd' : 'chaperone')]),
]
const found = candidates.find((words) => words.every((word) => existsSync(word)))
if (!found) {
  process.stderr.write('Chaperone is not on this computer, or not where it is looked for: install it, then sign in with \`chaperone login\`.\\n')
  process.exit(8)
}
const [command, ...before] = found
const child = spawn(command, [...before, ...${JSON.stringify(args)}], { stdio: 'inherit', shell: /\\.cmd$/i.test(command) })
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
child.on('error', (error) => {
  process.stderr.write(\`\${error.message}\\n\`)
  process.exit(8)
})
child.on('exit', (code) => process.exit(code === null ? 1 : code))
`
