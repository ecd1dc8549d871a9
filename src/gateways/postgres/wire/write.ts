import type { Status } from './codes.ts'
import { CANCEL_REQUEST, SSL_REQUEST } from './first-packet.ts'

function message(type: string, body: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(5 + body.length)
  bytes[0] = type.charCodeAt(0)
  bytes.writeInt32BE(body.length + 4, 1)
  body.copy(bytes, 5)
  return bytes
}

const int32 = (value: number) => {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeInt32BE(value | 0)
  return bytes
}

/** A text with its end. NUL would end it early, so it is left out. */
const text = (value: string) => Buffer.from(`${value.replaceAll('\0', '')}\0`)

const untyped = (...parts: Buffer[]) => {
  const body = Buffer.concat(parts)
  return Buffer.concat([int32(body.length + 4), body])
}

export const sslRequest = () => untyped(int32(SSL_REQUEST))
export const cancelRequest = (process: number, secret: Buffer) => untyped(int32(CANCEL_REQUEST), int32(process), secret)
export const startupPacket = (parameters: Readonly<Record<string, string>>) =>
  untyped(int32(3 << 16), ...Object.entries(parameters).flatMap(([name, value]) => [text(name), text(value)]), Buffer.from([0]))

export const queryMessage = (sql: string) => message('Q', text(sql))
export const parseMessage = (name: string, sql: string) => message('P', Buffer.concat([text(name), text(sql), Buffer.from([0, 0])]))

export const authenticationOk = () => message('R', int32(0))
export const parameterStatus = (name: string, value: string) => message('S', Buffer.concat([text(name), text(value)]))
export const backendKeyData = (process: number, secret: Buffer) => message('K', Buffer.concat([int32(process), secret]))
export const readyForQuery = (status: Status) => message('Z', Buffer.from(status))
export const commandComplete = (tag: string) => message('C', text(tag))
/** Protocol 3.0 is spoken, and these `_pq_.` options are not known. */
export const negotiateVersion = (options: readonly string[]) => message('v', Buffer.concat([int32(0), int32(options.length), ...options.map(text)]))

/** Fields of ErrorResponse and NoticeResponse. */
export interface ErrorFields {
  readonly severity: 'ERROR' | 'FATAL' | 'NOTICE'
  readonly sqlstate: string
  readonly message: string
  readonly detail?: string | undefined
  readonly hint?: string | undefined
}

export function errorMessage({ severity, sqlstate, message: said, detail, hint }: ErrorFields): Buffer {
  const fields: (readonly [string, string | undefined])[] = [
    ['S', severity],
    ['V', severity],
    ['C', sqlstate],
    ['M', said],
    ['D', detail],
    ['H', hint],
    ['R', 'chaperone'],
  ]
  const body = fields.flatMap(([field, value]) => (value === undefined ? [] : [Buffer.from(field), text(value)]))
  return message(severity === 'NOTICE' ? 'N' : 'E', Buffer.concat([...body, Buffer.from([0])]))
}
