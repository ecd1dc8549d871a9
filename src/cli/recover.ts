import type { Register } from './commands.ts'
import { collect } from './connection.ts'
import { line, moment, printable, printJson } from './output.ts'

export const register: Register = (command) => {
  command
    .argument('<name>', 'an administrator')
    .option('--lift', 'lift the locks that fall on this person, and enable who is disabled')
    .option('--data-dir <dir>', 'as given to `chaperone up`; default: $XDG_DATA_HOME/chaperone')
    .option('--store <url>', 'as given to `chaperone up`')
    .option('--root-key <file>', 'as given to `chaperone up`')
    .option('--root-passphrase-file <file>', 'as given to `chaperone up`')
    .option('--listen <host:port>', 'as given to `chaperone up`: the invitation leads there (default: 127.0.0.1:7443)')
    .option('--web-listen <host:port>', 'as given to `chaperone up` (default: 127.0.0.1:7444)')
    .option('--public-host <name>', 'as given to `chaperone up`', collect)
    .option('--web-url <url>', 'as given to `chaperone up`')
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `
For whoever has the machine of the server, its store and its root key, when no administrator who is left can or will
invite. It makes one invitation for one hour, and a record. On SQLite, stop the server first; on PostgreSQL it may run.

Examples:
  chaperone recover dana
  chaperone recover dana --lift      whoever is left has locked her`,
    )
    .action(async (name: string, { lift, json, ...flags }: { lift?: boolean; json?: boolean; dataDir?: string }) => {
      const { recover } = await import('../server/recover.ts')
      const { defaultDataDir, readOptions } = await import('../server/options.ts')
      const { systemClock } = await import('../clock.ts')
      const options = readOptions({ ...flags, dataDir: flags.dataDir ?? defaultDataDir() } as Parameters<typeof readOptions>[0])
      const made = await recover(options, name, { lift: lift === true, clock: systemClock })
      if (json) return printJson(made)
      for (const { id, reason } of made.lifted) process.stderr.write(`lifted ${id}: ${printable(reason)}\n`)
      if (made.enabled) process.stderr.write(`${name} is enabled again\n`)
      line(`chaperone login '${made.line}'`)
      process.stderr.write(`It works once, until ${moment(made.expiresAt)}, and ends the factor and the passkeys that ${name} has had.\n`)
      process.stderr.write(`With a browser only: ${made.browser}\n`)
    })
}
