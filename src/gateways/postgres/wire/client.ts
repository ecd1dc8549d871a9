import { code } from './codes.ts'
import { HEADER, malformed, Reader } from './reader.ts'

/** The text of a Query. A NUL inside is refused: the server would stop reading there, and so would a parser (engineering.md B.3). */
export function readQuery(frame: Buffer): string {
  const reader = new Reader(frame, HEADER)
  const text = reader.text()
  if (reader.left > 0) throw malformed('its SQL holds a NUL')
  return text
}

export interface ParseMessage {
  /** oids of the types of parameters, as the client declares them; 0: it does not */
  readonly types: readonly number[]
  readonly name: string
  readonly text: string
}

export function readParse(frame: Buffer): ParseMessage {
  const reader = new Reader(frame, HEADER)
  const name = reader.name()
  const text = reader.text()
  const types = reader.count()
  // A NUL inside the text shows here: what follows it is not a list of types.
  if (reader.left !== types * 4) throw malformed('its SQL holds a NUL, or its parameter types do not add up')
  const declared: number[] = []
  for (let i = 0; i < types; i++) declared.push(reader.int32() >>> 0)
  return { name, text, types: declared }
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
  const portal = reader.name()
  const statement = reader.name()
  const formats: number[] = []
  for (let left = reader.count(); left > 0; left--) formats.push(reader.int16())
  const count = reader.count()
  if (formats.length > 1 && formats.length !== count) throw malformed('its formats and values do not add up')
  const values: (Buffer | null)[] = []
  for (let i = 0; i < count; i++) {
    const length = reader.int32()
    if (length < -1) throw malformed('a value has a negative length')
    values.push(length === -1 ? null : reader.bytes(length))
  }
  for (let left = reader.count(); left > 0; left--) reader.int16()
  reader.end()
  return { portal, statement, values, isBinary: (index) => (formats.length === 1 ? formats[0] : formats[index]) === 1 }
}

/** Describe and Close: of a statement or a portal. */
export function readTarget(frame: Buffer): { readonly of: 'statement' | 'portal'; readonly name: string } {
  const reader = new Reader(frame, HEADER)
  const of = reader.byte()
  const name = reader.name()
  reader.end()
  if (of !== code('S') && of !== code('P')) throw malformed('it is about neither a statement nor a portal')
  return { of: of === code('S') ? 'statement' : 'portal', name }
}

export function readExecute(frame: Buffer): { readonly portal: string; readonly most: number } {
  const reader = new Reader(frame, HEADER)
  const portal = reader.name()
  const most = reader.int32()
  reader.end()
  return { portal, most }
}
