import type { Command } from 'commander'
import type { RequestNotice, RequestRow } from '../api/requests-contract.ts'
import { sleepAwake } from '../client/sleep.ts'
import { systemClock } from '../clock.ts'
import { type ReasonCode, toChaperoneError } from '../errors.ts'
import { type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { exposed } from './exposed.ts'
import { jsonText, line, moment, say } from './output.ts'
import { stopSignal } from './terminal.ts'

const RETRY_MS = 2_000
const AGAIN = new Set<ReasonCode>(['upstream_unavailable', 'upstream_timeout', 'draining', 'credential_expired', 'too_slow'])

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
      while (!stop.aborted) {
        try {
          await withApi(flags, async (api) => {
            for await (const notice of api.events<RequestNotice>('/v1/requests/events', stop, last === undefined ? undefined : String(last))) {
              if (notice.type === 'snapshot')
                for (const row of [...notice.requests].reverse()) see(row.state === 'pending' ? 'waiting' : row.state, row)
              else if (notice.request) see(notice.type, notice.request)
            }
          })
        } catch (error) {
          const { code, message } = toChaperoneError(error)
          // It outlives the certificate that it was opened with, and begins again with the one of then.
          if (!AGAIN.has(code)) throw error
          if (code !== 'credential_expired') say(message)
        }
        if (!stop.aborted) await sleepAwake(systemClock, RETRY_MS, stop)
      }
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
