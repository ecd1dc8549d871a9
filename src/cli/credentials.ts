import type { UpstreamCredentials } from '../api/upstream-credentials-contract.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { line, list, moment, printable } from './output.ts'

export const register: Register = (command) => {
  withJson(
    withServer(
      command.command('ls').description('every credential with which Chaperone reaches what is behind it: that it exists, never what it is'),
    ),
  )
    .option('--hints', 'only those that somebody should look at')
    .addHelpText('after', '\nExamples:\n  chaperone credentials ls\n  chaperone credentials ls --hints')
    .action(async (flags: ServerFlags & { json?: boolean; hints?: boolean }) => {
      const { credentials } = await withApi(flags, (api) => api.call<UpstreamCredentials>('GET', '/v1/upstream-credentials'))
      const shown = flags.hints ? credentials.filter(({ hints }) => hints.length > 0) : credentials
      list(
        shown,
        [
          { title: 'KIND', of: (row) => row.kind },
          { title: 'NAME', of: (row) => (row.of === undefined ? row.name : `${row.name} of ${row.of}`) },
          { title: 'USED BY', of: (row) => (row.usedBy.length === 0 ? '-' : row.usedBy.join(', ')) },
          { title: 'SET', of: (row) => (row.setAt === undefined ? '-' : moment(row.setAt)) },
          { title: 'BY', of: (row) => row.setBy ?? '-' },
          { title: 'LAST USED', of: (row) => (row.usedAt === undefined ? '-' : moment(row.usedAt)) },
          { title: 'UNTIL', of: (row) => (row.over ? 'over' : row.expiresAt === undefined ? '-' : moment(row.expiresAt)) },
          { title: 'FROM', of: (row) => [row.from, row.bound && '(bound to a key)'].filter(Boolean).join(' ') },
        ],
        { json: flags.json, none: flags.hints ? 'Nothing needs a look.' : 'There is none.' },
      )
      if (flags.json) return
      for (const { kind, name, hints } of shown) for (const hint of hints) line(`${printable(`${kind} ${name}`)}: ${printable(hint)}`)
    })
}
