import type { Command } from 'commander'
import type { Suggested } from '../api/policy-contract.ts'
import { REASONS } from '../errors.ts'
import { timeOf } from './audit.ts'
import { type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { line, moment, printable, printableLines, printJson, say } from './output.ts'

interface Flags extends ServerFlags {
  readonly of: string
  readonly since: string
  readonly json?: boolean
}

const NOTES = `
From what was allowed and did not fail; what a human said yes to becomes \`ask\`. The role goes to stdout, what is to be said about it to
stderr. Read it before you apply it: it allows what was done, and not what should be.

Exit codes: 0 there is a role, 6 nothing was done; others as in \`chaperone --help\`.`

const LONGEST_MS = 120_000

export function registerPolicySuggest(command: Command): void {
  withJson(withServer(command.command('suggest').description('draft the narrowest role under which what somebody did could be done again')))
    .requiredOption('--of <name>', 'whose actions; of a person, also what his agents did')
    .option('--since <time>', '2026-11-22, 2026-11-22T13:00Z, or how long ago: 30m, 7d', '14d')
    .addHelpText('after', NOTES)
    .addHelpText('after', '\nExample:\n  chaperone policy suggest --of report-bot --since 14d > role.yaml')
    .action(async (flags: Flags) => {
      const ask = { identity: flags.of, since: await timeOf(flags.since, '--since') }
      const found = await withApi(flags, (api) => api.call<Suggested>('POST', '/v1/policy/suggest', ask, { timeoutMs: LONGEST_MS }))
      if (found.yaml === '') process.exitCode = REASONS.not_found.exit
      if (flags.json) return printJson(found)
      if (found.yaml === '') return say(`${found.identity} did nothing in that time that could be put into a role.`)
      say(`It covers ${found.covered} of ${found.actions} actions of ${found.identity}.`)
      for (const what of found.left) say(`no rule for: ${printable(what)}`)
      for (const { why, count, record } of found.unknowns) say(`cannot tell  ${count}: ${printable(why)} (${record})`)
      if (found.stoppedAt !== undefined) say(`It stopped: what is older than ${moment(found.stoppedAt)} was not looked at.`)
      line(printableLines(found.yaml))
    })
}
