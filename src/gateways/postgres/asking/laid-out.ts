import type { Shown } from '../../../access/types.ts'
import { seenWhole } from '../../../encoding/unseen.ts'
import { loadParser } from '../sql/parse.ts'
import { layOut } from './layout.ts'
import { areSame, type Token, tokensOf } from './tokens.ts'

/** A text with its layout, or why it is shown as it was written; neither when it needs none. */
export type LaidOut = { readonly formatted?: string } | { readonly unformatted: string }

/** characters; scanning twice what is longer would hold up everybody */
const MOST = 16 * 1024
/** What `seenWhole` leaves of characters that cannot be seen: in the text as it was sent they may have ended a comment. */
const WRITTEN_OUT = /\\u\{[0-9a-f]+\}/

/**
 * A statement as an approver reads it with ease. What he says yes to is the text as it was written, so the layout is shown only
 * when PostgreSQL's scanner finds exactly the same tokens in it, comments included, in the same order: then it cannot hide or add
 * anything, whatever mistake is in `layout.ts`.
 */
export async function laidOut(sql: string): Promise<LaidOut> {
  if (sql.length > MOST) return { unformatted: 'it is too long to be laid out' }
  if (WRITTEN_OUT.test(sql) || seenWhole(sql, '\t\n') !== sql) return { unformatted: 'it holds characters that cannot be seen' }
  await loadParser()
  return laidOutBy(layOut, sql)
}

/** What is shown of a call, its SQL laid out: for everybody who reads it before a yes, wherever that is. */
export const readably = <Part extends Shown>(
  shown: readonly Part[],
): Promise<(Part & { readonly formatted?: string; readonly unformatted?: string })[]> =>
  Promise.all(shown.map(async (part) => (part.form === 'sql' ? { ...part, ...(await laidOut(part.text)) } : part)))

/** `by` is another one only in tests. */
export function laidOutBy(by: (tokens: readonly Token[]) => string, sql: string): LaidOut {
  const tokens = tokensOf(sql)
  if (!tokens) return { unformatted: 'it cannot be read as SQL by itself' }
  let formatted: string
  try {
    formatted = by(tokens)
  } catch {
    return { unformatted: 'it is nested too deep to be laid out' }
  }
  if (!areSame(tokens, tokensOf(formatted))) return { unformatted: 'laid out it would not be the same' }
  return formatted === sql ? {} : { formatted }
}
