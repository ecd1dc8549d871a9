import type { Command } from 'commander'
import type { SignInPage } from '../client/sign-in-inside.ts'
import { ChaperoneError } from '../errors.ts'
import type { Register } from './commands.ts'
import { collect, holdOpen, keepFor, profileFor, runSocket, type ServerFlags, wholeNumber, withServer } from './connection.ts'
import { add } from './mcp-add.ts'
import { bundling } from './mcp-bundle.ts'
import { config } from './mcp-config.ts'
import { exporting } from './mcp-export.ts'
import { bring } from './mcp-import.ts'
import { login } from './mcp-login.ts'
import { listing } from './mcp-ls.ts'
import { pins } from './mcp-pins.ts'
import { line, say } from './output.ts'
import { stopSignal } from './terminal.ts'

type Flags = ServerFlags & { json?: boolean; client?: string; purpose?: string; profile?: string }

export const register: Register = (command) => {
  connect(command)
  proxy(command)
  listing(command)
  add(command)
  pins(command)
  login(command)
  config(command)
  bring(command)
  bundling(command)
  exporting(command)
}

function connect(command: Command): void {
  withServer(command.command('connect').description('speak MCP on stdin and stdout; desktop clients start this'))
    .argument('[name]', 'name of the MCP server; default: all that you may use, as one')
    .option('--client <name>', 'act as YOU/<name>; default: what the client calls itself')
    .option('--profile <name>', 'with no more of your rights than this profile says')
    .option('--purpose <text>', 'what this run is for; stands in every record')
    .addHelpText('after', '\nExamples:\n  chaperone mcp connect files\n  chaperone mcp connect --client cursor --purpose "the monthly report"')
    .action(async (name: string | undefined, flags: Flags) => {
      const { runShim } = await import('../client/shim.ts')
      const socket = runSocket(flags)
      const inside = socket === undefined ? undefined : await import('../client/running/inside.ts')
      const code = await runShim({
        server: name,
        input: process.stdin,
        output: process.stdout,
        say,
        connect: inside ? async () => inside.keeperInside() : (label) => keepFor(flags, label, say),
        ...(inside ? { plane: () => inside.planeInside(socket!) } : {}),
        signal: stopSignal(),
        ...(inside ? {} : { signIn: () => signInInside(flags) }),
        ...(flags.client === undefined ? {} : { client: flags.client }),
      })
      // stdin may still be open after a signal, and would keep the process waiting for a client that is not coming back.
      process.exit(code)
    })
}

/** The person's browser, while the client waits: nothing has to be started anew. */
async function signInInside(flags: Flags): Promise<SignInPage> {
  const { address, bundles, identity, session } = await profileFor(flags)
  if (identity.kind !== 'user') throw new ChaperoneError('unauthenticated', `${identity.name} is an agent: it joins again by itself.`)
  const { signInByBrowser } = await import('../client/browser-sign-in.ts')
  const { openProfiles } = await import('../client/profile.ts')
  return signInByBrowser({ address, authorities: bundles.server, name: identity.name, session }, { profiles: openProfiles(), say })
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
