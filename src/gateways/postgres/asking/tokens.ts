import { scanSync } from 'libpg-query'

export interface Token {
  /** the number that PostgreSQL's scanner gives its kind */
  readonly type: number
  readonly text: string
  /** in small letters, when it is a keyword; else empty */
  readonly word: string
  readonly comment: 'line' | 'block' | undefined
  /** Something stands between it and the token before it. */
  readonly apart: boolean
}

/** What PostgreSQL's scanner takes for space; anything else that stood between two tokens would be lost. */
const SPACE = /^[ \t\n\r\f\v]*$/

/**
 * The tokens of PostgreSQL's own scanner, comments included. Undefined where it finds none of its own (a string without an end),
 * or leaves out anything but spaces.
 */
export function tokensOf(sql: string): readonly Token[] | undefined {
  if (SPACE.test(sql)) return []
  const bytes = Buffer.from(sql)
  const tokens: Token[] = []
  let at = 0
  try {
    for (const { start, end, tokenType, tokenName, keywordName } of scanSync(sql).tokens) {
      if (start < at || end <= start || !SPACE.test(bytes.toString('utf8', at, start))) return undefined
      const text = bytes.toString('utf8', start, end)
      const comment = tokenName === 'SQL_COMMENT' ? 'line' : tokenName === 'C_COMMENT' ? 'block' : undefined
      tokens.push({ type: tokenType, text, word: keywordName === 'NO_KEYWORD' ? '' : text.toLowerCase(), comment, apart: start > at })
      at = end
    }
  } catch {
    // Its own error, or one that it could not even say as JSON: either way nobody has read it.
    return undefined
  }
  return SPACE.test(bytes.toString('utf8', at)) ? tokens : undefined
}

/** Kinds and texts, one after the other; nothing is the same as what could not be read. */
export const areSame = (tokens: readonly Token[] | undefined, others: readonly Token[] | undefined): boolean =>
  tokens !== undefined &&
  tokens.length === others?.length &&
  tokens.every(({ type, text }, i) => type === others[i]!.type && text === others[i]!.text)
