import type { RequestDetail, RequestRow } from '../api/requests-contract.ts'
import { ChaperoneError } from '../errors.ts'
import type { Register } from './commands.ts'
import { query, type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { list, moment, printJson } from './output.ts'
import { asking } from './requests-ask.ts'
import { decisions } from './requests-decide.ts'
import { requestId } from './requests-find.ts'
import { printPaged, requestLines } from './requests-show.ts'
import { watching } from './requests-watch.ts'

type Flags = ServerFlags & { readonly json?: boolean }

const HELP = `
States:
  pending    waits for a decision            used       the call ran, once
  approved   was given                       unknown    it was sent; nobody can say what came of it
  denied     somebody said no                expired    its time is over
  withdrawn  taken back by who asked         revoked    taken away again

An id may be shortened to its end.`

/** What is asked for, and what becomes of it: roles for a while, single calls, MCP servers to be added. */
export const register: Register = (command) => {
  command.addHelpText('after', HELP)
  withJson(withServer(command.command('ls').description('requests: yours, those you can decide, all with the right to see them')))
    .option('--to-decide', 'only what you can decide now')
    .option('--mine', 'only what you asked for, or what acts for you')
    .option('--state <state>', 'only those in this state, such as pending')
    .option('--kind <kind>', 'access, call or server')
    .addHelpText('after', '\nExamples:\n  chaperone requests ls --to-decide\n  chaperone requests ls --mine --state pending')
    .action(async (flags: Flags & { toDecide?: boolean; mine?: boolean; state?: string; kind?: string }) => {
      if (flags.toDecide && flags.mine) throw new ChaperoneError('usage', 'What is yours you cannot decide.', { fix: 'Give --to-decide or --mine.' })
      const mine = flags.toDecide ? 'to_decide' : flags.mine ? 'asked' : undefined
      const path = `/v1/requests${query({ mine, state: flags.state, kind: flags.kind })}`
      const { requests } = await withApi(flags, (api) => api.call<{ requests: RequestRow[] }>('GET', path))
      list(
        requests,
        [
          { title: 'ID', of: (row) => row.id, whole: true },
          { title: 'STATE', of: (row) => row.state },
          { title: 'WHAT', of: (row) => (row.kind === 'call' ? `${row.summary} on ${row.resource}` : row.summary) },
          { title: 'ASKED BY', of: (row) => row.by },
          { title: 'SINCE', of: (row) => moment(row.createdAt) },
          {
            title: 'UNTIL',
            of: (row) => moment(row.state === 'approved' ? (row.endsAt ?? row.expiresAt) : row.state === 'pending' ? row.expiresAt : undefined),
          },
          { title: 'DECIDED BY', of: (row) => row.decidedBy },
          { title: 'REASON', of: (row) => row.reason },
        ],
        { json: flags.json, none: flags.toDecide ? 'Nothing waits for you.' : 'Nothing was asked for.' },
      )
    })
  withJson(withServer(command.command('show').description('one request: exactly what will run, who asks and why')))
    .argument('<id>', 'of the request, or the end of it')
    .option('--as-written', 'SQL with the lines and spaces of who wrote it, not laid out anew')
    .addHelpText('after', '\nExample:\n  chaperone requests show 7k3m')
    .action(async (id: string, flags: Flags & { asWritten?: boolean }) => {
      const detail = await withApi(flags, async (api) => api.call<RequestDetail>('GET', `/v1/requests/${await requestId(api, id)}`))
      if (flags.json) return printJson(detail)
      await printPaged(requestLines(detail, { asWritten: flags.asWritten }))
    })
  asking(command)
  decisions(command)
  watching(command)
}
