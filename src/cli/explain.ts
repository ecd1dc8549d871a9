import type { Explain, Explained } from '../api/contract.ts'
import { ChaperoneError, REASONS } from '../errors.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { factRows } from './facts.ts'
import { line, moment, printable, printJson, styled } from './output.ts'

interface Flags extends ServerFlags {
  readonly json?: boolean
  readonly as?: string
}

const EXAMPLES = `
Examples:
  chaperone explain --as boris-ai mcp files read_text_file --args '{"path":"/reports/q3.txt"}'
  chaperone explain --as boris-ai postgres prod --database topsecret --user analyst_ro 'DROP TABLE customers'
  chaperone explain chaperone apply

Exit codes: 0 allowed, 3 denied or to be asked for; others as in \`chaperone --help\`.`

export const register: Register = (command) => {
  // On the group, so that it reads `explain --as NAME ...`; commander finds them after the action as well.
  withJson(withServer(command)).option('--as <name>', 'as this identity; default: yourself').addHelpText('after', EXAMPLES)

  command
    .command('mcp')
    .description('may a tool be called?')
    .argument('<server>', 'name of the MCP server')
    .argument('<tool>', 'name of the tool, as the server has it')
    .option('--args <json>', 'the arguments of the call', '{}')
    .action((resource: string, tool: string, flags: { args: string }) =>
      explain(command.opts(), { kind: 'mcp', resource, tool, args: readArguments(flags.args) }),
    )

  command
    .command('postgres')
    .description('may a statement be run?')
    .argument('<resource>', 'name of the database server')
    .argument('<sql>', 'one statement, or several')
    .requiredOption('--database <name>', 'database on that server')
    .requiredOption('--user <name>', 'the database user')
    .action((resource: string, sql: string, flags: { database: string; user: string }) =>
      explain(command.opts(), { kind: 'postgres', resource, sql, database: flags.database, user: flags.user }),
    )

  command
    .command('chaperone')
    .description('may Chaperone be administered?')
    .argument('<verb>', 'apply, approve, lock, issue, audit.read, ca, secrets, identities ...')
    .action((verb: string) => explain(command.opts(), { kind: 'chaperone', verb }))
}

function readArguments(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new ChaperoneError('usage', '--args is not JSON.', { fix: `Quote it: --args '{"path":"/reports"}'`, cause })
  }
}

async function explain(flags: Flags, ask: Explain): Promise<void> {
  const answer = await withApi(flags, (api) =>
    api.call<Explained>('POST', '/v1/explain', { ...ask, ...(flags.as === undefined ? {} : { as: flags.as }) }),
  )
  process.exitCode = answer.verdict === 'allow' ? 0 : REASONS.denied_by_rule.exit
  if (flags.json) return printJson(answer)
  const colour = answer.verdict === 'allow' ? 'green' : answer.verdict === 'ask' ? 'yellow' : 'red'
  line(`${styled(colour, printable(answer.verdict))}  ${printable(answer.reason)}: ${printable(answer.message)}`)
  if (answer.rule)
    line(
      `rule        ${printable(`${answer.rule.document}, ${answer.rule.section} ${answer.rule.index + 1}: ${answer.rule.text.replace(/\s+/g, ' ')}`)}`,
    )
  if (answer.grant)
    line(
      `grant       ${printable(`role ${answer.grant.role}, given to ${answer.grant.link} until ${moment(answer.grant.until)}, request ${answer.grant.request}`)}`,
    )
  if (answer.tool) {
    line(`effects     ${printable(`${answer.tool.effects.join(', ')}${WORD[answer.tool.effectsFrom]}`)}`)
    line(`definition  ${LOOKED_AT[answer.tool.definition]}`)
  }
  if (answer.statement && !answer.statement.looked)
    line('unknown     nobody is connected to this database now, so its own views and functions are taken for the worst')
  if (answer.statement) for (const [name, value] of factRows(answer.statement)) line(`${name.padEnd(11)} ${printable(value)}`)
  if (answer.links.length > 1)
    for (const link of answer.links) {
      line(`link        ${printable(`${link.name}: ${link.verdict} (${link.reason})${link.rule ? `, ${link.rule}` : ''}`)}`)
      if (link.leaves)
        line(`limits      ${printable(`${link.name}: ${link.leaves.join(' ')}${link.exceeded ? ` Exceeded: ${link.exceeded}.` : ''}`)}`)
    }
  // A line for each: a limit, and what else the permit carries.
  for (const [name, value] of Object.entries((answer.obligations ?? {}) as Record<string, unknown>))
    for (const one of Array.isArray(value) ? value : [value])
      line(`${printable(name.replace(/s$/, '').padEnd(11))} ${printable(typeof one === 'string' ? one : JSON.stringify(one))}`)
  if (answer.missing !== undefined) line(`missing     ${printable(answer.missing)}`)
  if (answer.hint !== undefined) line(`way         ${printable(answer.hint)}`)
  if (answer.shadow !== undefined) line(`shadow      ${printable(`a rule on trial would have made it ${answer.shadow}`)}`)
}

const WORD: Record<NonNullable<Explained['tool']>['effectsFrom'], string> = {
  catalog: ', confirmed',
  server: ', by the word of the trusted server',
  nobody: ', unconfirmed: nobody has confirmed what this tool does',
}
const LOOKED_AT: Record<NonNullable<Explained['tool']>['definition'], string> = {
  confirmed: 'confirmed',
  unconfirmed: 'unconfirmed: it holds as it was first seen, and nobody has looked at it',
  changed: 'changed: it waits for an administrator',
  new: 'new: it waits for an administrator',
  unseen: 'not seen yet',
}
