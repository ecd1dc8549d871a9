import type { Outcome, Permit } from '../../access/types.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Answer } from './answer.ts'
import { spanAt } from './text/json-text.ts'
import type { Notification, Request, UpstreamMessage } from './wire.ts'

/**
 * One way to one server, spoken to in the era of the client. Between like eras it is the raw thing (streamable, old-sse,
 * stdio); between unlike ones a translator around the raw thing of the other era. Every send takes the permit of what is sent.
 */
export interface Upstream {
  /** Sends the request and writes its answer. Rejects when there is none; then nothing, or only a part of a stream, was written. */
  request(permit: Permit, message: Request, answer: Answer, headers: ClientHeaders): Promise<Outcome>
  notify(permit: Permit, message: Notification, headers: ClientHeaders): Promise<Outcome>
  /** The legacy era's standalone stream, until either side ends it. */
  stream(permit: Permit, answer: Answer, headers: ClientHeaders): Promise<Outcome>
  /** The version that the handshake agreed on. */
  agreed(version: string): void
  /** The session is over: what runs for it ends. Idempotent. */
  end(why: ChaperoneError): Promise<void>
}

/** Headers of the client that may go upstream; stdio has none. */
export type ClientHeaders = Readonly<Record<string, string>>

/** What a server says is judged, recorded and passed on by this; made by the gateway for one lane. */
export interface Asker {
  /** The answer to an answer of the server: filtered when it is a list. Throws when it cannot be. */
  answered(message: Request, text: string): string | Promise<string>
  /** Modern: what an `input_required` result asks of the client is judged. Throws Refusal. Every other text is returned as it is. */
  required(message: Request, text: string): string | Promise<string>
  /** Judges and records a request of the server that reaches the client in another form. The returned function settles it. Rejects with Refusal. */
  may(method: string, params: Readonly<Record<string, unknown>>): Promise<(outcome: Outcome) => void>
  /**
   * A request of the server: judged, recorded, relayed to the client. Resolves with the JSON-RPC text of its answer, under
   * the server's own id. Never rejects. `via` is the answer on whose stream it came; undefined: it belongs to no request.
   * `raw` is the event that it came in, passed on as it is where nothing must change.
   */
  asked(message: UpstreamMessage, via: Answer | undefined, raw?: Buffer): Promise<string>
  /** A notification of the server that belongs to no request: whether it may reach the client. */
  told(message: UpstreamMessage): boolean
}

/**
 * Sends a message that Chaperone itself needs for what the client asked (a handshake in the other era, a further round, a
 * subscription). It is an action of the client like any other: judged, recorded, with a permit of its own (rule 9). `after` is
 * the permit of the round before, when it is a further round of one call: an approval of that call covers it as well.
 */
export type Errand = (message: Request | Notification, send: (permit: Permit) => Promise<Outcome>, after?: Permit) => Promise<Outcome>

/** Nothing reached the server: what was asked surely did not happen. */
export class NotSent extends ChaperoneError {}

/** The server answered with an HTTP status and no JSON-RPC message. */
export class BareStatus extends ChaperoneError {
  readonly status: number

  constructor(status: number, message: string) {
    super('upstream_unavailable', message, { detail: `HTTP ${status}` })
    this.status = status
  }
}

/** What came of a request, by the text of its answer. A tool's own failure is not ours, but it is no success. */
export function outcomeOf(text: string, more: Readonly<Record<string, unknown>> = {}): Outcome {
  const facts = { bytes: Buffer.byteLength(text), ...more }
  const code = text.includes('"error"') ? spanAt(text, ['error', 'code']) : undefined
  if (code) return { status: 'failed', facts: { ...facts, error: Number(text.slice(code.start, code.end)) } }
  const flag = text.includes('"isError"') ? spanAt(text, ['result', 'isError']) : undefined
  if (flag && text.slice(flag.start, flag.end) === 'true') return { status: 'failed', facts: { ...facts, isError: true } }
  return { status: 'ok', facts }
}
