/** What stands in the place of a constant. */
const HIDDEN = '?'

export interface WithoutConstants {
  /** The statement with `?` for every constant, and without comments: what is left are keywords, names and operators. */
  readonly text: string
  /** The constants as they were written, in order. */
  readonly constants: readonly string[]
}

const IDENTIFIER = /[A-Za-z_\u0080-\uffff][A-Za-z0-9_$\u0080-\uffff]*/y
const NUMBER = /\.?[0-9][0-9A-Za-z_.]*/y
const PARAMETER = /\$[0-9]+/y
const DOLLAR = /\$(?:[A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*)?\$/y
/** Between two parts of one string constant there must be a line break; comments to the end of a line may be there too. */
const CONTINUED = /[ \t\f\v]*(?:--[^\n\r]*)?[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*'/y
const LINE_COMMENT = /--[^\n\r]*/y

/**
 * Takes the constants and comments out of a text that the parser has read. Lexical on purpose: what `normalize` of
 * pg_query does goes by the kind of statement, and this must hold for every statement there is (SET, COMMENT, NOTIFY, DO ...).
 * It relies on `standard_conforming_strings`, which the gateway pins. Whatever it does not understand is a constant.
 */
export function withoutConstants(sql: string): WithoutConstants {
  const out: string[] = []
  const constants: string[] = []
  let at = 0
  const hide = (end: number) => {
    constants.push(sql.slice(at, end))
    out.push(HIDDEN)
    at = end
  }
  const keep = (end: number) => {
    out.push(sql.slice(at, end))
    at = end
  }
  const skip = (end: number) => {
    out.push(' ')
    at = end
  }
  while (at < sql.length) {
    const character = sql[at]!
    const next = sql[at + 1]
    if (character === "'") hide(endOfString(sql, at, false))
    else if (character === '"') keep(endOfName(sql, at))
    else if (character === '-' && next === '-') skip(ending(LINE_COMMENT, sql, at)!)
    else if (character === '/' && next === '*') skip(endOfComment(sql, at))
    else if (character === '$') {
      const parameter = ending(PARAMETER, sql, at)
      const dollar = ending(DOLLAR, sql, at)
      if (parameter !== undefined) keep(parameter)
      else if (dollar !== undefined) hide(endOfDollar(sql, at, dollar))
      else keep(at + 1)
    } else if (isDigit(character) || (character === '.' && isDigit(next))) hide(ending(NUMBER, sql, at)!)
    else {
      const word = ending(IDENTIFIER, sql, at)
      if (word === undefined) keep(at + 1)
      else if (sql[word] === "'" && /^[bexn]$/i.test(sql.slice(at, word)))
        hide(endOfString(sql, word, /^e$/i.test(sql.slice(at, word)), /^[bx]$/i.test(sql.slice(at, word))))
      else if (/^u&['"]$/i.test(sql.slice(at, at + 3)) && word === at + 1)
        sql[at + 2] === "'" ? hide(endOfString(sql, at + 2, false)) : keep(endOfName(sql, at + 2))
      else keep(word)
    }
  }
  return { text: out.join(''), constants }
}

const isDigit = (character: string | undefined) => character !== undefined && character >= '0' && character <= '9'

function ending(pattern: RegExp, sql: string, at: number): number | undefined {
  pattern.lastIndex = at
  return pattern.test(sql) ? pattern.lastIndex : undefined
}

/** `quote` is where the first quote stands. What is not closed goes to the end of the text. */
/** `bits`: b'...' and x'...', in which two quotes are an end and a beginning. */
function endOfString(sql: string, quote: number, escapes: boolean, bits = false): number {
  let at = quote + 1
  while (at < sql.length) {
    if (escapes && sql[at] === '\\') at += 2
    else if (sql[at] !== "'") at++
    else if (!bits && sql[at + 1] === "'") at += 2
    else {
      const more = ending(CONTINUED, sql, at + 1)
      if (more === undefined) return at + 1
      at = more
    }
  }
  return sql.length
}

function endOfName(sql: string, quote: number): number {
  for (let at = quote + 1; at < sql.length; at++) {
    if (sql[at] !== '"') continue
    if (sql[at + 1] !== '"') return at + 1
    at++
  }
  return sql.length
}

/** They nest. */
function endOfComment(sql: string, start: number): number {
  let depth = 0
  for (let at = start; at < sql.length; at++) {
    if (sql[at] === '/' && sql[at + 1] === '*') {
      depth++
      at++
    } else if (sql[at] === '*' && sql[at + 1] === '/') {
      depth--
      at++
      if (depth === 0) return at + 1
    }
  }
  return sql.length
}

function endOfDollar(sql: string, start: number, open: number): number {
  const close = sql.indexOf(sql.slice(start, open), open)
  return close < 0 ? sql.length : close + (open - start)
}
