import type { AgentDetail, AgentRole, AgentRow, InstanceRow } from '../api/agents-contract.ts'
import { formatDuration } from '../encoding/duration.ts'
import { moment, printable } from './output.ts'

const WHY: Readonly<Record<string, string>> = {
  hand: 'by hand',
  unused: 'nobody used it',
  unreviewed: 'nobody reviewed it in time',
  owner: 'its owner is disabled or gone',
  directory: 'it left the directory',
}

export const rolesText = ({ roles }: { readonly roles: readonly string[] | 'inherit' }): string =>
  roles === 'inherit' ? 'those of its owner' : roles.join(', ')

/** `active`, or `stopped: nobody used it` */
export const standingText = ({ state, stopped }: Pick<AgentRow, 'state' | 'stopped'>): string =>
  stopped === undefined ? state : `${state}: ${WHY[stopped] ?? stopped}`

/** When it will be stopped, or would be, if nobody does anything. */
export function termsText({ due, stopsAt }: Pick<AgentRow, 'due' | 'stopsAt'>): string {
  if (due === undefined) return ''
  const what = due.why === 'unused' ? 'unused' : 'review'
  return stopsAt === undefined ? `${what} ${moment(due.at)}` : `STOPS ${moment(stopsAt)} (${what})`
}

const day = (at: number) => moment(at).slice(0, 10)

/** One screen: whose it is, what runs, how it comes in, for whom it acts, what it may do, and how much of that it uses. */
export function agentLines(agent: AgentDetail): readonly string[] {
  const { terms, usage } = agent
  const term = (name: string, ms: number | undefined) => (ms === undefined ? [] : [`${name} ${formatDuration(ms)}`])
  const asked = [...term('unused', terms.unusedMs), ...term('review', terms.reviewMs)].join(', ')
  const reviewed =
    agent.reviewedAt === undefined ? 'never' : `${moment(agent.reviewedAt)}${agent.reviewedBy === undefined ? '' : ` by ${agent.reviewedBy}`}`
  return [
    ...row('agent', agent.name),
    ...row('owner', agent.owner ?? 'nobody'),
    ...row('state', standingText(agent)),
    ...row('used', agent.lastUsedAt === undefined ? 'never' : moment(agent.lastUsedAt)),
    ...row('reviewed', reviewed),
    ...row('terms', asked === '' ? 'none: it is never stopped by itself' : `${asked}${agent.due ? `; next ${termsText(agent)}` : ''}`),
    ...row('joins by', waysIn(agent)),
    ...section('running', agent.running.map(instanceText)),
    ...section('acts for', agent.delegations.map(delegationText)),
    ...agent.holds.flatMap((role) => roleLines(role)),
    ...(agent.holds.length === 0 ? row('roles', 'none: it may do nothing') : []),
    ...usageLines(usage),
  ]
}

const row = (title: string, text: string): string[] => [`${title.padEnd(10)} ${printable(text)}`]
const section = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : [title, ...lines.map((line) => `  ${printable(line)}`)]

function waysIn({ joins, openTokens, source }: AgentDetail): string {
  const ways = [
    ...joins.map(({ name, method }) => `${name} (${method})`),
    ...(openTokens === 0 ? [] : [`${openTokens} unused join ${openTokens === 1 ? 'token' : 'tokens'}`]),
    ...(source === 'client' ? ['its owner, when he is signed in'] : []),
  ]
  return ways.length === 0 ? 'no document; a join token, or issued: chaperone agent token' : ways.join(', ')
}

const instanceText = ({ id, where, state, startedAt, lastSeenAt, expiresAt, actionsToday, moreActions }: InstanceRow): string =>
  [
    id.slice(-8),
    where,
    `seen ${moment(lastSeenAt ?? startedAt)}`,
    `until ${moment(expiresAt)}`,
    `${actionsToday}${moreActions ? '+' : ''} today`,
    ...(state === 'live' ? [] : [state]),
  ].join('  ')

const delegationText = ({ from, to, how, client, words, expiresAt }: AgentDetail['delegations'][number]): string =>
  [
    `${from} > ${to}`,
    ...[how, client].filter((part) => part !== undefined),
    words ?? '',
    expiresAt === undefined ? 'until it is revoked' : `until ${moment(expiresAt)}`,
  ]
    .filter((part) => part !== '')
    .join('  ')

function roleLines({ name, missing, rules, mayAsk }: AgentRole): readonly string[] {
  const lines = rules.map(({ words, used }) => `${words}${used === false ? '   [not used]' : ''}`)
  const ask = mayAsk.length === 0 ? [] : [`may ask for the role ${mayAsk.join(', ')}`]
  return section(`role ${printable(name)}`, missing ? ['there is no such role: it gives nothing'] : [...lines, ...ask])
}

function usageLines(usage: AgentDetail['usage']): readonly string[] {
  if (!usage) return []
  const { days, actions, unclear, unused, since, proposed } = usage
  const looked = since === undefined ? `in ${days} days` : `since ${day(since)} (there is more than was looked at)`
  const counted = `${actions} ${actions === 1 ? 'action' : 'actions'} ${looked}${unclear === 0 ? '' : `, ${unclear} of them by a rule that nobody can name`}`
  const idle =
    unused === 0 ? 'every rule was used' : `${unused} ${unused === 1 ? 'rule that gives something was' : 'rules that give something were'} never used`
  return [
    ...row('did', `${counted}; ${idle}`),
    ...(proposed === '' || unused === 0 ? [] : ['just enough', ...proposed.split('\n').map((line) => `  ${printable(line)}`)]),
  ]
}
