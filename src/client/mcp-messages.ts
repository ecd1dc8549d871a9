import type { IncomingMessage } from 'node:http'
import type { ErrorBody } from '../api/contract.ts'
import { ChaperoneError, REASONS, type ReasonCode } from '../errors.ts'
import { ApiError } from './api-error.ts'
import type { Message } from './mcp-headers.ts'

/** What the shim reads of JSON-RPC messages and of the answers that carry them. */
export type Id = string | number

export function idOf(message: Message): Id | undefined {
  return typeof message.id === 'string' || typeof message.id === 'number' ? message.id : undefined
}

export function isResponse(value: unknown): value is Message {
  return typeof value === 'object' && value !== null && 'jsonrpc' in value && ('result' in value || 'error' in value) && !('method' in value)
}

export function parseOrNothing(text: Buffer | string): unknown {
  try {
    return JSON.parse(text.toString('utf8'))
  } catch {
    return undefined
  }
}

/** The same JSON on one line. A raw line end can only stand between tokens, where a space means the same; nothing else is touched. */
export const oneLine = (json: Buffer | string): string => json.toString('utf8').replace(/[\r\n]+/g, ' ')

/** The message of a JSON-RPC error, for a log line. */
export function errorText(response: Message): string {
  const error = response.error as Message | undefined
  return typeof error?.message === 'string' ? error.message.slice(0, 500) : 'no reason given'
}

/** Bytes of one message from the server. */
export const LONGEST_ANSWER = 32 * 1024 * 1024

export async function readBody(answer: IncomingMessage, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of answer) {
    size += (chunk as Buffer).length
    if (size > limit) throw new ChaperoneError('too_large', `The answer is over ${limit} bytes.`)
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks)
}

export function headerOf(answer: IncomingMessage, name: string): string | undefined {
  const value = answer.headers[name]
  return typeof value === 'string' ? value : undefined
}

/** An HTTP refusal that is no JSON-RPC message. */
export function refusalOf(status: number, body: unknown): ChaperoneError {
  const error = (body as ErrorBody | undefined)?.error
  if (error && typeof error.message === 'string' && Object.hasOwn(REASONS, error.code)) return new ApiError(status, { error })
  const code = (Object.keys(REASONS) as ReasonCode[]).find((name) => REASONS[name].http === status) ?? 'upstream_unavailable'
  return new ChaperoneError(code, `Chaperone answered with HTTP status ${status}: ${REASONS[code].meaning}`)
}

/** The connection ended after the request was sent: sending it again could run it twice. */
export function lostAnswer(): ChaperoneError {
  return new ChaperoneError('upstream_unavailable', 'The connection was cut before the answer came; it is not known whether the call took effect.', {
    fix: 'Look at what it would have changed before you call it again.',
  })
}
