import type { Command } from 'commander'
import type { Replayed } from '../api/policy-contract.ts'
import { timeOf } from './audit.ts'
import { collect, type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { readDocuments } from './documents.ts'
import { line, list, moment, printable, printJson, say } from './output.ts'
import { answering, FAULT_CODE } from './policy-exit.ts'

interface Flags extends ServerFlags {
  readonly file: readonly string[]
  readonly since: string
  readonly until?: string
  readonly json?: boolean
}

const NOTES = `
Every recorded action is judged again with these documents, for its chain, at its time, and counted once: same, differs,
allowed differently (another mask, cap or limit), cannot tell. Nothing is changed; that the record was read is recorded.

Exit codes: 0 nothing would differ, 1 something would, ${FAULT_CODE}`

const LONGEST_MS = 120_000

export function registerPolicyReplay(command: Command): void {
  withJson(withServer(command.command('replay').description('what these documents would have decided about recorded actions')))
    .requiredOption('-f, --file <path>', 'a file, a folder, or - for stdin; may be repeated', collect)
    .option('--since <time>', '2026-11-22, 2026-11-22T13:00Z, or how long ago: 30m, 7d', '7d')
    .option('--until <time>', 'the same')
    .addHelpText('after', NOTES)
    .addHelpText('after', '\nExample:\n  chaperone policy replay -f roles/ --since 7d')
    .action((flags: Flags) =>
      answering(async () => {
        const [since, until] = [await timeOf(flags.since, '--since'), await timeOf(flags.until, '--until')]
        const ask = { files: await readDocuments(flags.file), since, until }
        const found = await withApi(flags, (api) => api.call<Replayed>('POST', '/v1/policy/replay', ask, { timeoutMs: LONGEST_MS }))
        if (flags.json) printJson(found)
        else print(found)
        return found.differs + found.bound === 0 ? 'same' : 'differs'
      }),
    )
}

function print({ actions, same, differs, bound, cannotTell, changes, unknowns, moreChanges = 0, stoppedAt }: Replayed): void {
  line(`${actions} actions: ${same} same, ${differs} would differ, ${bound} would be allowed differently, ${cannotTell} cannot be told`)
  if (changes.length > 0)
    list(
      changes,
      [
        { title: 'WAS', of: (row) => row.was },
        { title: 'WOULD', of: (row) => (row.fields ? `${row.would}, other ${row.fields.join(', ')}` : row.would) },
        { title: 'COUNT', of: (row) => String(row.count) },
        { title: 'WHO', of: (row) => row.who },
        { title: 'RESOURCE', of: (row) => row.resource },
        { title: 'ACTION', of: (row) => row.action },
        { title: 'RULE', of: (row) => row.rule ?? 'no rule' },
        { title: 'EXAMPLE', of: (row) => row.record, whole: true },
      ],
      { json: undefined, none: '' },
    )
  if (moreChanges > 0) line(`... and ${moreChanges} that differ in other ways`)
  for (const { why, count, record } of unknowns) line(`cannot tell  ${count}: ${printable(why)} (${record})`)
  if (stoppedAt !== undefined) say(`It stopped: what is older than ${moment(stoppedAt)} was not looked at.`)
}
