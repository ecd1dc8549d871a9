import type { Command } from 'commander'
import type { AgentRow, InstanceList, InstanceRow } from '../api/agents-contract.ts'
import type { IdentityRow } from '../api/contract.ts'
import { ChaperoneError } from '../errors.ts'
import { rolesText, standingText, termsText } from './agent-words.ts'
import { query, type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { list, moment, printJson } from './output.ts'

type Flags = ServerFlags & { json?: boolean; of?: string; agents?: boolean; all?: boolean; limit?: string }

const EXAMPLES = `
An instance is one running copy of an agent: its session, and the credentials that follow each other in it. To end one: chaperone sessions kill.

Examples:
  chaperone agent ls
  chaperone agent ls --of report-bot --json
  chaperone agent ls --agents`

/** So much of the end of an id is written: as much as every command takes, and two more. */
const SHOWN_OF_ID = 8

/** `chaperone agent ls` */
export function ls(command: Command): void {
  withJson(withServer(command.command('ls').description('running copies of agents; your own, or all with the right to see them')))
    .option('--of <name>', 'only those of this agent')
    .option('--limit <number>', 'at most so many; default: 100, and never more than 1000')
    .option('--agents', 'the agents themselves, whether they run or not: state, review, last use')
    .option('--all', 'every identity there is: users and nodes too')
    .addHelpText('after', EXAMPLES)
    .action(async (flags: Flags) => {
      if (flags.agents && flags.all) throw new ChaperoneError('usage', 'Give --agents or --all.')
      if (flags.all) return identities(flags)
      return flags.agents ? agents(flags) : instances(flags)
    })
}

async function instances(flags: Flags): Promise<void> {
  const path = `/v1/instances${query({ of: flags.of, limit: flags.limit })}`
  const answer = await withApi(flags, (api) => api.call<InstanceList>('GET', path))
  if (flags.json) return printJson(answer)
  list<InstanceRow>(
    answer.instances,
    [
      { title: 'ID', of: (row) => row.id.slice(-SHOWN_OF_ID), whole: true },
      { title: 'AGENT', of: (row) => row.agent },
      { title: 'OWNER', of: (row) => row.owner },
      { title: 'WHERE', of: (row) => row.where },
      { title: 'LAST SEEN', of: (row) => moment(row.lastSeenAt ?? row.startedAt) },
      { title: 'UNTIL', of: (row) => moment(row.expiresAt) },
      { title: 'TODAY', of: (row) => `${row.actionsToday}${row.moreActions ? '+' : ''}` },
      { title: 'ROLES', of: (row) => row.roles.join(', ') },
      { title: 'STATE', of: (row) => (row.why === undefined ? row.state : `${row.state}: ${row.why}`) },
    ],
    { none: flags.of === undefined ? 'No agent is running.' : `${flags.of} is not running.` },
  )
  if (answer.more) process.stderr.write('There are more: --limit, or --of NAME.\n')
}

async function agents(flags: Flags): Promise<void> {
  const { agents: all } = await withApi(flags, (api) => api.call<{ agents: AgentRow[] }>('GET', '/v1/agents'))
  const rows = flags.of === undefined ? all : all.filter(({ name }) => name === flags.of)
  list(
    rows,
    [
      { title: 'NAME', of: (row) => row.name },
      { title: 'OWNER', of: (row) => row.owner },
      { title: 'STATE', of: standingText },
      { title: 'RUNNING', of: (row) => row.instances },
      { title: 'LAST USED', of: (row) => (row.lastUsedAt === undefined ? 'never' : moment(row.lastUsedAt)) },
      { title: 'REVIEWED', of: (row) => (row.reviewedAt === undefined ? 'never' : moment(row.reviewedAt)) },
      { title: 'DUE', of: termsText },
      { title: 'ROLES', of: rolesText },
    ],
    { json: flags.json, none: 'There are no agents.' },
  )
}

async function identities(flags: Flags): Promise<void> {
  const { identities } = await withApi(flags, (api) => api.call<{ identities: IdentityRow[] }>('GET', '/v1/identities'))
  list(
    identities,
    [
      { title: 'NAME', of: (row) => row.name },
      { title: 'KIND', of: (row) => row.kind },
      { title: 'OWNER', of: (row) => row.owner },
      { title: 'STATE', of: (row) => row.state },
      { title: 'ROLES', of: rolesText },
      { title: 'SINCE', of: (row) => moment(row.createdAt) },
    ],
    { json: flags.json, none: 'There are no identities.' },
  )
}
