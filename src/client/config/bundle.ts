import { strToU8, zipSync } from 'fflate'
import type { Carried } from '../bundled.ts'
import { modulesOf } from './carried.ts'

/**
 * A `.mcpb` bundle (manifest 0.3 of the MCPB specification): a zip that Claude Desktop installs by a double click. It brings the
 * whole shim, so that nothing of Chaperone need be on the computer. Nothing in it is secret: one is good for everybody.
 */
export interface BundleOptions extends Omit<Carried, 'client'> {
  readonly version: string
}

const NAME = 'chaperone'
const CLIENT = 'claude-desktop'
/** from the starter */
const ENTRY = './chaperone/client/bundled.js'
/** The first with all that the modules import (`setDefaultCACertificates` of node:tls). Claude Desktop brings 24; where it is set to use the computer's own, it may be any. */
const NODE = { major: 22, minor: 19 } as const

// What Claude Desktop fills in.
const given = (name: string) => `\${user_config.${name}}`
const here = (path: string) => `\${__dirname}/${path}`

export function manifestOf({ mcp, first, version }: BundleOptions): Record<string, unknown> {
  const wherever = first === undefined ? '' : ` of ${first.address}`
  return {
    manifest_version: '0.3',
    name: mcp === undefined ? NAME : `${NAME}-${mcp.replace(/[^A-Za-z0-9-]+/g, '-')}`,
    display_name: mcp === undefined ? 'Chaperone' : `${mcp} (Chaperone)`,
    version,
    description: `${mcp === undefined ? 'The MCP servers that you may use' : `The MCP server ${mcp}`}, through Chaperone${wherever}.`,
    long_description:
      'Nothing has to be entered and nothing else installed: with the first call a page opens in your browser, and you sign in there. When the sign-in has ended, it opens again.',
    author: { name: 'Chaperone' },
    server: {
      type: 'node',
      entry_point: 'server/start.js',
      mcp_config: {
        command: 'node',
        args: [here('server/start.js')],
        env: {
          CHAPERONE_BUNDLE_SERVER: given('server'),
          CHAPERONE_BUNDLE_PROFILE: given('profile'),
          CHAPERONE_BUNDLE_HOME: given('home'),
        },
      },
    },
    tools_generated: true,
    prompts_generated: true,
    user_config: {
      server: {
        type: 'string',
        title: 'Server',
        description:
          first === undefined
            ? 'Your Chaperone: the line chaperone://… that its page /device shows. Empty: where this computer is signed in.'
            : 'Your Chaperone, as HOST:PORT. For another one than this bundle was made for: the line chaperone://… that its page /device shows.',
        required: false,
        default: first?.address ?? '',
      },
      profile: {
        type: 'string',
        title: 'Profile',
        description: 'Claude gets no more of your rights than this profile of Chaperone says. Empty: what you allow it there.',
        required: false,
        default: '',
      },
      home: {
        type: 'directory',
        title: 'Folder of the sign-in',
        description: 'Where your sign-in is kept. Empty: the usual place, which the command line of Chaperone uses as well.',
        required: false,
        default: '',
      },
    },
    compatibility: { platforms: ['darwin', 'win32', 'linux'], runtimes: { node: `>=${NODE.major}.${NODE.minor}.0` } },
    license: 'Apache-2.0',
  }
}

export async function bundle(options: BundleOptions): Promise<Uint8Array> {
  const { mcp, first } = options
  const carried: Carried = { ...(mcp === undefined ? {} : { mcp }), client: CLIENT, ...(first === undefined ? {} : { first }) }
  const modules = await modulesOf('client/bundled')
  const files: Readonly<Record<string, string>> = {
    'manifest.json': `${JSON.stringify(manifestOf(options), null, 2)}\n`,
    'server/start.js': STARTER,
    'server/package.json': '{ "type": "commonjs" }\n',
    'server/carried.json': `${JSON.stringify(carried, null, 2)}\n`,
    'server/chaperone/package.json': '{ "type": "module" }\n',
    ...Object.fromEntries([...modules].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, text]) => [`server/chaperone/${name}`, text])),
  }
  // The same bundle has the same bytes, whenever it was made.
  const mtime = new Date('2026-01-01T00:00:00Z')
  return zipSync(Object.fromEntries(Object.entries(files).map(([name, text]) => [name, [strToU8(text), { mtime, level: 9 }] as const])))
}

/**
 * Read by any Node since 14, and by whatever way it is loaded. A client hides what a program writes to stderr in a file, so
 * what keeps it from starting is also the answer to whatever the client asks.
 */
const STARTER = `'use strict'

const say = (text) => {
  process.stderr.write('chaperone: ' + text + '\\n')
  let rest = ''
  process.stdin.setEncoding('utf8')
  process.stdin.on('data', (chunk) => {
    const lines = (rest + chunk).split('\\n')
    rest = lines.pop().slice(-1000000)
    for (const line of lines) {
      let asked
      try {
        asked = JSON.parse(line)
      } catch {
        continue
      }
      if (asked === null || typeof asked.method !== 'string' || asked.id === undefined || asked.id === null) continue
      process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id: asked.id, error: { code: -32603, message: text } }) + '\\n')
    }
  })
  process.stdin.on('end', () => process.exit(8))
}

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < ${NODE.major} || (major === ${NODE.major} && minor < ${NODE.minor}))
  say(
    'This extension needs Node ${NODE.major}.${NODE.minor} or newer, and was started with ' + process.versions.node +
      '. In Claude Desktop, switch on "Use Built-in Node.js for MCP" (Settings, Extensions, Advanced settings), or install a newer Node.',
  )
else
  import('${ENTRY}')
    .then(({ start }) => start(require('./carried.json')))
    .catch((error) => say('This extension could not start: ' + error.message))
`
