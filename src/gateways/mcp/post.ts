import type { IncomingMessage } from 'node:http'
import type { Clock } from '../../clock.ts'
import { readBody } from './body.ts'
import { type Era, eraOf } from './era.ts'
import type { McpLimits } from './limits.ts'
import { INVALID_REQUEST, type Message, ProtocolError, readMessages } from './wire.ts'

/** What a client posted, all of one era. More than one message only in a batch. */
export interface Posted {
  readonly era: Era
  readonly batch: boolean
  readonly messages: readonly Message[]
}

/** Reads a POST. `saw` gets its bytes as soon as they are there, for the record. Throws ProtocolError, `too_large`, `too_slow`, `ambiguous`. */
export async function readPost(request: IncomingMessage, clock: Clock, limits: McpLimits, saw: (bytes: Buffer) => Promise<void>): Promise<Posted> {
  // A JSON body under another name would pass a gate that looks at names only (peers R07, R08).
  if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) {
    throw new ProtocolError(INVALID_REQUEST, 'Content-Type must be application/json.', { http: 415 })
  }
  const bytes = await readBody(request, clock, limits)
  await saw(bytes)
  const read = readMessages(bytes, limits)
  const batch = isBatch(read)
  const all = batch ? read : [read]
  const eras = all.map((message) => eraOf(message, request.headers))
  if (batch && eras.includes('modern')) throw noBatches()
  return { era: eras[0]!, batch, messages: all }
}

const isBatch = (read: Message | readonly Message[]): read is readonly Message[] => Array.isArray(read)

export const noBatches = () => new ProtocolError(INVALID_REQUEST, 'This version has no batches: send the messages one by one.')
