import type { Command } from 'commander'
import { line, printable } from './output.ts'
import { version } from './version.ts'

interface BundleFlags {
  readonly out?: string
  readonly command?: string
  readonly server?: string
}

export function bundling(command: Command): void {
  command
    .command('bundle')
    .description('a bundle (.mcpb) that Claude Desktop installs by a double click')
    .argument('[name]', 'name of the MCP server; default: all that one may use, as one')
    .option('--out <file>', 'default: chaperone.mcpb, or chaperone-NAME.mcpb')
    .option('--command <path>', 'where Chaperone is on the computers that it is for; default: this very installation, then the usual places')
    .option('--server <host:port>', 'the Chaperone server; default: the one that is signed in to there')
    .addHelpText('after', '\nExamples:\n  chaperone mcp bundle\n  chaperone mcp bundle github --out github.mcpb --command /usr/local/bin/chaperone')
    .action(async (name: string | undefined, flags: BundleFlags) => {
      const { writeFile } = await import('node:fs/promises')
      const { bundle, manifestOf } = await import('../client/config/bundle.ts')
      const options = {
        version: version(),
        ...(name === undefined ? {} : { server: name }),
        ...(flags.command === undefined ? {} : { command: flags.command }),
        ...(flags.server === undefined ? {} : { address: flags.server }),
      }
      const file = flags.out ?? `${manifestOf(options).name}.mcpb`
      await writeFile(file, bundle(options), { mode: 0o644 })
      line(`Wrote ${printable(file)}. Open it with Claude Desktop on a computer where Chaperone is signed in.`)
    })
}
