import { readErrorFields } from '../wire/server.ts'

/**
 * What the server says besides rows, to somebody from whom columns are hidden. Messages quote values: `invalid input syntax
 * for type integer: "..."`, `Key (email)=(...) already exists`, `Failing row contains (...)`, and whatever a function raises. So
 * of an error the code stays, the names of the objects it is about, and its message where the server makes that of names
 * alone; of the notices only those of the same kinds.
 */

/** Severity, code, names of schema, table, column, type and constraint, and where in the server it was said. */
const ALWAYS: ReadonlySet<string> = new Set(['S', 'V', 'C', 's', 't', 'c', 'd', 'n', 'F', 'L', 'R', 'P'])

/**
 * Classes of errors whose messages are made of names and of the statement itself: connections, features, cardinality,
 * constraints, transactions, cursors, authorization, rollbacks, syntax and access, checks of views, resources, limits, states
 * of objects, cancellation.
 */
const NAMES_ALONE = /^(00|01|08|0A|21|23|24|25|26|28|2B|2D|34|3B|3D|3F|40|42|44|53|54|55|57)/

/** Division by zero; a text that is too long for its column. */
const NO_VALUES: ReadonlySet<string> = new Set(['22012', '22001'])

/** The ErrorResponse or NoticeResponse for the client; undefined: it gets none. */
export function hideWords(frame: Buffer): Buffer | undefined {
  const fields = readErrorFields(frame)
  const code = fields.get('C') ?? ''
  const isNotice = frame[0] === 'N'.charCodeAt(0)
  // RAISE NOTICE and its like: any text at all, under the code of success.
  if (isNotice && (/^0[01]/.test(code) || !NAMES_ALONE.test(code))) return undefined
  // With a position it was found while the text was read, before any row was.
  const ofText = fields.has('P') && !fields.has('q') && !fields.has('p')
  const said = ofText || NAMES_ALONE.test(code) || NO_VALUES.has(code)
  const kept = [...fields].filter(([letter]) => letter === 'M' || ALWAYS.has(letter) || (ofText && letter === 'H' && code.startsWith('42')))
  // What is kept stays in its place: of whom nothing had to be hidden gets the same bytes.
  if (said) return writeFields(frame[0]!, kept)
  const left = 'The database reported an error; its words are left out, because they may quote what a rule hides.'
  const without = kept.map(([letter, text]) => [letter, letter === 'M' ? left : text] as const)
  return writeFields(frame[0]!, [...without, ['H', `The code says what it was: ${code}.`]])
}

function writeFields(type: number, fields: readonly (readonly [string, string])[]): Buffer {
  const body = Buffer.concat([...fields.map(([letter, text]) => Buffer.from(`${letter}${text}\0`)), Buffer.from([0])])
  const head = Buffer.alloc(5)
  head[0] = type
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}
