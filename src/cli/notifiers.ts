import type { NotifierList, NotifierTested } from '../api/contract.ts'
import { ChaperoneError } from '../errors.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, list, moment, printable, printJson } from './output.ts'

type Flags = ServerFlags & { json?: boolean }

export const register: Register = (command) => {
  withJson(withServer(command.command('ls').description('notifiers, what waits in their queues, and why the last attempt failed'))).action(
    async (flags: Flags) => {
      const { notifiers } = await withApi(flags, (api) => api.call<NotifierList>('GET', '/v1/notifiers'))
      list(
        notifiers,
        [
          { title: 'NAME', of: (row) => row.name },
          { title: 'BY', of: (row) => row.way },
          { title: 'ON', of: (row) => row.on.join(', ') },
          { title: 'WAITING', of: (row) => row.waiting },
          { title: 'SINCE', of: (row) => (row.oldest === undefined ? '' : moment(row.oldest)) },
          { title: 'GIVEN UP', of: (row) => (row.lost === undefined ? row.givenUp : `${row.givenUp} (${row.lost} for want of room)`) },
          { title: 'LAST ERROR', of: (row) => row.lastError ?? '' },
        ],
        { json: flags.json, none: 'Nobody outside is told of anything. Apply a document of the kind `notifier`.' },
      )
    },
  )

  withJson(withServer(command.command('test').description('send one test message now; mail goes to the trait `email` of whoever asks')))
    .argument('<name>', 'of a notifier that was applied')
    .addHelpText('after', '\nExample:\n  chaperone notifiers test on-call')
    .action(async (name: string, flags: Flags) => {
      const tested = await withApi(flags, (api) => api.call<NotifierTested>('POST', `/v1/notifiers/${segment(name)}/test`, {}))
      if (flags.json) printJson(tested)
      else if (tested.ok) line(`${printable(name)} took the test message.`)
      if (!tested.ok)
        throw new ChaperoneError('upstream_unavailable', `${printable(name)} did not take the test message: ${tested.error}.`, {
          fix: 'Mend the notifier, its secret or the receiver, then try again.',
        })
    })
}
