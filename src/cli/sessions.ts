import type { SessionDetail, SessionNotice, SessionRow } from '../api/contract.ts'
import { ChaperoneError } from '../errors.ts'
import type { Register } from './commands.ts'
import { query, type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { jsonText, line, list, moment, printable, printJson, say } from './output.ts'
import { sessionLines } from './sessions-show.ts'
import { stopSignal } from './terminal.ts'

type Flags = ServerFlags & { json?: boolean; of?: string }

export const register: Register = (command) => {
  withJson(withServer(command.command('ls').description('live sessions; your own and those of your agents, or all with the right to see them')))
    .option('--of <name>', 'only those of this identity')
    .action(async (flags: Flags) => {
      const { sessions } = await withApi(flags, (api) => api.call<{ sessions: SessionRow[] }>('GET', `/v1/sessions${query({ of: flags.of })}`))
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
    })

  withJson(withServer(command.command('show').description('who acts for whom in a session, what hangs on it, what it did last')))
    .argument('<id>', 'its id, or the end of it')
    .addHelpText('after', '\nExample:\n  chaperone sessions show 7k3m')
    .action(async (id: string, flags: Flags) => {
      const session = await withApi(flags, (api) => api.call<SessionDetail>('GET', `/v1/sessions/${segment(id)}`))
      if (flags.json) return printJson(session)
      for (const text of sessionLines(session)) line(text)
    })

  withJson(withServer(command.command('kill').description('end a session and cut what is live in it')))
    .argument('[id]', 'its id, or the end of it')
    .option('--all-of <name>', 'every session of this identity, your present one excepted')
    .addHelpText('after', '\nExamples:\n  chaperone sessions kill 7k3m\n  chaperone sessions kill --all-of report-bot')
    .action(async (id: string | undefined, flags: Flags & { allOf?: string }) => {
      if ((id === undefined) === (flags.allOf === undefined))
        throw new ChaperoneError('usage', 'Say which session, or whose.', {
          fix: 'chaperone sessions kill ID, or: chaperone sessions kill --all-of NAME',
        })
      const path = id === undefined ? `/v1/sessions${query({ of: flags.allOf })}` : `/v1/sessions/${segment(id)}`
      const done = await withApi(flags, (api) => api.call<{ ended: string[] }>('DELETE', path))
      if (flags.json) return printJson(done)
      for (const one of done.ended) line(`Ended ${printable(one)}.`)
      if (done.ended.length === 0) line('There was none.')
    })

  withJson(withServer(command.command('watch').description('sessions, connections and locks as they come and go')))
    .option('--of <name>', 'only those of this identity')
    .action(async (flags: Flags) => {
      const stop = stopSignal()
      process.stderr.write('Waiting for sessions; Ctrl-C ends it.\n')
      await withApi(flags, async (api) => {
        for await (const notice of api.events<SessionNotice>(`/v1/sessions/watch${query({ of: flags.of })}`, stop)) {
          line(flags.json ? jsonText(notice) : noticeText(notice))
        }
      })
      if (!stop.aborted) say('the server has ended the watch')
    })
}

const noticeText = ({ at, type, session, who, text }: SessionNotice): string =>
  [moment(at), type.padEnd(18), who ?? '', session ?? '', text]
    .filter((part) => part !== '')
    .map(printable)
    .join('  ')
