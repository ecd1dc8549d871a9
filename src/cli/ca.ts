import type { AuthorityRow } from '../api/contract.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, list, moment, printJson } from './output.ts'

const PURPOSE = 'identity, server, or database:NAME'
type Flags = ServerFlags & { json?: boolean }

export const register: Register = (command) => {
  withJson(withServer(command.command('show').description('the authorities, with the fingerprints that invitations carry')))
    .argument('[purpose]', `one authority, as PEM: ${PURPOSE}`)
    .addHelpText('after', '\nExample:\n  chaperone ca show database:orders > chaperone-ca.crt      # for ssl_ca_file of that database')
    .action(async (purpose: string | undefined, flags: Flags) => {
      if (purpose !== undefined) {
        const shown = await withApi(flags, (api) => api.call<{ purpose: string; pem: string }>('GET', `/v1/ca/${segment(purpose)}`))
        if (flags.json) printJson(shown)
        else process.stdout.write(shown.pem)
        return
      }
      const { authorities } = await withApi(flags, (api) => api.call<{ authorities: AuthorityRow[] }>('GET', '/v1/ca'))
      list(
        authorities,
        [
          { title: 'PURPOSE', of: (row) => row.purpose },
          { title: 'STATE', of: (row) => row.state },
          { title: 'SINCE', of: (row) => moment(row.createdAt) },
          { title: 'UNTIL', of: (row) => moment(row.believedUntil ?? row.notAfter) },
          { title: 'FINGERPRINT', of: (row) => row.fingerprint },
        ],
        { json: flags.json, none: 'There is no authority yet.' },
      )
    })

  withJson(
    withServer(command.command('rotate').description('give an authority a new key; the old one is believed until its certificates have ended')),
  )
    .argument('<purpose>', PURPOSE)
    .addHelpText('after', '\nExample:\n  chaperone ca rotate database:orders')
    .action(async (purpose: string, flags: Flags) => {
      const made = await withApi(flags, (api) => api.call<{ fingerprint: string; believedUntil: number }>('POST', '/v1/ca/rotate', { purpose }))
      if (flags.json) return printJson(made)
      line(`The authority ${purpose} has a new key, ${made.fingerprint}. The old one is believed until ${moment(made.believedUntil)}.`)
    })
}
