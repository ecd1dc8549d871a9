import type { Applied } from '../api/contract.ts'
import type { Register } from './commands.ts'
import { collect, type ServerFlags, withApi, withJson, withServer, withWait } from './connection.ts'
import { readDocuments } from './documents.ts'
import { line, printable, printJson, problemText } from './output.ts'

interface Flags extends ServerFlags {
  readonly file: readonly string[]
  readonly owner?: string
  readonly prune?: boolean
  readonly dryRun?: boolean
  readonly json?: boolean
}

export const register: Register = (command) => {
  withWait(withJson(withServer(command)))
    .requiredOption('-f, --file <path>', 'a file, a folder, or - for stdin; may be repeated', collect)
    .option('--owner <name>', 'mark what is applied as belonging to this set, for --prune')
    .option('--prune', 'delete what belongs to --owner and is no longer written')
    .option('--dry-run', 'check everything, change nothing')
    .addHelpText(
      'after',
      `
All or nothing: with one error nothing is changed. The same files twice change nothing.

Examples:
  chaperone apply -f roles/
  chaperone apply -f roles/ --owner payments --prune --dry-run`,
    )
    .action(async (flags: Flags) => {
      const files = await readDocuments(flags.file)
      const ask = { files, ...(flags.owner === undefined ? {} : { owner: flags.owner }), prune: flags.prune === true, dryRun: flags.dryRun === true }
      const applied = await withApi(flags, (api) => api.call<Applied>('POST', '/v1/apply', ask))
      if (flags.json) return printJson(applied)
      if (applied.changes.length === 0) process.stderr.write('There is no document in these files: nothing to do.\n')
      printApplied(applied)
      if (flags.dryRun) line('Nothing was changed: this was a dry run.')
    })
}

const WORD = { create: 'created', update: 'changed', delete: 'deleted', unchanged: 'unchanged' } as const

export function printApplied(applied: Applied): void {
  for (const warning of applied.warnings) process.stderr.write(`${problemText(warning)}\n`)
  for (const { op, kind, name } of applied.changes) if (op !== 'unchanged') line(`${WORD[op].padEnd(9)} ${printable(kind)} ${printable(name)}`)
  const same = applied.changes.filter(({ op }) => op === 'unchanged').length
  if (same > 0) line(`${same} unchanged`)
}
