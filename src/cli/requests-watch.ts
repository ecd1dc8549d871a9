import type { Command } from 'commander'
import type { RequestNotice, RequestRow } from '../api/requests-contract.ts'
import { type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { exposed } from './exposed.ts'
import { jsonText, line, moment } from './output.ts'
import { streamAgain } from './stream-again.ts'
import { stopSignal } from './terminal.ts'

export function watching(command: Command): void {
  withJson(withServer(command.command('watch').description('requests as they come and are decided, until you end it')))
    .option('--to-decide', 'only what you can decide, and what becomes of it')
    .addHelpText('after', '\nWith --json each line is one event.')
    .action(async (flags: ServerFlags & { json?: boolean; toDecide?: boolean }) => {
      const stop = stopSignal()
      const told = new Set<string>()
      let last: number | undefined
      const see = (type: string, row: RequestRow) => {
        last = Math.max(last ?? 0, row.updatedAt)
        const decides = row.state === 'pending' && row.standing.no === undefined
        if (flags.toDecide && !decides && !told.has(row.id)) return
        told.add(row.id)
        line(flags.json ? jsonText({ type, request: row }) : noticeText(type, row))
      }
      await streamAgain(stop, () =>
        withApi(flags, async (api) => {
          for await (const notice of api.events<RequestNotice>('/v1/requests/events', stop, last === undefined ? undefined : String(last))) {
            if (notice.type === 'snapshot')
              for (const row of [...notice.requests].reverse()) see(row.state === 'pending' ? 'waiting' : row.state, row)
            else if (notice.request) see(notice.type, notice.request)
          }
          return undefined
        }),
      )
    })
}

function noticeText(type: string, row: RequestRow): string {
  const on = row.resource === undefined || row.kind === 'access' ? '' : ` on ${row.resource}`
  return exposed(
    `${moment(row.updatedAt)}  ${type.replaceAll('_', ' ').padEnd(9)}  ${row.id}  ${row.chain.join(' → ')}: ${row.summary}${on}${row.reason === '' ? '' : ` (${row.reason})`}`.replaceAll(
      '\n',
      ' ',
    ),
  )
}
