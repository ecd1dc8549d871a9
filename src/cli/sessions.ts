import type { SessionRow } from '../api/contract.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, list, moment, printable } from './output.ts'

type Flags = ServerFlags & { json?: boolean }

export const register: Register = (command) => {
  withJson(withServer(command.command('ls').description('live sessions; your own, or all with the right to see them'))).action(
    async (flags: Flags) => {
      const { sessions } = await withApi(flags, (api) => api.call<{ sessions: SessionRow[] }>('GET', '/v1/sessions'))
      list(
        sessions,
        [
          { title: 'ID', of: (row) => row.id, whole: true },
          { title: 'IDENTITY', of: (row) => row.identity },
          { title: 'HOW', of: (row) => row.how },
          { title: 'CLIENT', of: (row) => row.client },
          { title: 'SINCE', of: (row) => moment(row.startedAt) },
          { title: 'UNTIL', of: (row) => moment(row.expiresAt) },
          { title: 'LIVE', of: (row) => row.connections },
          { title: 'PURPOSE', of: (row) => row.purpose },
        ],
        { json: flags.json, none: 'There are no live sessions.' },
      )
    },
  )

  withServer(command.command('kill').description('end a session and cut what is live in it'))
    .argument('<id>')
    .action(async (id: string, flags: Flags) => {
      await withApi(flags, (api) => api.call('DELETE', `/v1/sessions/${segment(id)}`))
      line(`Ended ${printable(id)}.`)
    })
}
