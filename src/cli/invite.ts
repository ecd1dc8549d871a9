import type { Invitation } from '../api/contract.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { line, moment, printJson } from './output.ts'

export const register: Register = (command) => {
  withJson(withServer(command))
    .argument('<name>', 'name of a user that was applied')
    .option('--ttl <duration>', 'how long it may be used, at most 7d; default: 24h')
    .addHelpText('after', '\nExample:\n  chaperone invite boris')
    .action(async (name: string, flags: ServerFlags & { json?: boolean; ttl?: string }) => {
      await withApi(flags, async (api) => {
        const made = await api.call<Invitation>('POST', '/v1/invitations', { name, ...(flags.ttl === undefined ? {} : { ttl: flags.ttl }) })
        if (flags.json) return printJson(made)
        line(`chaperone login '${made.invitation}'`)
        process.stderr.write(`Give this to ${name} over a channel you trust. It works once, until ${moment(made.expiresAt)}.\n`)
        if (made.browser) process.stderr.write(`Who needs a browser only opens this instead: ${made.browser}\n`)
      })
    })
}
