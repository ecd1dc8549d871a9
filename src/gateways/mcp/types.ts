import type { Outcome, Permit } from '../../access/types.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Answer } from './answer.ts'
import { spanAt } from './json-text.ts'
import type { Notification, Request, UpstreamMessage } from './wire.ts'

/** The server behind one MCP session, whatever it is reached by. Every send takes the permit of what is sent. */
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

/** What a server's own messages are judged by; made by the gateway for one MCP session. */
export interface Asker {
  /** The answer to an answer of the server: filtered when it is a list. Throws when it cannot be. */
  answered(message: Request, text: string): string
  /** A request of the server: the JSON-RPC text of its answer. Never rejects. */
  asked(message: UpstreamMessage): Promise<string>
  /** A notification of the server that belongs to no request: whether it may reach the client. */
  told(message: UpstreamMessage): boolean
}

/** Nothing reached the server: what was asked surely did not happen. */
export class NotSent extends ChaperoneError {}

/** What came of a request, by the text of its answer. A tool's own failure is not ours, but it is no success. */
export function outcomeOf(text: string, more: Readonly<Record<string, unknown>> = {}): Outcome {
  const facts = { bytes: Buffer.byteLength(text), ...more }
  const code = text.includes('"error"') ? spanAt(text, ['error', 'code']) : undefined
  if (code) return { status: 'failed', facts: { ...facts, error: Number(text.slice(code.start, code.end)) } }
  const flag = text.includes('"isError"') ? spanAt(text, ['result', 'isError']) : undefined
  if (flag && text.slice(flag.start, flag.end) === 'true') return { status: 'failed', facts: { ...facts, isError: true } }
  return { status: 'ok', facts }
}
