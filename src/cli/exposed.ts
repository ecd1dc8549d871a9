import { visible } from '../catalog/flag-types.ts'
import { escapeOf, ODD_SPACE } from '../encoding/unseen.ts'

const TAB = '    '

/**
 * A line of somebody else's text for one who is about to say yes to it: nothing in it acts on the terminal, hides, turns the
 * reading direction around or only looks like a space; whatever would is shown as an escape. (`printable` leaves such things
 * out; here what is left out would be approved unseen: peers R42, CVE-2021-42574.)
 */
export function exposed(line: string): string {
  const indented = line.replace(/^\t+/, (tabs) => TAB.repeat(tabs.length))
  return (
    visible(indented, Number.POSITIVE_INFINITY)
      .replace(ODD_SPACE, escapeOf)
      // A pile of marks would cover the lines above.
      .replace(/(\p{M}{2})(\p{M}+)/gu, (_, first: string, rest: string) => first + [...rest].map(escapeOf).join(''))
      // Letters that are read from right to left take the numbers and signs behind them along; a mark on both sides keeps each run to itself.
      .replace(RIGHT_TO_LEFT, `${LEFT_TO_RIGHT_MARK}$&${LEFT_TO_RIGHT_MARK}`)
      .replace(/ +$/, (spaces) => '\\u{20}'.repeat(spaces.length))
  )
}

/** Scripts with strong right-to-left letters (Unicode, bidirectional classes R and AL). */
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]+/gu
const LEFT_TO_RIGHT_MARK = '\u200e'

/** At the left of every line of somebody else's text: what stands there cannot pass for a line of ours. */
const BAR = '| '
const GOES_ON = '… '

/** A text of somebody else, line by line, broken to the width here, so that no terminal breaks it behind the bar. */
export function framed(text: string, width: number): readonly string[] {
  const room = Math.max(20, width - BAR.length - GOES_ON.length)
  return text
    .replace(/\n$/, '')
    .split('\n')
    .flatMap((line) => broken(exposed(line), room))
    .map((line) => `${BAR}${line}`.trimEnd())
}

function broken(line: string, room: number): readonly string[] {
  const parts: string[] = []
  let part = ''
  let cells = 0
  for (const letter of line) {
    // What is not plain may be two cells wide; our own mark has no width.
    const wide = letter === LEFT_TO_RIGHT_MARK ? 0 : letter >= ' ' && letter <= '~' ? 1 : 2
    if (cells + wide > room) {
      parts.push(part)
      part = GOES_ON
      cells = 0
    }
    part += letter
    cells += wide
  }
  return [...parts, part]
}
