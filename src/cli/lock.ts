import type { LockAsk, LockRow } from '../api/contract.ts'
import { ChaperoneError } from '../errors.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, list, moment, printable, printJson } from './output.ts'

type Flags = ServerFlags & { json?: boolean }
const KINDS = ['identity', 'session', 'resource', 'role', 'everything'] as const

export const register: Register = (command) => {
  withJson(withServer(command.command('add').description('stop something at once, and cut what is live')))
    .argument('<kind>', KINDS.join(', '))
    .argument('[target]', 'its name or id; a resource as kind/name; nothing for everything')
    .requiredOption('--reason <text>', 'why; stands in the record and in what is refused')
    .option('--ttl <duration>', 'lifts itself after this time')
    .addHelpText('after', '\nExample:\n  chaperone lock add identity boris/claude-code --reason "looks hijacked"')
    .action(async (kind: string, target: string | undefined, flags: Flags & { reason: string; ttl?: string }) => {
      if (!(KINDS as readonly string[]).includes(kind))
        throw new ChaperoneError('usage', `${kind} cannot be locked.`, { fix: `Write one of ${KINDS.join(', ')}.` })
      if ((target === undefined) !== (kind === 'everything'))
        throw new ChaperoneError('usage', 'Say what is to be locked.', { fix: 'For example: lock add identity NAME --reason TEXT' })
      const ask: LockAsk = {
        kind: kind as LockAsk['kind'],
        target: target ?? '*',
        reason: flags.reason,
        ...(flags.ttl === undefined ? {} : { ttl: flags.ttl }),
      }
      const row = await withApi(flags, (api) => api.call<LockRow>('POST', '/v1/locks', ask))
      if (flags.json) return printJson(row)
      const took = row.acknowledgedMs === undefined ? '' : `, confirmed by every node after ${Math.round(row.acknowledgedMs)} ms`
      line(`Locked ${printable(`${row.kind} ${row.name}`)}${took}. Lift it with: chaperone lock lift ${row.id}`)
    })

  withJson(withServer(command.command('ls').description('the locks that hold'))).action(async (flags: Flags) => {
    const { locks } = await withApi(flags, (api) => api.call<{ locks: LockRow[] }>('GET', '/v1/locks'))
    list(
      locks,
      [
        { title: 'ID', of: (row) => row.id, whole: true },
        { title: 'KIND', of: (row) => row.kind },
        { title: 'TARGET', of: (row) => row.name },
        { title: 'BY', of: (row) => row.createdBy },
        { title: 'SINCE', of: (row) => moment(row.createdAt) },
        { title: 'UNTIL', of: (row) => moment(row.expiresAt) },
        { title: 'REASON', of: (row) => row.reason },
      ],
      { json: flags.json, none: 'Nothing is locked.' },
    )
  })

  withServer(command.command('lift').description('lift a lock'))
    .argument('<id>')
    .action(async (id: string, flags: Flags) => {
      await withApi(flags, (api) => api.call('DELETE', `/v1/locks/${segment(id)}`))
      line(`Lifted ${printable(id)}.`)
    })
}
