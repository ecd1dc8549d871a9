import type { Readable } from 'node:stream'

/** A line without its end, or the news that one was over the limit and was skipped. */
export type Line = Buffer | 'too_long'

const LINE_FEED = 10

/** The lines of a byte stream. Holds at most `limit` bytes: a longer line is dropped up to its end, and the next one is read as ever. */
export async function* readLines(input: Readable, limit: number): AsyncGenerator<Line> {
  let parts: Buffer[] = []
  let size = 0
  let skipping = false
  for await (const chunk of input) {
    let rest = typeof chunk === 'string' ? Buffer.from(chunk) : (chunk as Buffer)
    for (;;) {
      const end = rest.indexOf(LINE_FEED)
      const piece = end < 0 ? rest : rest.subarray(0, end)
      if (!skipping) {
        size += piece.length
        if (size > limit) {
          skipping = true
          parts = []
        } else parts.push(piece)
      }
      if (end < 0) break
      yield skipping ? 'too_long' : Buffer.concat(parts)
      parts = []
      size = 0
      skipping = false
      rest = rest.subarray(end + 1)
    }
  }
  if (skipping) yield 'too_long'
  else if (size > 0) yield Buffer.concat(parts)
}
