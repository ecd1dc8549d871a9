import type { DatabaseChecked } from '../api/databases-contract.ts'
import { printable, styled } from './output.ts'

type Finding = DatabaseChecked['parts'][number]['findings'][number]

const STYLES = { ok: 'green', missing: 'red', advice: 'yellow' } as const

/** What holds, what does not, and below it the line that makes it right, to be copied. */
export function printFindings(parts: DatabaseChecked['parts'], out: NodeJS.WriteStream): void {
  for (const { user, database, findings } of parts) {
    if (user !== undefined) out.write(`${styled('bold', printable(`${user} in ${database ?? ''}`), out)}\n`)
    for (const { level, said, fix } of findings) {
      out.write(`${styled(STYLES[level], level.padEnd(8), out)} ${printable(said)}\n`)
      if (fix !== undefined) out.write(`           ${printable(fix)}\n`)
    }
  }
}

export const countOf = (parts: DatabaseChecked['parts'], level: Finding['level']): number =>
  parts.reduce((sum, { findings }) => sum + findings.filter((one) => one.level === level).length, 0)
