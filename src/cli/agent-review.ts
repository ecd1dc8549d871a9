import type { Command } from 'commander'
import { parse, stringify } from 'yaml'
import type { AgentDetail, AgentReview, AgentRow } from '../api/agents-contract.ts'
import type { Applied, Document } from '../api/contract.ts'
import type { Api } from '../client/api.ts'
import { ApiError } from '../client/api-error.ts'
import { ChaperoneError } from '../errors.ts'
import { agentLines, standingText, termsText } from './agent-words.ts'
import { printApplied } from './apply.ts'
import { type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, printable, printableLines, printJson } from './output.ts'
import { ask } from './terminal.ts'

interface Flags extends ServerFlags {
  readonly json?: boolean
  readonly all?: boolean
  readonly keep?: string
  readonly stop?: string
  readonly reason?: string
  readonly seen?: string
}

const HELP = `
Without a name: the agents that are due, one after the other. The owner of an agent reviews it, or whoever holds the verb
\`identities\`; it takes a second factor. To keep an agent renews its time; to narrow it gives it a role that is just enough for
what it did in 30 days (which takes the verb \`apply\`); to stop it disables it at once.

Examples:
  chaperone agent review
  chaperone agent review report-bot
  chaperone agent review --keep report-bot --reason "runs every month"
  chaperone agent review --stop old-bot --reason "replaced by report-bot"`

/** `chaperone agent review` */
export function review(command: Command): void {
  withJson(withServer(command.command('review').description('look at agents, and say whether they are still wanted')))
    .argument('[name]', 'of one agent, due or not')
    .option('--all', 'every agent that you may see, due or not')
    .option('--keep <name>', 'keep this one as it is, without asking: for scripts')
    .option('--stop <name>', 'stop this one at once, without asking')
    .option('--reason <text>', 'why; stands in the record. Required with --keep and --stop')
    .option('--seen <text>', '`seen` of what you looked at; when it is another by now, nothing is decided')
    .addHelpText('after', HELP)
    .action(async (name: string | undefined, flags: Flags) => {
      const alone = [flags.keep, flags.stop].filter((one) => one !== undefined)
      if (alone.length + (name === undefined ? 0 : 1) + (flags.all ? 1 : 0) > 1)
        throw new ChaperoneError('usage', 'Give one of a name, --all, --keep and --stop.')
      await withApi(flags, (api) => (alone.length > 0 ? decideAlone(api, flags) : walk(api, name, flags)))
    })
}

const show = (api: Api, name: string) => api.call<AgentDetail>('GET', `/v1/agents/${segment(name)}`)

const decide = (api: Api, name: string, body: AgentReview): Promise<AgentRow> =>
  api.call<AgentRow>('POST', `/v1/agents/${segment(name)}/review`, body)

async function decideAlone(api: Api, flags: Flags): Promise<void> {
  const name = flags.keep ?? flags.stop ?? ''
  if (flags.reason === undefined)
    throw new ChaperoneError('usage', 'Say why, for who reads the record later.', { fix: `chaperone agent review --keep ${name} --reason "…"` })
  const seen = flags.seen ?? (await show(api, name)).seen
  const row = await decide(api, name, { decision: flags.keep === undefined ? 'stop' : 'keep', reason: flags.reason, seen })
  if (flags.json) return printJson(row)
  line(resultText(row))
}

async function walk(api: Api, name: string | undefined, flags: Flags): Promise<void> {
  const query = flags.all ? '' : '?due=1'
  const names = name === undefined ? (await api.call<{ agents: AgentRow[] }>('GET', `/v1/agents${query}`)).agents : [await show(api, name)]
  if (flags.json) return printJson({ agents: names })
  if (names.length === 0) return void process.stderr.write('No agent waits for a review.\n')
  if (!process.stdin.isTTY) {
    for (const row of names) line(`${printable(row.name)}  ${standingText(row)}  ${termsText(row)}`)
    throw new ChaperoneError('usage', 'Nobody is here to look at them.', {
      fix: 'Run it at a terminal; a script gives --keep NAME or --stop NAME, and --reason.',
    })
  }
  for (const [i, row] of names.entries()) {
    if (names.length > 1) line(`${i === 0 ? '' : '\n'}${i + 1} of ${names.length}`)
    if (!(await one(api, row.name))) return
  }
}

