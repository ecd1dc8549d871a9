import type { LockAsk, LockRow } from '../api/contract.ts'
import { ChaperoneError } from '../errors.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, segment, withApi, withJson, withServer, withWait } from './connection.ts'
import { line, list, moment, printable, printJson } from './output.ts'

type Flags = ServerFlags & { json?: boolean }
/** As LOCK_KINDS of the contract, which would be loaded for a page of help. */
const KINDS = [
  'identity',
  'owner',
  'agents',
  'session',
  'credential',
  'resource',
  'tool',
  'role',
  'everything',
] as const satisfies readonly LockAsk['kind'][]
const WITHOUT_TARGET: readonly string[] = ['everything', 'agents']

export const register: Register = (command) => {
  withJson(withServer(command.command('add').description('stop something at once, and cut what is live')))
    .argument('<kind>', KINDS.join(', '))
    .argument('[target]', 'its name or id; a resource as kind/name, a tool as server/tool; nothing for agents (every one) and everything')
    .requiredOption('--reason <text>', 'why; stands in the record and in what is refused')
    .option('--ttl <duration>', 'lifts itself after this time, such as 1h; default: it holds until it is lifted')
    .addHelpText(
      'after',
      `
Kinds:
  identity NAME       a user or an agent, and whatever acts for it
  owner NAME          the agents of a person, not the person
  agents              every agent at once
  session ID          one run; the end of its id is enough
  credential ID       one certificate or token, crd_…
  resource KIND/NAME  what is reached: an MCP server, a database
  tool SERVER/TOOL    one tool of an MCP server
  role NAME           whoever holds it
  everything          all that is reached, by anybody

Example:
  chaperone lock add identity boris/claude-code --reason "looks hijacked"`,
    )
    .action(async (kind: string, target: string | undefined, flags: Flags & { reason: string; ttl?: string }) => {
      if (!(KINDS as readonly string[]).includes(kind))
        throw new ChaperoneError('usage', `${kind} cannot be locked.`, { fix: `Write one of ${KINDS.join(', ')}.` })
      if ((target === undefined) !== WITHOUT_TARGET.includes(kind))
        throw new ChaperoneError('usage', target === undefined ? 'Say what is to be locked.' : `${kind} takes no target.`, {
          fix: 'For example: lock add identity NAME --reason TEXT',
        })
      const ask: LockAsk = {
        kind: kind as LockAsk['kind'],
        target: target ?? '*',
        reason: flags.reason,
        ...(flags.ttl === undefined ? {} : { ttl: flags.ttl }),
      }
      const row = await withApi(flags, (api) => api.call<LockRow>('POST', '/v1/locks', ask))
      if (flags.json) return printJson(row)
      const took = row.acknowledgedMs === undefined ? '' : `, confirmed by every node after ${Math.round(row.acknowledgedMs)} ms`
      line(`Locked ${printable(named(row))}${took}. Lift it with: chaperone lock lift ${row.id}`)
    })

  withJson(withServer(command.command('ls').description('the locks that hold'))).action(async (flags: Flags) => {
    const { locks } = await withApi(flags, (api) => api.call<{ locks: LockRow[] }>('GET', '/v1/locks'))
    list(
      locks,
      [
        { title: 'ID', of: (row) => row.id, whole: true },
        { title: 'KIND', of: (row) => row.kind },
        { title: 'TARGET', of: (row) => row.name },
        { title: 'BY', of: (row) => row.createdBy ?? row.madeBy },
        { title: 'SINCE', of: (row) => moment(row.createdAt) },
        { title: 'UNTIL', of: (row) => moment(row.expiresAt) },
        { title: 'REASON', of: (row) => row.reason },
      ],
      { json: flags.json, none: 'Nothing is locked.' },
    )
  })

  withWait(withServer(command.command('lift').description('lift a lock')))
    .argument('<id>', 'as `chaperone lock ls` shows it')
    .addHelpText('after', '\nExample:\n  chaperone lock lift lck_01kaxxxxxxxxxxxxxxxxxxxxxx')
    .action(async (id: string, flags: Flags) => {
      await withApi(flags, (api) => api.call('DELETE', `/v1/locks/${segment(id)}`))
      line(`Lifted ${printable(id)}.`)
    })
}

/** Where the name says the kind already, it is enough. */
const named = ({ kind, name }: LockRow): string => (WITHOUT_TARGET.includes(kind) || kind === 'owner' ? name : `${kind} ${name}`)
