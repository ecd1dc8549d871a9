import { isUtf8 } from 'node:buffer'
import { ChaperoneError } from '../../errors.ts'

/**
 * Messages of the PostgreSQL protocol 3.0, https://www.postgresql.org/docs/current/protocol-message-formats.html.
 * Pure: bytes in, messages out. A message is read in exactly one way or refused.
 */

const code = (letter: string) => letter.charCodeAt(0)

/** First bytes of the messages that clients send. */
export const FROM_CLIENT = {
  bind: code('B'),
  close: code('C'),
  copyData: code('d'),
  copyDone: code('c'),
  copyFail: code('f'),
  describe: code('D'),
  execute: code('E'),
  flush: code('H'),
  functionCall: code('F'),
  parse: code('P'),
  password: code('p'),
  query: code('Q'),
  sync: code('S'),
  terminate: code('X'),
} as const

/** First bytes of the messages that servers send. */
export const FROM_SERVER = {
  authentication: code('R'),
  backendKeyData: code('K'),
  bindComplete: code('2'),
  closeComplete: code('3'),
  commandComplete: code('C'),
  copyBoth: code('W'),
  copyData: code('d'),
  copyDone: code('c'),
  copyIn: code('G'),
  copyOut: code('H'),
  dataRow: code('D'),
  emptyQuery: code('I'),
  error: code('E'),
  functionCall: code('V'),
  negotiate: code('v'),
  noData: code('n'),
  notice: code('N'),
  notification: code('A'),
  parameterDescription: code('t'),
  parameterStatus: code('S'),
  parseComplete: code('1'),
  portalSuspended: code('s'),
  readyForQuery: code('Z'),
  rowDescription: code('T'),
} as const

export type Status = 'I' | 'T' | 'E'

export interface WireLimits {
  /** bytes of one SQL text */
  readonly statementBytes: number
  /** bytes of any one message */
  readonly messageBytes: number
}

export const WIRE_LIMITS: WireLimits = { statementBytes: 64 * 1024, messageBytes: 16 * 1024 * 1024 }

/** The server's own limit before somebody is known (MAX_STARTUP_PACKET_LENGTH). */
export const LONGEST_STARTUP = 10_000

const malformed = (what: string) => new ChaperoneError('malformed', `The PostgreSQL message cannot be read: ${what}.`)

// What clients send

/** One whole message, header included. `oversized`: its body was skipped, only its header is here. */
export interface ClientMessage {
  readonly type: number
  readonly frame: Buffer
  readonly oversized: boolean
}

/**
 * Cuts a client's bytes into messages. Holds at most one incomplete message; a text over its limit is skipped, so that
 * the connection lives on. Throws ChaperoneError (`malformed`, `too_large`) when the stream cannot be followed any more.
 */
export class ClientFramer {
  readonly #limits: WireLimits
  readonly #longest: ReadonlyMap<number, number>
  #chunks: Buffer[] = []
  #held = 0
  #skip = 0