/** Shows one agent and asks. Returns false when the person wants no more of them. */
async function one(api: Api, name: string): Promise<boolean> {
  const agent = await show(api, name)
  for (const text of agentLines(agent)) line(text)
  if (agent.state === 'stopped') {
    line(`It is stopped. To let it work again: chaperone agent enable ${printable(agent.name)}`)
    return true
  }
  const narrow = agent.usage !== undefined && agent.usage.unused > 0 && agent.usage.proposed !== ''
  for (;;) {
    const answer = (
      await ask(`\nKeep it as it is, ${narrow ? 'narrow it, ' : ''}stop it, or leave it for now? [k/${narrow ? 'n/' : ''}s/L, q] `)
    )?.toLowerCase()
    if (answer === undefined || answer === 'q') return false
    if (answer === '' || answer === 'l') return true
    if (answer === 'n' && narrow) {
      if (!(await narrowed(api, agent))) continue
      line(resultText(await decide(api, name, { decision: 'narrowed', seen: (await show(api, name)).seen })))
      return true
    }
    if (answer !== 'k' && answer !== 's') continue
    const reason = await ask(`Why ${answer === 'k' ? 'keep' : 'stop'} ${printable(agent.name)}? It stands in the record: `)
    const why = reason === undefined || reason === '' ? {} : { reason }
    line(resultText(await decide(api, name, { decision: answer === 'k' ? 'keep' : 'stop', seen: agent.seen, ...why })))
    return true
  }
}

/** Applies the proposed role and gives the agent that one alone, once the person has seen the difference. */
async function narrowed(api: Api, agent: AgentDetail): Promise<boolean> {
  const role = agent.usage?.proposed ?? ''
  const { name } = parse(role) as { readonly name: string }
  const text = `${role}\n---\n${stringify(await narrowDocument(api, agent, name))}`
  const files = [{ path: 'review.yaml', text }]
  try {
    const dry = await api.call<Applied>('POST', '/v1/apply', { files, dryRun: true })
    for (const { diff } of dry.changes) if (diff !== undefined) line(printableLines(diff))
    if (!/^y(?:es)?$/i.test((await ask('Apply this? [y/N] ')) ?? '')) return false
    printApplied(await api.call<Applied>('POST', '/v1/apply', { files }))
    return true
  } catch (error) {
    if (!(error instanceof ApiError) || (error.code !== 'no_rule' && error.code !== 'denied_by_rule')) throw error
    line('To change roles takes the verb `apply`, which you do not hold. Give this to somebody who does:\n')
    line(printableLines(text))
    return false
  }
}

/** Its own document with another role, or the first document of a client: it takes the place of all that its owner may. */
async function narrowDocument(api: Api, { name, owner }: AgentDetail, role: string): Promise<unknown> {
  try {
    const { kind, labels, spec } = await api.call<Document>('GET', `/v1/documents/agent/${segment(name)}`)
    return { kind, name, ...(Object.keys(labels).length === 0 ? {} : { labels }), spec: { ...(spec as object), roles: [role] } }
  } catch (error) {
    if (!(error instanceof ApiError) || (error.code !== 'not_found' && error.code !== 'no_rule')) throw error
    return { kind: 'agent', name, spec: { owner, roles: [role] } }
  }
}

const resultText = (row: AgentRow): string =>
  row.state === 'active'
    ? `${printable(row.name)} is kept.${row.due ? ` Next: ${termsText(row)}.` : ''}`
    : `${printable(row.name)} is ${standingText(row)}.`
