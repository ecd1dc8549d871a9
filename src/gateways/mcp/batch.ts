import { toChaperoneError } from '../../errors.ts'
import { type Answer, Collector } from './answer.ts'
import { BATCH_VERSION } from './era.ts'
import { nobodyAsked } from './inquiries.ts'
import type { McpSession } from './lanes.ts'
import { noBatches } from './post.ts'
import type { Records } from './records.ts'
import { continueTrace } from './trace.ts'
import type { Visit } from './visit.ts'
import { INVALID_REQUEST, type Message, type Notification, ProtocolError, type Request } from './wire.ts'

interface BatchParts {
  readonly records: Pick<Records, 'refused'>
  /** most bytes of one answer */
  readonly lineBytes: number
  /** The one way of every message (exchange.ts). */
  send(visit: Visit, of: McpSession, message: Request | Notification, answer: Answer): Promise<unknown>
  /** The failure of one message as its answer. */
  failure(visit: Visit, message: Request, error: unknown): unknown
}

/** Only 2025-03-26 had batches. Each message is judged, sent and recorded by itself. */
export const batches =
  ({ records, lineBytes, send, failure }: BatchParts) =>
  async (visit: Visit, of: McpSession, messages: readonly Message[]): Promise<void> => {
    if (of.version !== BATCH_VERSION || visit.all) {
      await records.refused(visit.caller, visit.name, noBatches())
      throw noBatches()
    }
    const answers: string[] = []
    for (const message of messages) {
      if (message.kind === 'response') {
        if (!of.inquiries?.answered(message)) await records.refused(visit.caller, visit.name, nobodyAsked(message), Buffer.from(message.text))
        continue
      }
      const collector = new Collector(lineBytes)
      try {
        if (message.method === 'initialize') throw new ProtocolError(INVALID_REQUEST, '`initialize` cannot be part of a batch.')
        const traced = continueTrace(message, visit.headers)
        await send({ ...visit, headers: traced.headers, trace: traced.trace }, of, traced.message, collector)
        collector.end()
        if (collector.text !== undefined) answers.push(collector.text)
      } catch (error) {
        if (message.kind === 'request') answers.push(JSON.stringify(failure(visit, message, toChaperoneError(error))))
      }
    }
    if (answers.length === 0) visit.answer.send(202)
    else visit.answer.send(200, `[${answers.join(',')}]`, { 'content-type': 'application/json' })
  }
