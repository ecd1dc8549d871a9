import { isGlob } from '../../../encoding/glob.ts'
import { ChaperoneError } from '../../../errors.ts'

/** The database users that one identity may connect as, as far as they can be named. */
export interface Users {
  readonly names: readonly string[]
  /** by which some rule lets it connect as others, who are not named: globs, or `any` */
  readonly patterns: readonly string[]
  /** who it is when a call says nothing */
  readonly preset: string | undefined
}

/** Judging each is microseconds; a document with more is a fault of the document. */
const MOST = 256

/**
 * `listed` are the users of the document, `words` what the rules of the identity say after `as`; `mayConnect` is the guard's
 * own answer. A user who may not be used is in no answer (rule 8). A pattern matches its own text, so it is asked about like a
 * user: whether anybody could connect by it.
 */
export function usersOf(listed: readonly string[] | undefined, words: readonly string[], mayConnect: (user: string) => boolean): Users {
  const patterns = words.filter((word) => word === 'any' || isGlob(word))
  const candidates = [...new Set(listed ?? words.filter((word) => !patterns.includes(word)))].slice(0, MOST)
  const names = candidates.filter(mayConnect)
  return { names, patterns: listed ? [] : patterns.slice(0, MOST).filter(mayConnect), preset: listed || names.length === 1 ? names[0] : undefined }
}

export const anybody = ({ names, patterns }: Users): boolean => names.length > 0 || patterns.length > 0

/** The user of one call. Whether it may be used is not decided here: connecting as it is judged like any connection. */
export function userOf(users: Users, asked: string | undefined): string {
  if (asked !== undefined) return asked
  if (users.preset !== undefined) return users.preset
  throw new ChaperoneError('usage', 'Which database user is meant is not said.', {
    fix: users.names.length > 0 ? `Say it with \`as\`: ${users.names.join(', ')}.` : 'Say it with `as`; the person who gave you access knows it.',
  })
}
