import { scanSync } from 'libpg-query'

/**
 * The parser reads names as a server does that keeps UTF-8. One that keeps something else has the text converted before it reads it:
 * it cuts names at 63 bytes of its own encoding, folds capitals that the parser leaves (a single byte, by the locale of the database),
 * and makes one character of two. So the one table would be judged and the other read.
 */
export interface NameTraits {
  /** One that holds more than ASCII: in double quotes, or without them. */
  readonly quoted: boolean
  readonly bare: boolean
  /** A bare one with a capital beyond ASCII. */
  readonly capital: boolean
  /** One of these that the parser has cut, or one whose characters are written as numbers. */
  readonly long: boolean
}

/** Where each character is one byte, and each byte one character. */
const SINGLE_BYTE = /^(LATIN\d+|ISO_8859_\d+|WIN\d+|KOI8[RU])$/
/** NAMEDATALEN - 1 */
const LONGEST_NAME = 63
const [IDENT, UIDENT] = [258, 259]
const PLAIN: NameTraits = { quoted: false, bare: false, capital: false, long: false }

/** Of a text that can be parsed: only such a one has its tokens told apart in the same way. */
export function traitsOf(sql: string): NameTraits {
  if (/^[\0-\x7f]*$/.test(sql) && !/u&"/i.test(sql)) return PLAIN
  const traits = { ...PLAIN }
  for (const { tokenType, text } of scanSync(sql).tokens) {
    if (tokenType === UIDENT) traits.long = true
    if (tokenType !== IDENT || /^[\0-\x7f]*$/.test(text)) continue
    const isQuoted = text.startsWith('"')
    const name = isQuoted ? text.slice(1, -1).replaceAll('""', '"') : text
    if (isQuoted) traits.quoted = true
    else traits.bare = true
    const beyond = name.replace(/[\0-\x7f]/g, '')
    if (!isQuoted && beyond !== beyond.toLowerCase()) traits.capital = true
    if (Buffer.byteLength(name) > LONGEST_NAME) traits.long = true
  }
  return traits
}

/** Why names may be others on a server that keeps texts in this encoding; undefined: they are the same. */
export function otherNames({ quoted, bare, capital, long }: NameTraits, encoding: string): string | undefined {
  if (encoding === 'UTF8') return undefined
  if (long) return `it has a name over ${LONGEST_NAME} bytes, which is cut elsewhere where the database keeps ${encoding}`
  if (SINGLE_BYTE.test(encoding))
    return capital ? `it has a name with a capital that a database of ${encoding} may make small: write it in double quotes` : undefined
  // Its bytes are taken as they are, and made small one by one.
  if (encoding === 'SQL_ASCII') return bare ? 'it has a name that the database may read as another: write it in double quotes' : undefined
  return bare || quoted ? `it has a name beyond ASCII, which may be another where the database keeps ${encoding}` : undefined
}

/** Of a prepared statement or portal, which the server neither folds nor has cut here: it is no longer there than it was sent. */
export const isSameName = (name: string, encoding: string): boolean =>
  encoding === 'UTF8' || encoding === 'SQL_ASCII' || SINGLE_BYTE.test(encoding) || /^[\0-\x7f]*$/.test(name)

/**
 * A definition as the server wrote it. Where it does not keep UTF-8 a whole name may be over what the parser takes, which would
 * read another one: that becomes a text that nobody can read. Names beyond ASCII stand in double quotes here.
 */
export function readable(definition: string): string {
  if (definition.length > LONGEST_NAME / 3 && mayBeLong(definition) && traitsOf(definition).long) return '('
  return definition
}

/** Scanning takes its time, and there may be many thousand definitions. */
const mayBeLong = (text: string) =>
  text.includes('"') && /[^\0-\x7f]/.test(text) && (text.includes('""') || text.split('"').some((part) => Buffer.byteLength(part) > LONGEST_NAME))
