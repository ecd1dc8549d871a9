import type { Command } from 'commander'
import type { IdentityRow } from '../api/contract.ts'
import { type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, printJson } from './output.ts'

type Flags = ServerFlags & { json?: boolean }

/** `chaperone agent disable` and `enable` */
export function states(command: Command): void {
  for (const [verb, state, summary] of [
    ['disable', 'disabled', 'stop an identity at once, and until it is enabled again'],
    ['enable', 'active', 'let a disabled or stopped identity work again; of an agent that is a review as well'],
  ] as const) {
    withJson(withServer(command.command(verb).description(summary)))
      .argument('<name>', 'of an agent or a user')
      .addHelpText('after', `\nExample:\n  chaperone agent ${verb} report-bot`)
      .action(async (name: string, flags: Flags) => {
        const row = await withApi(flags, (api) => api.call<IdentityRow>('POST', `/v1/identities/${segment(name)}/state`, { state }))
        if (flags.json) return printJson(row)
        line(`${row.kind} ${row.name} is ${row.state}.`)
      })
  }
}
