import { ODD_SPACE, UNSEEN } from '../encoding/unseen.ts'

/**
 * Text of others, fit for the eyes of somebody who decides by it. What cannot be seen is written out: a right-to-left mark turns `DELETE`
 * into something else (CVE-2021-42574), tag letters hide a second text, a thousand empty lines push it off the screen.
 */
const INVISIBLE = new RegExp(`[${UNSEEN.source}--[\\t\\n]]`, 'gv')

const nameOf = (letter: string) => `U+${letter.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}`
const written = (letter: string) => `⟨${nameOf(letter)}⟩`

/** In one line or several: every character that has no shape of its own as `⟨U+202E⟩`. A plain line end of either kind stays. */
export function visible(text: string): string {
  return text.replace(/\r\n/g, '\n').replace(INVISIBLE, written).replace(ODD_SPACE, written)
}

/** Letters that run from right to left (UAX 9: R, AL, AN). */
const LEFTWARD = '\\u0590-\\u08ff\\ufb1d-\\ufdff\\ufe70-\\ufefc\\u{10800}-\\u{10fff}\\u{1e800}-\\u{1efff}'
const WORD = `[${LEFTWARD}][${LEFTWARD}\\p{M}]*`
const WORDS = new RegExp(`(${WORD}(?: ${WORD})*)`, 'u')

/**
 * A text in turns: at odd places the runs of letters from right to left. No mark is needed to turn a text around: after a Hebrew letter
 * `, 1000, 20` is shown as `20 ,1000 ,`. With each run set apart the rest stands in the order in which it runs.
 */
export const turns = (text: string): readonly string[] => text.split(WORDS)

/** How much of one text a page shows: more than anybody reads, and what a browser still lays out at once. */
const MOST_LETTERS = 100_000
/** So many empty lines, or spaces within a line, are still somebody's layout. */
const EMPTY_LINES = 4
const SPACES = 60

export interface Piece {
  readonly text: string
  /** Not of the text itself: said about it. */
  readonly note?: true
}

/** A text in pieces, what is odd in it apart from what is written: the page sets those off. */
export function pieces(text: string, most = MOST_LETTERS): readonly Piece[] {
  const found: Piece[] = []
  const say = (said: string, note?: true) => {
    if (said !== '') found.push(note ? { text: said, note } : { text: said })
  }
  const whole = text.replace(/\r\n/g, '\n')
  const cut = whole.slice(0, most)
  const odd = new RegExp(`${INVISIBLE.source}|${ODD_SPACE.source}|(?:[ \\t]*\\n){${EMPTY_LINES + 2},}|[ \\t]{${SPACES + 1},}`, 'gv')
  let at = 0
  for (const match of cut.matchAll(odd)) {
    say(cut.slice(at, match.index))
    const [what] = match
    const lines = what.split('\n').length - 1
    if (lines > EMPTY_LINES) {
      say('\n')
      say(`⟨${lines - 1} empty lines⟩`, true)
      say('\n')
    } else if (what.length > SPACES) say(`⟨${what.length} spaces⟩`, true)
    else say(written(what), true)
    at = match.index + what.length
  }
  say(cut.slice(at))
  if (cut.length < whole.length) say(`\n⟨cut here: ${whole.length - cut.length} more characters are not shown⟩`, true)
  return found
}
