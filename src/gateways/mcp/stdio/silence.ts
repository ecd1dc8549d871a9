import type { Clock } from '../../../clock.ts'

interface SilenceParts {
  readonly clock: Clock
  /** when the server was last heard, ms since 1970 */
  readonly heard: () => number
  /** ms; it may change while we wait */
  readonly patience: () => number
  /** Its silence is none of its fault. */
  readonly excused: () => boolean
  /** After so long an answer is opened as a stream, so that nothing in between closes it. ms */
  readonly keepAliveMs: number
  readonly keepOpen: () => void
  /** It was silent for this many ms. */
  readonly late: (ms: number) => void
}

/** Watches over one request until the returned function is called. Progress counts as being heard (peers R95). */
export function watchSilence({ clock, heard, patience, excused, keepAliveMs, keepOpen, late }: SilenceParts): () => void {
  let disarm = () => {}
  const arm = (at: number, then: () => void) => {
    disarm = clock.at(at, then)
  }
  const look = () => {
    const ms = patience()
    const end = heard() + ms
    if (clock.now() < end) arm(end, look)
    else if (excused()) arm(clock.now() + ms, look)
    else late(ms)
  }
  arm(heard() + Math.min(keepAliveMs, patience()), () => {
    keepOpen()
    look()
  })
  return () => disarm()
}
