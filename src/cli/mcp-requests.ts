import type { Command } from 'commander'
import type { RequestRow } from '../api/contract.ts'
import { type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, list, moment, printable, printJson } from './output.ts'

type Flags = ServerFlags & { json?: boolean }

/** What people have asked to be added. */
export function requests(command: Command): void {
  const group = command.command('requests').description('MCP servers that somebody asked for: ls, show, deny, withdraw')
  withJson(withServer(group.command('ls').description('your requests; all of them for who may apply'))).action(async (flags: Flags) => {
    const { requests } = await withApi(flags, (api) => api.call<{ requests: RequestRow[] }>('GET', '/v1/requests'))
    list(
      requests,
      [
        { title: 'ID', of: (row) => row.id, whole: true },
        { title: 'STATE', of: (row) => row.state },
        { title: 'SERVER', of: (row) => row.wish.name },
        { title: 'ASKED BY', of: (row) => row.by },
        { title: 'SINCE', of: (row) => moment(row.createdAt) },
        { title: 'DECIDED BY', of: (row) => row.decidedBy },
        { title: 'REASON', of: (row) => row.reason },
      ],
      { json: flags.json, none: 'Nothing was asked for.' },
    )
  })
  withJson(withServer(group.command('show').description('what is asked for')))
    .argument('<id>')
    .action(async (id: string, flags: Flags) => {
      const row = await withApi(flags, (api) => api.call<RequestRow>('GET', `/v1/requests/${segment(id)}`))
      if (flags.json) return printJson(row)
      const { serverYaml } = await import('./mcp-yaml.ts')
      line(`${row.id}: ${row.state}, asked by ${printable(row.by)}, ${moment(row.createdAt)}`)
      line(`reason  ${printable(row.reason)}`)
      if (row.decidedBy !== undefined) line(`decided by ${printable(row.decidedBy)}, ${moment(row.decidedAt)}`)
      process.stdout.write(serverYaml(row.wish, undefined))
      if (row.state === 'pending') line(`To look at it and add it: chaperone mcp add --request ${row.id} --apply`)
    })
  withServer(group.command('deny').description('turn a request down'))
    .argument('<id>')
    .requiredOption('--reason <text>', 'why; stands in the record')
    .action(async (id: string, flags: Flags & { reason: string }) => {
      await withApi(flags, (api) => api.call('POST', `/v1/requests/${segment(id)}/decide`, { state: 'denied', reason: flags.reason }))
      line(`${printable(id)} is denied.`)
    })
  withServer(group.command('withdraw').description('take back what you asked for'))
    .argument('<id>')
    .action(async (id: string, flags: Flags) => {
      await withApi(flags, (api) => api.call('POST', `/v1/requests/${segment(id)}/withdraw`, {}))
      line(`${printable(id)} is withdrawn.`)
    })
}
