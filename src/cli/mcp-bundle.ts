import type { Command } from 'commander'
import { profileIfKnown, type ServerFlags, withJson, withServer } from './connection.ts'
import { line, printable, printJson, say } from './output.ts'
import { sayUnknownServers } from './resources.ts'
import { version } from './version.ts'

interface BundleFlags extends ServerFlags {
  readonly out?: string
  readonly json?: boolean
}

export function bundling(command: Command): void {
  withJson(
    withServer(command.command('bundle').description('a bundle (.mcpb) that Claude Desktop installs by a double click; nothing else need be there')),
  )
    .argument('[name]', 'name of the MCP server; default: all that one may use, as one')
    .option('--out <file>', 'default: chaperone.mcpb, or chaperone-NAME.mcpb')
    .addHelpText('after', '\nExamples:\n  chaperone mcp bundle\n  chaperone mcp bundle github --out github.mcpb')
    .action(async (name: string | undefined, flags: BundleFlags) => {
      const { writeFile } = await import('node:fs/promises')
      const { bundle, manifestOf } = await import('../client/config/bundle.ts')
      const profile = await profileIfKnown(flags)
      const options = {
        version: version(),
        ...(name === undefined ? {} : { mcp: name }),
        ...(profile ? { first: { address: profile.address, authorities: profile.bundles.server } } : {}),
      }
      const file = flags.out ?? `${manifestOf(options).name}.mcpb`
      await writeFile(file, await bundle(options), { mode: 0o644 })
      if (name !== undefined && profile) await sayUnknownServers([name], flags)
      if (flags.json) printJson({ file, server: profile?.address ?? null })
      else line(`Wrote ${printable(file)}. Open it with Claude Desktop: whoever uses it signs in with his browser.`)
      if (!profile) say('you are not signed in, so it does not say where Chaperone is: whoever uses it is signed in already, or enters that')
    })
}
