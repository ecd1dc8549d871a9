import type { DelegationRow } from '../api/delegations-contract.ts'
import type { Register } from './commands.ts'
import { query, type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, list, moment, printable, printJson } from './output.ts'

type Flags = ServerFlags & { json?: boolean; of?: string; all?: boolean }

export const register: Register = (command) => {
  withJson(withServer(command.command('ls').description('who acts for whom; what you and your agents gave, or all with the right to see them')))
    .option('--of <name>', 'only those given by or to this identity')
    .option('--all', 'also those that have ended')
    .addHelpText('after', '\nExamples:\n  chaperone delegations ls\n  chaperone delegations ls --of boris/claude-code --all')
    .action(async (flags: Flags) => {
      const path = `/v1/delegations${query({ of: flags.of, all: flags.all ? '1' : undefined })}`
      const { delegations } = await withApi(flags, (api) => api.call<{ delegations: DelegationRow[] }>('GET', path))
      list(
        delegations,
        [
          { title: 'ID', of: (row) => row.id, whole: true },
          { title: 'WHO', of: (row) => row.to },
          { title: 'FOR', of: (row) => row.from },
          { title: 'HOW', of: (row) => (row.client === undefined || row.to.endsWith(`/${row.client}`) ? row.how : `${row.how ?? ''} ${row.client}`) },
          { title: 'SINCE', of: (row) => moment(row.createdAt) },
          { title: 'UNTIL', of: untilText },
          { title: 'LEAVES', of: (row) => (row.leaves.length === 0 ? 'everything' : row.leaves.join(' ')) },
        ],
        { json: flags.json, none: 'Nobody acts for anybody.' },
      )
    })

  withJson(withServer(command.command('show').description('one delegation: what was agreed to, by whom, and with what it ends')))
    .argument('<id>', 'its id, or the end of it')
    .addHelpText('after', '\nExample:\n  chaperone delegations show 7k3mq2')
    .action(async (id: string, flags: Flags) => {
      const row = await withApi(flags, (api) => api.call<DelegationRow>('GET', `/v1/delegations/${segment(id)}`))
      if (flags.json) return printJson(row)
      for (const [title, text] of linesOf(row)) line(`${title.padEnd(11)} ${printable(text)}`)
    })

  withJson(withServer(command.command('revoke').description('end a delegation, what was handed on under it, and cut what runs on it')))
    .argument('<id>', 'its id, or the end of it')
    .addHelpText('after', '\nExample:\n  chaperone delegations revoke 7k3mq2')
    .action(async (id: string, flags: Flags) => {
      const done = await withApi(flags, (api) => api.call<{ ended: string[] }>('DELETE', `/v1/delegations/${segment(id)}`))
      if (flags.json) return printJson(done)
      for (const one of done.ended) line(`Revoked ${printable(one)}.`)
    })
}

function untilText({ endedAt, endReason, expiresAt, session }: DelegationRow): string {
  if (endedAt !== undefined) return `ended ${moment(endedAt)}${endReason === undefined ? '' : `: ${endReason}`}`
  const parts = [...(expiresAt === undefined ? [] : [moment(expiresAt)]), ...(session === undefined ? [] : ['its session ends'])]
  return parts.length === 0 ? 'it is revoked' : parts.join(' or ')
}

function linesOf(row: DelegationRow): readonly (readonly [string, string])[] {
  return [
    ['delegation', row.id],
    ['who', `${row.to} acts for ${row.from}`],
    ['how', [row.how ?? 'unknown', row.client].filter((part) => part !== undefined).join(', ')],
    ...(row.madeBy === undefined ? [] : [['agreed by', row.madeBy] as const]),
    ['since', moment(row.createdAt)],
    ['until', untilText(row)],
    ...(row.session === undefined ? [] : [['session', row.session] as const]),
    ...(row.under === undefined ? [] : [['under', row.under] as const]),
    ...(row.leaves.length === 0
      ? [['leaves', 'everything that it may do for whom it acts'] as const]
      : row.leaves.map((text) => ['leaves', text] as const)),
    ['sessions', `${row.sessions} open here`],
    ...(row.words === undefined ? [] : [['words', row.words] as const]),
  ]
}
