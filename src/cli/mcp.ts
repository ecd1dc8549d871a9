import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { CLIENTS, type Client, configFile, configText, type Entry } from '../client/config.ts'
import { ChaperoneError } from '../errors.ts'
import { prefixOf } from '../gateways/mcp/many/exposed-names.ts'
import type { Register } from './commands.ts'
import { collect, holdOpen, keepFor, type ServerFlags, wholeNumber, withJson, withServer } from './connection.ts'
import { add } from './mcp-add.ts'
import { login } from './mcp-login.ts'
import { pins } from './mcp-pins.ts'
import { line, say } from './output.ts'
import { listResources, visibleResources } from './resources.ts'
import { stopSignal } from './terminal.ts'

type Flags = ServerFlags & { json?: boolean; client?: string; purpose?: string }

export const register: Register = (command) => {
  connect(command)
  proxy(command)
  withJson(
    withServer(command.command('ls').description('the MCP servers that you may see; `chaperone` is our own, at which agents ask for access')),
  ).action((flags: Flags) => listResources(flags, 'mcp', 'There is no MCP server that you may see.'))
  add(command)
  pins(command)
  login(command)
  config(command)
}

function connect(command: Command): void {
  withServer(command.command('connect').description('speak MCP on stdin and stdout; desktop clients start this'))
    .argument('[name]', 'name of the MCP server; default: all that you may use, as one')
    .option('--client <name>', 'act as YOU/<name>; default: what the client calls itself')
    .option('--purpose <text>', 'what this run is for; stands in every record')
    .addHelpText('after', '\nExamples:\n  chaperone mcp connect files\n  chaperone mcp connect --client cursor --purpose "the monthly report"')
    .action(async (name: string | undefined, flags: Flags) => {
      const { runShim } = await import('../client/shim.ts')
      const code = await runShim({
        server: name,
        input: process.stdin,
        output: process.stdout,
        say,
        connect: (label) => keepFor(flags, label, say),
        signal: stopSignal(),
        ...(flags.client === undefined ? {} : { client: flags.client }),
      })
      // stdin may still be open after a signal, and would keep the process waiting for a client that is not coming back.
      process.exit(code)
    })
}

function proxy(command: Command): void {
  withServer(command.command('proxy').description('an MCP endpoint on the loopback, for clients that speak only HTTP'))
    .argument('[name]', 'name of the MCP server; default: all that you may use, as one')
    .option('--port <number>', 'default: any free one', wholeNumber('--port', 0, 65_535))
    .option('--origin <url>', 'a web page that may call it, for example http://localhost:6274; may be repeated', collect)
    .option('--client <name>', 'act as YOU/<name>', 'mcp-proxy')
    .option('--purpose <text>', 'what this run is for; stands in every record')
    .action(async (name: string | undefined, flags: Flags & { port?: number; origin?: string[] }) => {
      const stop = stopSignal()
      const keeper = await keepFor(flags, flags.client ?? 'mcp-proxy', say)
      const { openLoopback } = await import('../client/loopback.ts')
      const loopback = await openLoopback({ server: name, keeper, port: flags.port ?? 0, origins: flags.origin ?? [] })
      line(loopback.url)
      say(`whoever knows this URL acts as you on ${name ?? 'every server that you may use'}, until this process ends`)
      await holdOpen(loopback, keeper, stop)
    })
}

/** What the one entry for all servers is called in a client's file. */
const ONE = 'chaperone'

function config(command: Command): void {
  withServer(command.command('config').description('configuration that makes a client use Chaperone'))
    .argument('<client>', CLIENTS.join(', '))
    .argument('[names...]', 'MCP servers; default: all that `mcp ls` lists')
    .option('--one', 'one entry, `chaperone`, for all servers that you may use, now and later')
    .option('--write', "edit the client's file, and keep everything else in it")
    .option('--file <path>', 'another file than the usual one')
    .option('--command <path>', 'how the client starts Chaperone; default: this very installation')
    .addHelpText('after', '\nExamples:\n  chaperone mcp config claude-code files --write\n  chaperone mcp config cursor --one --write')
    .action(async (client: string, names: string[], flags: ServerFlags & { one?: boolean; write?: boolean; file?: string; command?: string }) => {
      if (!(CLIENTS as readonly string[]).includes(client))
        throw new ChaperoneError('usage', `${client} is not known.`, { fix: `Write one of ${CLIENTS.join(', ')}.` })
      if (flags.one && names.length > 0)
        throw new ChaperoneError('usage', '--one is for all servers.', { fix: 'Leave the names out, or leave --one out.' })
      const servers = flags.one ? [ONE] : names.length > 0 ? names : (await visibleResources(flags, 'mcp')).map((row) => row.name)
      if (servers.length === 0)
        throw new ChaperoneError('not_found', 'There is no MCP server that you may see.', { fix: 'Name one, or ask your administrator for a role.' })
      const entries = servers.map((name) => entryFor(entryName(name), flags.one ? [] : [name], client, flags))
      if (!flags.write) return void process.stdout.write(configText(client as Client, '', entries))
      const { file, changed } = await writeConfig(client as Client, entries, flags.file)
      line(changed ? `Wrote ${servers.join(', ')} to ${file}. Start ${client} again to see it.` : `${file} has it already.`)
    })
}

/** Clients take letters, digits, `_` and `-`; the tools of a database have a slash in their name. */
const entryName = (server: string) => (server.includes('/') ? prefixOf(server) : server)

/** Desktop programs have no shell and often no PATH: Node and the script are named by their full paths. */
function entryFor(name: string, servers: readonly string[], client: string, flags: ServerFlags & { command?: string }): Entry {
  const args = ['mcp', 'connect', ...servers, '--client', client, ...(flags.server === undefined ? [] : ['--server', flags.server])]
  const env: Record<string, string> = process.env.CHAPERONE_HOME ? { CHAPERONE_HOME: process.env.CHAPERONE_HOME } : {}
  if (flags.command !== undefined) return { name, command: flags.command, args, env }
  const script = fileURLToPath(new URL('../../bin/chaperone.js', import.meta.url))
  return { name, command: process.execPath, args: [script, ...args], env }
}

async function writeConfig(client: Client, entries: readonly Entry[], given?: string): Promise<{ file: string; changed: boolean }> {
  const { mkdir, realpath, stat } = await import('node:fs/promises')
  const { writePrivately } = await import('../client/profile.ts')
  let file = given ?? configFile(client)
  let before = ''
  let mode = 0o600
  try {
    // A link into a folder of dotfiles stays a link.
    file = await realpath(file)
    before = await readFile(file, 'utf8')
    mode = (await stat(file)).mode & 0o777
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    await mkdir(dirname(file), { recursive: true })
  }
  const after = configText(client, before, entries)
  if (after === before) return { file, changed: false }
  await writePrivately(file, after, mode)
  return { file, changed: true }
}
