import type { Command } from 'commander'
import type { PolicyDiff, PolicyDifference } from '../api/policy-contract.ts'
import { collect, type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { readDocuments } from './documents.ts'
import { line, printable, printJson, say, styled } from './output.ts'
import { answering, FAULT_CODE } from './policy-exit.ts'

interface Flags extends ServerFlags {
  readonly file: readonly string[]
  readonly json?: boolean
}

const NOTES = `
Questions are made up about every identity, and none is about what was done: recorded actions are judged again by
\`chaperone policy replay\`, and the text of documents is compared by \`chaperone diff\`.

Example:
  chaperone policy diff -f roles/

Exit codes: 0 nobody gains or loses anything that was asked about, 1 somebody does, ${FAULT_CODE}`

const COLOUR = { gains: 'green', loses: 'red', bound: 'yellow' } as const
/** Deciding some hundred thousand times takes a while. */
const LONGEST_MS = 120_000

export function registerPolicyDiff(command: Command): void {
  withJson(withServer(command.command('diff').description('who would gain or lose what, were these documents applied')))
    .requiredOption('-f, --file <path>', 'a file, a folder, or - for stdin; may be repeated', collect)
    .addHelpText('after', NOTES)
    .action((flags: Flags) =>
      answering(async () => {
        const files = await readDocuments(flags.file)
        const diff = await withApi(flags, (api) => api.call<PolicyDiff>('POST', '/v1/policy/diff', { files }, { timeoutMs: LONGEST_MS }))
        if (flags.json) printJson(diff)
        else print(diff)
        return diff.differences.length === 0 ? 'same' : 'differs'
      }),
    )
}

function print({ differences, identities, questions, moreDifferences = 0, notes }: PolicyDiff): void {
  for (const [who, all] of Map.groupBy(differences, (difference) => difference.who)) {
    line(styled('bold', printable(who)))
    for (const each of all) line(styled(COLOUR[each.change], `  ${each.change.padEnd(5)}  ${printable(textOf(each))}`))
  }
  if (moreDifferences > 0) line(`... and ${moreDifferences} more`)
  if (differences.length === 0) line('Nobody gains or loses anything that was asked about.')
  say(`${identities} identities, ${questions} questions each.`)
  for (const note of notes) say(`not asked: ${printable(note)}`)
}

function textOf({ resource, what, before, after, rule, ruleBefore, change }: PolicyDifference): string {
  const by = rule !== undefined ? `  (${rule})` : ruleBefore !== undefined ? `  (no more by ${ruleBefore})` : ''
  return `${resource}  ${what}: ${change === 'bound' ? `${after}, under other demands` : `${before} → ${after}`}${by}`
}
