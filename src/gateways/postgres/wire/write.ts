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

/** Counts are unsigned: a Bind takes up to 65535 values. */
const int16 = (value: number) => Buffer.from([(value >> 8) & 255, value & 255])

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
/** `types`: oids that are declared for parameters */
export const parseMessage = (name: string, sql: string, types: readonly number[] = []) =>
  message('P', Buffer.concat([text(name), text(sql), int16(types.length), ...types.map(int32)]))

/** A portal of a statement without parameters, results as text. */
export const bindMessage = (portal: string, statement: string) => message('B', Buffer.concat([text(portal), text(statement), Buffer.alloc(6)]))
/** The same with values, each in its format: 1 is binary. */
export const bindValuesMessage = (portal: string, statement: string, values: readonly (Buffer | null)[], formats: readonly number[]) =>
  message(
    'B',
    Buffer.concat([
      text(portal),
      text(statement),
      int16(formats.length),
      ...formats.map(int16),
      int16(values.length),
      ...values.flatMap((value) => (value === null ? [int32(-1)] : [int32(value.length), value])),
      int16(0),
    ]),
  )
export const describeMessage = (of: 'S' | 'P', name: string) => message('D', Buffer.concat([Buffer.from(of), text(name)]))
export const executeMessage = (portal: string) => message('E', Buffer.concat([text(portal), int32(0)]))
export const closeMessage = (of: 'S' | 'P', name: string) => message('C', Buffer.concat([Buffer.from(of), text(name)]))
export const syncMessage = () => message('S', Buffer.alloc(0))
export const copyDataMessage = (data: Buffer) => message('d', data)
export const copyDoneMessage = () => message('c', Buffer.alloc(0))

/** Answers to what a server asks for while it lets us in. */
export const passwordMessage = (password: string) => message('p', text(password))
export const saslInitialResponse = (mechanism: string, said: string) =>
  message('p', Buffer.concat([text(mechanism), int32(Buffer.byteLength(said)), Buffer.from(said)]))
export const saslResponse = (said: string) => message('p', Buffer.from(said))

export const authenticationOk = () => message('R', int32(0))
export const parameterStatus = (name: string, value: string) => message('S', Buffer.concat([text(name), text(value)]))
export const backendKeyData = (process: number, secret: Buffer) => message('K', Buffer.concat([int32(process), secret]))
export const readyForQuery = (status: Status) => message('Z', Buffer.from(status))
export const commandComplete = (tag: string) => message('C', text(tag))
/** The version that is spoken, and the `_pq_.` options that are not known. libpq reads the whole number, major version included. */
export const negotiateVersion = (minor: number, options: readonly string[]) =>
  message('v', Buffer.concat([int32((3 << 16) | minor), int32(options.length), ...options.map(text)]))

/** Fields of ErrorResponse and NoticeResponse. */
export interface ErrorFields {
  readonly severity: 'ERROR' | 'FATAL' | 'NOTICE'
  readonly sqlstate: string
  readonly message: string
  readonly detail?: string | undefined
  readonly hint?: string | undefined
  /** where in the text of the client, in characters from 1 */
  readonly position?: number | undefined
}

export const errorMessage = ({ severity, sqlstate, message: said, detail, hint, position }: ErrorFields): Buffer =>
  fieldsMessage((severity === 'NOTICE' ? 'N' : 'E').charCodeAt(0), [
    ['S', severity],
    ['V', severity],
    ['C', sqlstate],
    ['M', said],
    ['D', detail],
    ['H', hint],
    ['P', position === undefined ? undefined : String(position)],
    ['R', 'chaperone'],
  ])

/** An ErrorResponse or NoticeResponse of fields by their letters; what is undefined is left out. */
export function fieldsMessage(type: number, fields: readonly (readonly [string, string | undefined])[]): Buffer {
  const body = fields.flatMap(([field, value]) => (value === undefined ? [] : [Buffer.from(field), text(value)]))
  return message(String.fromCharCode(type), Buffer.concat([...body, Buffer.from([0])]))
}
