import { fingerprintSync, hasSqlDetails, loadModule, parseSync, scanSync } from 'libpg-query'
import { type NameTraits, traitsOf } from './encodings.ts'

/** The parser is WebAssembly: it is loaded once, before the first statement. */
let loading: Promise<void> | undefined
export const loadParser = (): Promise<void> => {
  loading ??= loadModule()
  return loading
}

export interface ParsedStatement {
  /** `{ "SelectStmt": {...} }` */
  readonly tree: Readonly<Record<string, unknown>>
  /** Its own part of the text. */
  readonly text: string
}

/** What another thread has read for this one. */
export interface Reading {
  readonly parsed: Parsed
  readonly fingerprint: string | undefined
  readonly names: NameTraits | undefined
}

/** A text that is no SQL, too much of it, or with names that may be others on the server. `at`: where, in characters from 1, if the parser says. */
export interface Unread {
  readonly failure: string
  readonly kind: 'syntax' | 'size' | 'names'
  readonly at?: number
}

export type Parsed = { readonly statements: readonly ParsedStatement[] } | Unread

/** Tokens that the tree of one text may stand for: what 64 KiB can hold without any copying. */
const MOST_TOKENS = 65_536

/**
 * Texts over this many characters are not parsed on the thread that serves everybody: 64 KiB take about 10 ms, 1 MiB 200 and
 * more. `big-texts.ts` has them parsed elsewhere, and the trees are remembered here.
 */
export const BIG_TEXT = 64 * 1024
/** Large texts whose trees are at hand: one for each connection that is about to send one. */
const MOST_REMEMBERED = 32
const remembered = new Map<string, Reading>()
let isParser = false

/** For the thread that does nothing else. */
export const parseAnyLength = (): void => {
  isParser = true
}

export function remember(text: string, reading: Reading): void {
  remembered.delete(text)
  remembered.set(text, reading)
  for (const [old] of remembered) {
    if (remembered.size <= MOST_REMEMBERED) break
    remembered.delete(old)
  }
}

/** Whether `parseSql` can be asked on this thread. */
export const isAtHand = (text: string): boolean => text.length <= BIG_TEXT || isParser || remembered.has(text)

/** SQL text to one tree a statement. Never throws. The text must hold no NUL: the parser stops there, the server may not. */
export function parseSql(sql: string): Parsed {
  if (sql.includes('\0')) return { failure: 'the text holds a NUL', kind: 'syntax' }
  if (sql.length > BIG_TEXT && !isParser) return remembered.get(sql)?.parsed ?? { failure: 'it is too large to be read here', kind: 'size' }
  if (/^\s*$/.test(sql)) return { statements: [] }
  try {
    // Only `( ... ) = ( ... )` makes the tree larger than its text.
    if (/update/i.test(sql) && (sql.length <= BIG_TEXT || /\)\s*=/.test(sql)) && expansion(sql) > MOST_TOKENS)
      return { failure: 'its assignments of several columns at once would need too much memory', kind: 'size' }
    const { stmts = [] } = parseSync(sql) as {
      stmts?: readonly { stmt?: Readonly<Record<string, unknown>>; stmt_location?: number; stmt_len?: number }[]
    }
    if (stmts.length === 1) return { statements: [{ tree: stmts[0]!.stmt ?? {}, text: sql }] }
    const bytes = Buffer.from(sql)
    let end = 0
    return {
      statements: stmts.map(({ stmt = {}, stmt_location: from = 0, stmt_len: length }, i) => {
        // From the end of the one before: the parser's own positions leave out comments, and the record leaves out nothing.
        const start = end
        end = length === undefined || i === stmts.length - 1 ? bytes.length : from + length
        return {
          tree: stmt,
          text: bytes
            .toString('utf8', start, end)
            .replace(/^[;\s]+/, '')
            .trimEnd(),
        }
      }),
    }
  } catch (error) {
    // Nesting ends in a RangeError, memory in an error of the WebAssembly machine: all of them mean that nobody has read it.
    if (!hasSqlDetails(error)) return { failure: 'it is too deep or too large to be read', kind: 'size' }
    const cursorPosition = error.sqlDetails?.cursorPosition ?? -1
    return { failure: error.message, kind: 'syntax', ...(cursorPosition >= 0 ? { at: cursorPosition + 1 } : {}) }
  }
}

/** The same for all statements that differ in their constants alone; 16 hex digits. Undefined for what cannot be parsed. */
export function fingerprintOf(text: string): string | undefined {
  if (text.length > BIG_TEXT && !isParser) return remembered.get(text)?.fingerprint
  try {
    return fingerprintSync(text)
  } catch {
    // Without one it is still judged and recorded: it only is not found together with its like.
    return undefined
  }
}

/** What its names are like. Undefined for what cannot be parsed. */
export function namesOf(text: string): NameTraits | undefined {
  if (text.length > BIG_TEXT && !isParser) return remembered.get(text)?.names
  try {
    return traitsOf(text)
  } catch {
    // The scanner says of no text that it cannot be read but by throwing; whoever asks takes that for the worst.
    return undefined
  }
}

/**
 * How many tokens the tree will stand for. `SET (a, b, c) = (SELECT ...)` puts a whole copy of the right side under each
 * column, and such a right side may hold another one: measured, 6 KB of SQL took 3 s and 1.2 GB. So the tokens are
 * counted first, each right side as often as there are columns on its left.
 */
function expansion(sql: string): number {
  interface Level {
    weight: number
    commas: number
    /** columns of the `( ... )` that ended just before */
    columns: number
    /** weight of this level before the right side that is being counted, and how often it will stand there */
    before: number
    times: number
  }
  const open = (): Level => ({ weight: 0, commas: 0, columns: 0, before: 0, times: 1 })
  const settle = (level: Level) => {
    if (level.times > 1) level.weight = level.before + (level.weight - level.before) * level.times
    level.times = 1
  }
  const stack: Level[] = [open()]
  for (const { text } of scanSync(sql).tokens) {
    const level = stack.at(-1)!
    level.weight++
    if (text === '(' || text === '[') stack.push(open())
    else if (text === ')' || text === ']') {
      settle(level)
      stack.pop()
      const outer = stack.at(-1)
      if (!outer) return Number.POSITIVE_INFINITY
      outer.weight += level.weight
      outer.columns = text === ')' ? level.commas + 1 : 0
      continue
    } else if (text === ',') {
      settle(level)
      level.commas++
    } else if (text === '=' && level.columns > 1) {
      settle(level)
      level.before = level.weight
      level.times = level.columns
    } else if (text === ';') settle(level)
    level.columns = 0
  }
  for (const level of stack) settle(level)
  return stack.reduce((sum, level) => sum + level.weight, 0)
}
