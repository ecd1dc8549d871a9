import { ChaperoneError } from '../errors.ts'

/** The few messages of the PostgreSQL protocol before a session begins (documentation, chapter 54.7). Pure. */
export type Opening =
  | { readonly kind: 'ssl' }
  | { readonly kind: 'gss' }
  | { readonly kind: 'cancel'; readonly bytes: Buffer }
  | { readonly kind: 'startup'; readonly version: number; readonly parameters: ReadonlyMap<string, string> }

const SSL_REQUEST = 80877103
const GSS_REQUEST = 80877104
const CANCEL_REQUEST = 80877102
/** The server's own limit (MAX_STARTUP_PACKET_LENGTH). */
export const LONGEST_STARTUP = 10_000

/** The first message, and how many bytes it took; undefined while it is not whole. Throws `malformed` or `too_large`. */
export function readOpening(bytes: Buffer): { readonly opening: Opening; readonly size: number } | undefined {
  if (bytes.length < 4) return undefined
  const size = bytes.readInt32BE(0)
  if (size > LONGEST_STARTUP) throw new ChaperoneError('too_large', 'The startup message is over its limit.')
  if (size < 8) throw new ChaperoneError('malformed', 'The startup message has an impossible length.')
  if (bytes.length < size) return undefined
  const code = bytes.readInt32BE(4)
  if (code === SSL_REQUEST) return { opening: { kind: 'ssl' }, size }
  if (code === GSS_REQUEST) return { opening: { kind: 'gss' }, size }
  if (code === CANCEL_REQUEST) return { opening: { kind: 'cancel', bytes: Buffer.from(bytes.subarray(0, size)) }, size }
  if (code >>> 16 !== 3) throw new ChaperoneError('unsupported', 'Only version 3 of the PostgreSQL protocol is spoken here.')
  return { opening: { kind: 'startup', version: code, parameters: readParameters(bytes.subarray(8, size)) }, size }
}

function readParameters(bytes: Buffer): ReadonlyMap<string, string> {
  const parts = bytes.toString('utf8').split('\0')
  // name, value, name, value, then an empty name, then what follows the last zero byte.
  if (parts.length < 2 || parts.at(-1) !== '' || parts.at(-2) !== '' || parts.length % 2 !== 0)
    throw new ChaperoneError('malformed', 'The startup message is broken.')
  const parameters = new Map<string, string>()
  for (let i = 0; i < parts.length - 2; i += 2) {
    if (parts[i] === '') throw new ChaperoneError('malformed', 'The startup message is broken.')
    if (parameters.has(parts[i]!)) throw new ChaperoneError('ambiguous', `The startup message says ${parts[i]} twice.`)
    parameters.set(parts[i]!, parts[i + 1]!)
  }
  return parameters
}

export function writeStartup(version: number, parameters: ReadonlyMap<string, string>): Buffer {
  const body = Buffer.from(`${[...parameters].map(([name, value]) => `${name}\0${value}\0`).join('')}\0`)
  const head = Buffer.alloc(8)
  head.writeInt32BE(8 + body.length, 0)
  head.writeInt32BE(version, 4)
  return Buffer.concat([head, body])
}

export const sslRequest = (): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeInt32BE(8, 0)
  bytes.writeInt32BE(SSL_REQUEST, 4)
  return bytes
}

/** AuthenticationCleartextPassword: the wire is a loopback, and the password lives as long as this process. */
export const askPassword = (): Buffer => Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 3])

/** The password in a PasswordMessage; undefined while it is not whole. Throws `malformed` for any other message. */
export function readPassword(bytes: Buffer): { readonly password: Buffer; readonly size: number } | undefined {
  if (bytes.length < 5) return undefined
  const length = bytes.readInt32BE(1)
  if (bytes[0] !== 0x70 || length < 5 || length > 1024) throw new ChaperoneError('malformed', 'A password was expected.')
  if (bytes.length < 1 + length) return undefined
  return { password: bytes.subarray(5, length), size: 1 + length }
}

/** A fatal ErrorResponse. */
export function fatalError(sqlstate: string, message: string, hint?: string): Buffer {
  const fields = [`SFATAL`, `VFATAL`, `C${sqlstate}`, `M${message}`, ...(hint === undefined ? [] : [`H${hint}`])]
  const body = Buffer.from(`${fields.map((field) => `${field.replaceAll('\0', ' ')}\0`).join('')}\0`)
  const head = Buffer.alloc(5)
  head[0] = 0x45
  head.writeInt32BE(4 + body.length, 1)
  return Buffer.concat([head, body])
}
