import type { IncomingMessage } from 'node:http'
import type { Clock } from '../../clock.ts'
import { readBody } from './body.ts'
import { type Era, eraOf } from './era.ts'
import type { McpLimits } from './limits.ts'
import { INVALID_REQUEST, type Message, type Notification, ProtocolError, type Request, readMessages } from './wire.ts'

/** What a client posted: messages that ask for something, all of one era. More than one only in a batch. */
export interface Posted {
  readonly era: Era
  readonly batch: boolean
  readonly messages: readonly (Request | Notification)[]
}

/** Reads a POST. `saw` gets its bytes as soon as they are there, for the record. Throws ProtocolError, `too_large`, `too_slow`, `ambiguous`. */
export async function readPost(request: IncomingMessage, clock: Clock, limits: McpLimits, saw: (bytes: Buffer) => void): Promise<Posted> {
  // A JSON body under another name would pass a gate that looks at names only (peers R07, R08).
  if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) {
    throw new ProtocolError(INVALID_REQUEST, 'Content-Type must be application/json.', { http: 415 })
  }
  const bytes = await readBody(request, clock, limits)
  saw(bytes)
  const read = readMessages(bytes, limits)
  const batch = isBatch(read)
  const all = batch ? read : [read]
  const eras = all.map((message) => eraOf(message, request.headers))
  if (batch && eras.includes('modern')) throw noBatches()
  const messages = all.map((message) => {
    // Servers' requests are not relayed, so no client has anything to respond to.
    if (message.kind === 'response')
      throw new ProtocolError(INVALID_REQUEST, 'Nobody asked for this response.', { id: message.id, code: 'not_found' })
    return message
  })
  return { era: eras[0]!, batch, messages }
}

const isBatch = (read: Message | readonly Message[]): read is readonly Message[] => Array.isArray(read)

export const noBatches = () => new ProtocolError(INVALID_REQUEST, 'This version has no batches: send the messages one by one.')
