import { styleText } from 'node:util'
import type { RoleNotice } from '../api/contract.ts'
import { ApiError } from '../client/api-error.ts'
import { momentText } from '../encoding/moment.ts'
import { UNSEEN } from '../encoding/unseen.ts'
import { type ChaperoneError, REASONS } from '../errors.ts'

/** Printed under `chaperone --help`; the whole table is docs/reference/errors.md. */
export const EXIT_CODES = `
Exit codes:
  0  done                        5  not available now, try again
  1  a fault of Chaperone        6  no such thing, or the state has changed
  2  wrong usage or input        7  a document is not valid
  3  refused by policy           8  this machine or the store is not fit
  4  not signed in               9  the record does not verify
`

/**
 * Text from others, fit for a terminal: an agent's statement in a record must not move the cursor, retitle the window or
 * turn the reading direction around (CWE-150, CVE-2021-42574). Only what would act is taken out, never a whole sequence: what
 * stands between `ESC ]` and BEL is as long as its author likes, and an auditor would not see it.
 */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').replace(/[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/g, '')
}

/** As {@link printable}, but line ends and tabs stay. */
export const printableLines = (text: string): string =>
  text
    .split('\n')
    .map((line) => line.split('\t').map(printable).join('\t'))
    .join('\n')

export function line(text = ''): void {
  process.stdout.write(`${text}\n`)
}

/** To the person, beside an output that a program reads. */
export function say(text: string): void {
  process.stderr.write(`chaperone: ${printable(text)}\n`)
}

/** The same value for a program; and at a terminal nothing in it acts or hides, which JSON alone leaves open (U+009B, U+202E). */
export const jsonText = (value: unknown, indent = 0): string =>
  JSON.stringify(value, null, indent).replace(UNSEEN, (letter) =>
    letter === '\n'
      ? letter
      : letter
          .split('')
          .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
          .join(''),
  )

export function printJson(value: unknown): void {
  line(jsonText(value, 2))
}

type Style = Parameters<typeof styleText>[0]

/** Colour where it is wanted: a terminal, and no NO_COLOR. */
export const styled = (style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string => styleText(style, text, { stream })

export interface Column<Row> {
  readonly title: string
  readonly of: (row: Row) => string | number | undefined
  /** Never cut: it is useless in part, as an id is. Where it does not fit, the line wraps. */
  readonly whole?: true
}

const GAP = 2
const NARROWEST = 8

/** A table that fits the terminal: the widest columns give way. Into a pipe, or a terminal that says no width, nothing is cut. */
export function table<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  width: number | undefined = process.stdout.columns || undefined,
): string {
  const cells = rows.map((row) => columns.map((column) => printable(String(column.of(row) ?? ''))))
  const widths = columns.map((column, i) => Math.max(column.title.length, ...cells.map((cell) => [...cell[i]!].length)))
  if (width !== undefined) {
    let over = widths.reduce((sum, one) => sum + one, 0) + GAP * (columns.length - 1) - width
    while (over > 0) {
      const widest = Math.max(0, ...widths.filter((_, i) => !columns[i]!.whole))
      if (widest <= NARROWEST) break
      widths[widths.findIndex((one, i) => one === widest && !columns[i]!.whole)] = widest - 1
      over--
    }
  }
  const cut = (text: string, to: number) => {
    const letters = [...text]
    return letters.length <= to ? text + ' '.repeat(to - letters.length) : `${letters.slice(0, to - 1).join('')}…`
  }
  const write = (row: readonly string[]) =>
    row
      .map((cell, i) => (i === row.length - 1 && width === undefined ? cell : cut(cell, widths[i]!)))
      .join(' '.repeat(GAP))
      .trimEnd()
  const head = write(columns.map((column) => column.title))
  return [styled('bold', head), ...cells.map(write)].join('\n')
}

/** A listing, as JSON or as a table. */
export function list<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  options: { readonly json?: boolean | undefined; readonly none: string },
): void {
  if (options.json) printJson(rows)
  else if (rows.length === 0) process.stderr.write(`${options.none}\n`)
  else line(table(rows, columns))
}

/** `env=prod team=data` */
export const labelsText = (labels: Readonly<Record<string, string>>): string =>
  Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ')

/** `2026-11-22 13:00:05Z`: one zone for everybody who reads the same record. */
export const moment = (at: number | undefined): string => (at === undefined ? '' : momentText(at))

/** Two lines: what, and what to do about it. Sets the exit code. */
export function fail(error: ChaperoneError): void {
  const api = error instanceof ApiError ? error : undefined
  const problems = api?.problems ?? []
  for (const problem of problems) process.stderr.write(`${problemText(problem)}\n`)
  // The faults have said everything, each with its place and its fix.
  const message = problems.length > 0 ? `${problems.length} ${problems.length === 1 ? 'fault' : 'faults'}; nothing was changed.` : error.message
  process.stderr.write(`${styled('red', 'chaperone:', process.stderr)} ${printable(message)} [${error.code}]\n`)
  const help = problems.length > 0 ? [] : [error.fix, api?.hint].filter((text) => text !== undefined)
  if (help.length > 0) process.stderr.write(`  ${printable(help.join(' '))}\n`)
  if (api?.decisionId !== undefined) process.stderr.write(`  decision ${printable(api.decisionId)}\n`)
  // Only for a fault of our own: everything else explains itself.
  if (error.code === 'internal' && error.detail !== undefined && process.env.CHAPERONE_DEBUG)
    process.stderr.write(`${printableLines(error.detail)}\n`)
  process.exitCode = REASONS[error.code].exit
}

export function problemText(problem: {
  readonly file: string
  readonly line: number
  readonly column: number
  readonly message: string
  readonly fix?: string
  readonly level: string
}): string {
  const fix = problem.fix === undefined ? '' : ` ${problem.fix}`
  return printable(`${problem.file}:${problem.line}:${problem.column}: ${problem.level}: ${problem.message}${fix}`)
}

/** `role/developer allow[0].args.pth: error: …` */
export function noticeText({ document, at, level, message, fix }: RoleNotice): string {
  return printable(`${document} ${at}: ${level}: ${message}${fix === undefined ? '' : ` ${fix}`}`)
}
