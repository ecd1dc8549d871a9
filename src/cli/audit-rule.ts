import type { Command } from 'commander'
import type { AuditRule } from '../api/audit-contract.ts'
import { REASONS } from '../errors.ts'
import { query, type ServerFlags, segment, withApi, withJson, withServer } from './connection.ts'
import { line, printable, printableLines, printJson, say } from './output.ts'

interface Flags extends ServerFlags {
  readonly json?: boolean
  readonly role?: string
  readonly guardrail?: string
}

const NOTES = `
The action is judged again by the rules of today with the draft among them: only a draft that does it is printed. Nothing is
changed; copy it into the document and apply that.

Example:
  chaperone audit rule --role reporter per_01kaxxxxxxxxxxxxxxxxxxxxxx

Exit codes: 0 a rule was found, 6 none would do it; others as in \`chaperone --help\`.`

export function registerRule(command: Command): void {
  withJson(withServer(command.command('rule').description('draft the rule that would have refused a recorded action, or allowed a refused one')))
    .argument('<id>', 'an action.intent or action.refused')
    .option('--role <name>', 'for this role, which may be a new one; default: the one that lies nearest')
    .option('--guardrail <name>', 'refuse it to everybody, in a guardrail of this name')
    .addHelpText('after', NOTES)
    .action(async (id: string, flags: Flags) => {
      const answer = await withApi(flags, (api) =>
        api.call<AuditRule>('GET', `/v1/audit/records/${segment(id)}/rule${query({ role: flags.role, guardrail: flags.guardrail })}`),
      )
      if (!answer.draft) process.exitCode = REASONS.not_found.exit
      if (flags.json) return printJson(answer)
      // The rule goes to stdout alone, so that it can be redirected; what is said about it, to the person.
      say(`${answer.action} was ${answer.want === 'deny' ? 'allowed' : 'refused'}. ${answer.message}`)
      if (answer.draft) line(printableLines(documentOf(answer.draft)))
    })
}

/** The rule where it stands. A document that exists has more in it, so this is no file to apply as it is. */
function documentOf({ kind, document, isNew, section, yaml }: NonNullable<AuditRule['draft']>): string {
  const rule = yaml.replaceAll('\n', '\n    ')
  const aside = isNew ? '' : '   # one more rule: what it has already stays'
  return `kind: ${kind}\nname: ${printable(document)}${aside}\nspec:\n  ${section}:\n    ${rule}`
}
