import type { Clock } from '../clock.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import type { LiveSession } from '../identity/types.ts'
import type { ErrorBody } from './contract.ts'
import { Streamed } from './route.ts'

/**
 * Watchers on this node, of one identity and of one session; what one that does not read may be behind before it is let go. An agent
 * has as many sessions as it likes: counted by session alone, eight of them would leave no place for an approver.
 */
export const STREAM_LIMITS = { watchers: 128, perIdentity: 12, perSession: 4, behind: 1000 } as const
/** A comment now and then, so that both sides notice a dead line. */
const BEAT_MS = 15_000

export interface StreamEvent {
  readonly id: string
  readonly data: unknown
}

/** Whose stream it is. */
export type Watcher = Pick<LiveSession, 'id'> & { readonly principal: Pick<LiveSession['principal'], 'identityId'> }

export interface Streams {
  /**
   * An event stream that ends with `signal`: its last event is `over`, with the reason as an `ErrorBody`. `begin` is given the ways to send an event and to end the stream, and returns what
   * stops it. Throws `too_many`.
   */
  open(watcher: Watcher, signal: AbortSignal, begin: (send: (event: StreamEvent) => void, end: () => void) => () => void): Streamed
  close(): void
}

/** `tooMany`: what the one too many is told. */
export function makeStreams(clock: Clock, tooMany: string): Streams {
  const open = new Map<() => void, Watcher>()
  return {
    open(watcher, signal, begin) {
      const { identityId } = watcher.principal
      const mine = [...open.values()].filter(({ principal }) => principal.identityId === identityId)
      const here = mine.filter(({ id }) => id === watcher.id)
      if (open.size >= STREAM_LIMITS.watchers || mine.length >= STREAM_LIMITS.perIdentity || here.length >= STREAM_LIMITS.perSession)
        throw new ChaperoneError('too_many', tooMany, { fix: 'End another one, or try again later.' })
      const { promise: done, resolve } = Promise.withResolvers<void>()
      const utf8 = new TextEncoder()
      const waiting: string[] = []
      let output: ReadableStreamDefaultController<Uint8Array>
      let stop = () => {}
      let stopBeat = () => {}

      const end = () => {
        if (!open.delete(end)) return
        stop()
        stopBeat()
        signal.removeEventListener('abort', cut)
        try {
          output.close()
        } catch {
          // The reader has gone already.
        }
        resolve()
      }
      /** What waits is not given any more: what it rests on is gone. Why, is. */
      const cut = () => {
        if (!open.has(end)) return
        waiting.length = 0
        const { code, message, fix } = toChaperoneError(signal.reason)
        const body: ErrorBody = { error: { code, message, ...(fix === undefined ? {} : { fix }) } }
        output.enqueue(utf8.encode(`event: over\ndata: ${JSON.stringify(body)}\n\n`))
        end()
      }
      /** What the reader has not taken yet waits here, not in the stream: so its length is ours to bound. */
      const push = (text: string) => {
        if (!open.has(end)) return
        if (waiting.length >= STREAM_LIMITS.behind) {
          waiting.length = 0
          output.enqueue(utf8.encode('event: behind\ndata: {}\n\n'))
          return end()
        }
        waiting.push(text)
        flush()
      }
      const flush = () => {
        while (waiting.length > 0 && (output.desiredSize ?? 0) > 0) output.enqueue(utf8.encode(waiting.shift()))
      }
      const beat = () => {
        stopBeat = clock.at(clock.now() + BEAT_MS, () => {
          push(': beat\n\n')
          if (open.has(end)) beat()
        })
      }

      open.set(end, watcher)
      const stream = new ReadableStream<Uint8Array>(
        {
          start(controller) {
            output = controller
            stop = begin(({ id, data }) => push(`id: ${id}\ndata: ${JSON.stringify(data)}\n\n`), end)
            signal.addEventListener('abort', cut)
            beat()
            push(': watching\n\n')
            if (signal.aborted) cut()
          },
          pull: flush,
          cancel: end,
        },
        { highWaterMark: 16 },
      )
      return new Streamed(
        new Response(stream, { headers: { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' } }),
        done,
      )
    },
    close() {
      for (const end of [...open.keys()]) end()
    },
  }
}