  constructor(limits: WireLimits = WIRE_LIMITS) {
    this.#limits = limits
    const { messageBytes } = limits
    const small = 64 * 1024
    const { bind, close, copyData, copyDone, copyFail, describe, execute, flush, functionCall, parse, password, query, sync, terminate } = FROM_CLIENT
    this.#longest = new Map([
      ...[bind, copyData, parse, query, functionCall].map((type) => [type, messageBytes] as const),
      ...[close, copyDone, copyFail, describe, execute, flush, password, sync, terminate].map((type) => [type, small] as const),
    ])
  }

  /** Bytes held for a message that is not complete. */
  get held(): number {
    return this.#held
  }

  push(chunk: Buffer): void {
    if (this.#skip > 0) {
      const skipped = Math.min(this.#skip, chunk.length)
      this.#skip -= skipped
      chunk = chunk.subarray(skipped)
    }
    if (chunk.length === 0) return
    this.#chunks.push(chunk)
    this.#held += chunk.length
  }

  next(): ClientMessage | undefined {
    if (this.#held < 5) return undefined
    if (this.#chunks[0]!.length < 5) this.#join()
    const head = this.#chunks[0]!
    const type = head[0]!
    const longest = this.#longest.get(type)
    if (longest === undefined) throw malformed(`type 0x${type.toString(16).padStart(2, '0')} is unknown`)
    const length = head.readInt32BE(1)
    if (length < 4) throw malformed('its length is below four')
    if (length > longest) throw new ChaperoneError('too_large', `A message of ${length} bytes is over the limit of ${longest}.`)
    const whole = length + 1
    const isText = type === FROM_CLIENT.query || type === FROM_CLIENT.parse
    // Parse carries a name and parameter types besides its text.
    if (isText && length > this.#limits.statementBytes * (type === FROM_CLIENT.query ? 1 : 2) + 1024) return this.#skipBody(type, whole)
    if (this.#held < whole) return undefined
    if (head.length < whole) this.#join()
    const first = this.#chunks[0]!
    const frame = first.subarray(0, whole)
    if (first.length === whole) this.#chunks.shift()
    else this.#chunks[0] = first.subarray(whole)
    this.#held -= whole
    return { type, frame, oversized: false }
  }

  #skipBody(type: number, whole: number): ClientMessage {
    this.#join()
    const all = this.#chunks[0]!
    const here = Math.min(whole, all.length)
    this.#skip = whole - here
    this.#chunks = here === all.length ? [] : [all.subarray(here)]
    this.#held -= here
    return { type, frame: all.subarray(0, 5), oversized: true }
  }

  #join(): void {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)]
  }
}

/** Reads one frame from front to back. Throws `malformed` at the first thing that is not as it must be. */
class Reader {
  readonly #bytes: Buffer
  #at: number

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes
    this.#at = at
  }

  int16(): number {
    this.#need(2)
    this.#at += 2
    return this.#bytes.readInt16BE(this.#at - 2)
  }

  int32(): number {
    this.#need(4)
    this.#at += 4
    return this.#bytes.readInt32BE(this.#at - 4)
  }

  byte(): number {
    this.#need(1)
    return this.#bytes[this.#at++]!
  }

  bytes(length: number): Buffer {
    this.#need(length)
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  text(): string {
    const end = this.#bytes.indexOf(0, this.#at)
    if (end < 0) throw malformed('a text has no end')
    const bytes = this.#bytes.subarray(this.#at, end)
    if (!isUtf8(bytes)) throw malformed('a text is not UTF-8')
    this.#at = end + 1
    return bytes.toString('utf8')
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw malformed('something follows its end')
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  #need(length: number): void {
    if (length < 0 || this.#at + length > this.#bytes.length) throw malformed('it ends too early')
  }
}

const HEADER = 5

/** The text of a Query. A NUL inside is refused: the server would stop reading there, and so would a parser (engineering.md B.3). */
export function readQuery(frame: Buffer): string {
  const reader = new Reader(frame, HEADER)
  const text = reader.text()
  if (reader.left > 0) throw malformed('its SQL holds a NUL')
  return text
}

export interface ParseMessage {
  readonly name: string
  readonly text: string
}

export function readParse(frame: Buffer): ParseMessage {
  const reader = new Reader(frame, HEADER)
  const name = reader.text()
  const text = reader.text()
  const types = reader.int16()
  // A NUL inside the text shows here: what follows it is not a list of types.
  if (types < 0 || reader.left !== types * 4) throw malformed('its SQL holds a NUL, or its parameter types do not add up')
  return { name, text }
}

export interface BindMessage {
  readonly portal: string
  readonly statement: string
  readonly values: readonly (Buffer | null)[]
  /** whether the value at this place is binary */
  isBinary(index: number): boolean
}

export function readBind(frame: Buffer): BindMessage {
  const reader = new Reader(frame, HEADER)
  const portal = reader.text()
  const statement = reader.text()
  const formats: number[] = []
  for (let left = reader.int16(); left > 0; left--) formats.push(reader.int16())
  const count = reader.int16()
  if (count < 0 || (formats.length > 1 && formats.length !== count)) throw malformed('its formats and values do not add up')
  const values: (Buffer | null)[] = []
  for (let i = 0; i < count; i++) {
    const length = reader.int32()
    if (length < -1) throw malformed('a value has a negative length')
    values.push(length === -1 ? null : reader.bytes(length))
  }
  for (let left = reader.int16(); left > 0; left--) reader.int16()
  reader.end()
  return { portal, statement, values, isBinary: (index) => (formats.length === 1 ? formats[0] : formats[index]) === 1 }
}

/** Describe and Close: of a statement or a portal. */
export function readTarget(frame: Buffer): { readonly of: 'statement' | 'portal'; readonly name: string } {
  const reader = new Reader(frame, HEADER)
  const of = reader.byte()
  const name = reader.text()
  reader.end()
  if (of !== code('S') && of !== code('P')) throw malformed('it is about neither a statement nor a portal')
  return { of: of === code('S') ? 'statement' : 'portal', name }
}

export function readExecute(frame: Buffer): { readonly portal: string; readonly most: number } {
  const reader = new Reader(frame, HEADER)
  const portal = reader.text()
  const most = reader.int32()
  reader.end()
  return { portal, most }
}

// Before somebody is known

export type FirstPacket =
  | { readonly kind: 'ssl' | 'gss' }
  | { readonly kind: 'cancel'; readonly process: number; readonly secret: Buffer }
  | { readonly kind: 'startup'; readonly minor: number; readonly parameters: ReadonlyMap<string, string> }

const SSL_REQUEST = 80_877_103
const GSS_REQUEST = 80_877_104
const CANCEL_REQUEST = 80_877_102

/** The first packet, when it is complete, and how many bytes it takes. Throws ChaperoneError. */
export function readFirstPacket(bytes: Buffer): { readonly packet: FirstPacket; readonly size: number } | undefined {
  if (bytes.length < 4) return undefined
  const size = bytes.readInt32BE(0)
  if (size < 8 || size > LONGEST_STARTUP) throw malformed('its length is not that of a first packet')
  if (bytes.length < size) return undefined
  const reader = new Reader(bytes.subarray(0, size), 4)
  const version = reader.int32()
  if (version === SSL_REQUEST || version === GSS_REQUEST) {
    reader.end()
    return { packet: { kind: version === SSL_REQUEST ? 'ssl' : 'gss' }, size }
  }
  if (version === CANCEL_REQUEST) {
    const process = reader.int32()
    return { packet: { kind: 'cancel', process, secret: reader.bytes(reader.left) }, size }
  }
  if (version >> 16 !== 3) throw new ChaperoneError('unsupported', 'Only the PostgreSQL protocol 3 is spoken here.')
  const parameters = new Map<string, string>()
  for (;;) {
    const name = reader.text()
    if (name === '') break
    // The server takes the last one, others the first (design rule 2).
    if (parameters.has(name)) throw new ChaperoneError('ambiguous', `The startup parameter ${JSON.stringify(name.slice(0, 63))} is given twice.`)
    parameters.set(name, reader.text())
  }
  reader.end()
  return { packet: { kind: 'startup', minor: version & 0xffff, parameters }, size }
}

// What is written

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

/** The fields of an ErrorResponse or NoticeResponse, by their letters. */
export function readErrorFields(frame: Buffer): ReadonlyMap<string, string> {
  const fields = new Map<string, string>()
  let at = HEADER
  while (at < frame.length && frame[at] !== 0) {
    const end = frame.indexOf(0, at + 1)
    if (end < 0) break
    fields.set(String.fromCharCode(frame[at]!), frame.toString('utf8', at + 1, end))
    at = end + 1
  }
  return fields
}

/** `SELECT 5`, `INSERT 0 1`, `BEGIN` */
export const readTag = (frame: Buffer) => frame.toString('latin1', HEADER, frame.length - 1)

export function readParameterStatus(frame: Buffer): { readonly name: string; readonly value: string } {
  const reader = new Reader(frame, HEADER)
  return { name: reader.text(), value: reader.text() }
}

/** The text values of a DataRow. */
export function readDataRow(frame: Buffer): readonly (string | null)[] {
  const reader = new Reader(frame, HEADER)
  return Array.from({ length: reader.int16() }, () => {
    const length = reader.int32()
    return length < 0 ? null : reader.bytes(length).toString('utf8')
  })
}
