import { cappedNotice, cutWords } from '../refuse.ts'
import { FROM_CLIENT, FROM_SERVER } from '../wire/codes.ts'
import { commandComplete, copyDataMessage, copyDoneMessage } from '../wire/write.ts'
import type { Item, Portal, Run } from './prepared.ts'

/** Signature, flags and length of the extension of COPY ... BINARY: it comes with the first row, as one message. */
const COPY_SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1')
const COPY_TRAILER = Buffer.from([0xff, 0xff])
/** bytes of the message that ends COPY ... BINARY: nothing else is so short, but a row without columns */
const TRAILER_MESSAGE = 7

/** How a COPY TO STDOUT writes its rows; undefined: rows of a query. */
export type CopyFormat = 'text' | 'binary' | undefined

/**
 * Whether a row of `size` bytes may go to the client. Counts it, and says in the run that the result was cut when it may not.
 * What a portal gave in several Executes counts together: else a client would read everything in small helpings.
 */
export function passes(run: Run, portal: Portal | undefined, size: number): boolean {
  if (run.cut) return false
  const before = portal ?? run
  if (run.cap > 0 && before.rows >= run.cap) run.cut = 'rows'
  else if (run.capBytes > 0 && before.bytes + size > run.capBytes) run.cut = 'bytes'
  if (run.cut) return false
  run.rows++
  run.bytes += size
  if (portal) {
    portal.rows++
    portal.bytes += size
  }
  return true
}

/**
 * What the server says of the run, in the bytes that its rule leaves: `(select string_agg(x, '') from t)::int` has an error
 * that quotes the whole table. What is over them is cut so that it can be seen, and is the last of the run.
 */
export function wordsWithin(run: Run | undefined, portal: Portal | undefined, frame: Buffer): Buffer | 'keep' | 'drop' {
  if (!run || run.capBytes === 0) return 'keep'
  const isNotice = frame[0] === FROM_SERVER.notice
  if (run.wordsCut && isNotice) return 'drop'
  const left = run.capBytes - (portal ?? run).bytes
  const fits = frame.length <= left
  const used = fits ? frame.length : Math.max(0, left)
  run.bytes += used
  if (portal) portal.bytes += used
  if (fits) return 'keep'
  run.wordsCut = true
  return cutWords(frame, left)
}

/**
 * The rest of a result that is over its cap would be made for nobody. The server is asked to stop only where its error is
 * seen by nobody: a plain read outside a transaction block, alone in its message or segment, with nothing sent behind it.
 * Elsewhere the error would abort a transaction that the client believes in, so the rest is read and thrown away.
 * `waiting`: what was sent and is not answered, outside a transaction block.
 */
export function mayStop({ described: { kind, kinds, effects, opaque } }: Run, waiting: readonly Item[]): boolean {
  const [head, next] = waiting
  const alone = head?.type === FROM_CLIENT.query ? head.runs.length === 1 && !next : next?.type === FROM_CLIENT.sync && waiting.length === 2
  const reads = effects.length === 1 && effects[0] === 'read' && !opaque
  return alone && reads && (kinds.length === 1 || kind === 'copy') && /^(select|copy)$/.test(kind)
}

/** The end of COPY ... BINARY is no row, and goes through whatever was cut before it. */
export const isCopyEnd = (format: CopyFormat, size: number): boolean => format === 'binary' && size === TRAILER_MESSAGE

/** In place of a first message of COPY ... BINARY that is over the cap: the client must see its head all the same. */
export const copyHead = (): Buffer => copyDataMessage(COPY_SIGNATURE)

/** What a client sees at the end of a result that was cut: it is told so, and the count is that of what it got. */
export function cutEnd(run: Run, portal: Portal | undefined, tag: string): Buffer {
  // What a change did stays true whatever of its RETURNING was cut.
  const shown = commandComplete(/^(SELECT|FETCH|COPY) \d+$/.test(tag) ? tag.replace(/\d+$/, String(run.rows)) : tag)
  if (portal?.saidCut) return shown
  if (portal) portal.saidCut = true
  return Buffer.concat([cappedNotice(run.cut === 'bytes' ? `${run.capBytes} bytes` : `${run.cap} rows`), shown])
}

/** The end of a result whose statement was stopped at the cap: where the server says "canceled", the client sees a result that was cut. */
export function stoppedEnd(run: Run, portal: Portal | undefined, format: CopyFormat): Buffer {
  const end = cutEnd(run, portal, `${format ? 'COPY' : 'SELECT'} 0`)
  if (!format) return end
  return Buffer.concat([...(format === 'binary' ? [copyDataMessage(COPY_TRAILER)] : []), copyDoneMessage(), end])
}
