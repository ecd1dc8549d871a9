import type { Command } from 'commander'
import { ChaperoneError } from '../errors.ts'
import { collect, type ServerFlags, withServer } from './connection.ts'
import { clientNamed, webOf } from './mcp-config.ts'
import { printJson, say } from './output.ts'
import { visibleResources } from './resources.ts'

interface ExportFlags extends ServerFlags {
  readonly command?: string
  readonly client?: readonly string[]
}

export function exporting(command: Command): void {
  withServer(command.command('export').description('what an administrator rolls out, so that clients reach nothing but Chaperone'))
    .argument('<what>', 'managed-settings (Claude Code, GitHub Copilot) or vscode (policies)')
    .option('--command <path>', 'managed-settings: how Chaperone is started on those computers; default: chaperone')
    .option('--client <name>', 'managed-settings: a client that starts the shim; may be repeated; default: claude-code', collect)
    .addHelpText(
      'after',
      '\nExamples:\n  chaperone mcp export managed-settings > managed-settings.json\n  chaperone mcp export vscode > /etc/vscode/policy.json',
    )
    .action(async (what: string, flags: ExportFlags) => {
      const { managedSettings, vscodePolicies } = await import('../client/config/managed.ts')
      if (what === 'vscode') {
        const web = await webOf(flags)
        printJson(vscodePolicies(web))
        return say(
          'it finds the servers at the registry API of Chaperone; some versions say `registryOnly` for `registry`: look at the policies of yours',
        )
      }
      if (what !== 'managed-settings') throw new ChaperoneError('usage', `${what} is not known.`, { fix: 'Write managed-settings or vscode.' })
      const clients = (flags.client ?? ['claude-code']).map(clientNamed)
      const servers = (await visibleResources(flags, 'mcp')).map(({ name }) => name)
      const way = { command: flags.command ?? 'chaperone' }
      printJson(managedSettings(await webOf(flags), servers, clients, way))
      say(`for Claude Code it belongs into ${MANAGED[process.platform] ?? MANAGED.linux}`)
    })
}

const MANAGED: Readonly<Record<string, string>> = {
  linux: '/etc/claude-code/managed-settings.json',
  darwin: '/Library/Application Support/ClaudeCode/managed-settings.json',
  win32: 'C:\\Program Files\\ClaudeCode\\managed-settings.json',
}
