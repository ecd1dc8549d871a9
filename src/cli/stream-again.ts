import { sleepAwake } from '../client/sleep.ts'
import { systemClock } from '../clock.ts'
import { type ReasonCode, toChaperoneError } from '../errors.ts'
import { say } from './output.ts'

const RETRY_MS = 2_000
/** The server is away for a while. */
const GONE = new Set<ReasonCode>(['upstream_unavailable', 'upstream_timeout', 'draining'])
/** A stream outlives the certificate that it was opened with, and begins again with the one of then. */
const USUAL = new Set<ReasonCode>(['credential_expired', 'too_slow'])

/**
 * Listens at a stream until `once` brings something or `stop` fires (undefined): when the stream breaks off, it is opened anew. Throws
 * what no new stream would mend.
 */
export async function streamAgain<T>(stop: AbortSignal, once: () => Promise<T | undefined>): Promise<T | undefined> {
  while (!stop.aborted) {
    try {
      const found = await once()
      if (found !== undefined) return found
    } catch (error) {
      // What breaks off because somebody ended the command is no trouble of the server.
      if (stop.aborted) return undefined
      const { code } = toChaperoneError(error)
      if (GONE.has(code)) say('the server is gone; trying again')
      else if (!USUAL.has(code)) throw error
    }
    await sleepAwake(systemClock, RETRY_MS, stop)
  }
  return undefined
}
