import type { Command } from 'commander'
import type { Token } from '../api/contract.ts'
import { type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { line, printJson } from './output.ts'

/** `chaperone agent jwt` */
export function jwt(command: Command): void {
  withJson(withServer(command.command('jwt').description('a JWT-SVID: five minutes of who one is, for another server than Chaperone')))
    .requiredOption('--audience <url>', 'the one server that is to believe it')
    .addHelpText(
      'after',
      '\nExample:\n  curl -H "Authorization: Bearer $(chaperone agent jwt --audience https://api.example.com)" https://api.example.com/',
    )
    .action(async (flags: ServerFlags & { json?: boolean; audience: string }) => {
      const made = await withApi(flags, (api) => api.call<Token>('POST', '/v1/token', { audience: flags.audience }))
      if (flags.json) printJson(made)
      else line(made.token)
    })
}
