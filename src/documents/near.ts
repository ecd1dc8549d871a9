import { didYouMean } from '../policy/problem.ts'

/** A list of all names helps while it is short. */
const LONGEST_LIST = 12

/** The fix for a misspelled word, `Did you mean ...?` or what is known, or undefined when neither helps. */
export function near(word: string, known: Iterable<string>): string | undefined {
  const all = [...known]
  const { fix } = didYouMean(word.slice(0, 80), all)
  return fix?.startsWith('Did') || all.length <= LONGEST_LIST ? fix : undefined
}
