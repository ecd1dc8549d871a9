import type { Applied } from '../api/contract.ts'
import { REASONS, toChaperoneError } from '../errors.ts'
import type { Register } from './commands.ts'
import { collect, type ServerFlags, withApi, withJson, withServer } from './connection.ts'
import { readDocuments } from './documents.ts'
import { fail, line, printableLines, printJson, problemText, styled } from './output.ts'

interface Flags extends ServerFlags {
  readonly file: readonly string[]
  readonly owner?: string
  readonly prune?: boolean
  readonly json?: boolean
}

const SAME = 0
const DIFFERS = 1
/** A fault of ours has exit code 1 elsewhere, which here means something else. */
const FAULT = 10

export const register: Register = (command) => {
  withJson(withServer(command))
    .requiredOption('-f, --file <path>', 'a file, a folder, or - for stdin; may be repeated', collect)
    .option('--owner <name>', 'the set that the files belong to')
    .option('--prune', 'also show what `apply --prune` would delete')
    .addHelpText(
      'after',
      '\nExample:\n  chaperone diff -f roles/\n\nExit codes: 0 nothing would change, 1 something would, 10 a fault of Chaperone; others as in `chaperone --help`.',
    )
    .action(async (flags: Flags) => {
      try {
        const ask = {
          files: await readDocuments(flags.file),
          ...(flags.owner === undefined ? {} : { owner: flags.owner }),
          prune: flags.prune === true,
          dryRun: true,
        }
        const applied = await withApi(flags, (api) => api.call<Applied>('POST', '/v1/apply', ask))
        const changes = applied.changes.filter(({ op }) => op !== 'unchanged')
        if (flags.json) printJson(applied)
        else {
          for (const warning of applied.warnings) process.stderr.write(`${problemText(warning)}\n`)
          for (const { op, kind, name, diff } of changes) {
            line(styled('bold', printableLines(`${op} ${kind} ${name}`)))
            for (const row of printableLines(diff ?? '').split('\n')) if (row !== '') line(coloured(row))
          }
        }
        process.exitCode = changes.length === 0 ? SAME : DIFFERS
      } catch (cause) {
        const error = toChaperoneError(cause)
        fail(error)
        if (REASONS[error.code].exit === DIFFERS) process.exitCode = FAULT
      }
    })
}

const coloured = (row: string) => (row.startsWith('+') ? styled('green', row) : row.startsWith('-') ? styled('red', row) : row)
