import type { Outcome, Permit } from '../../../access/types.ts'
import { ChaperoneError, type ReasonCode } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import { sseEvent } from '../text/sse.ts'
import type { Asker } from '../types.ts'
import { memberOf, type UpstreamMessage } from '../wire.ts'

/** One session at a process that several may share. */
export interface Member {
  readonly asker: Asker
  /** Why it is over. */
  readonly closed: ChaperoneError | undefined
  /** Takes a message of the server that belongs to no request of its own. */
  deliver(text: string): void
  /** The process is over; nothing of this member is in flight any more. Not called for one that never answered: its requests say so. */
  lost(why: ChaperoneError): void
}

/** A request on its way, as its member waits for it. */
export interface Flight {
  readonly member: Member
  readonly permit: Permit
  readonly answer: Answer
  readonly settle: (outcome: Outcome | ChaperoneError) => void
  /** when the server last said something about it, ms since 1970 */
  heard: number
  /** Ends it, and tells the server; undefined once it is over. */
  stop: ((why: ChaperoneError) => void) | undefined
}

/** The process ended without ever having answered: it may be of another era, or broken. */
export class EndedAtOnce extends ChaperoneError {}

/** The process never said anything that is MCP: whoever ends it for that says so in the record. */
export class NeverSpoke extends ChaperoneError {
  readonly reason: 'garbage' | 'not_started'

  constructor(reason: 'garbage' | 'not_started', code: ReasonCode, message: string) {
    super(code, message, { fix: reason === 'garbage' ? 'It must write its log to stderr.' : 'The log of Chaperone has what it wrote to stderr.' })
    this.reason = reason
  }
}

/** The child is not read more slowly for one slow client: what that cannot take is bounded by the socket and the silence limit. */
export function deliver(answer: Answer, text: string): void {
  if (!answer.streams) return
  answer.open()
  void answer.write(sseEvent(text))
}

/** The HTTP statuses that the modern era ties to error codes. */
export function modernStatus(message: UpstreamMessage): number {
  const code = message.members.has('error') ? memberOf(message, ['error', 'code']) : undefined
  if (code === -32601) return 404
  return code === -32020 || code === -32021 || code === -32022 ? 400 : 200
}
