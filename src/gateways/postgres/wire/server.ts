import { HEADER, Reader } from './reader.ts'

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

/** Of a NotificationResponse: the channel that it came by. */
export function readChannel(frame: Buffer): string {
  const reader = new Reader(frame, HEADER)
  reader.int32() // the process that has sent it
  return reader.text()
}

/** The text values of a DataRow. */
export function readDataRow(frame: Buffer): readonly (string | null)[] {
  const reader = new Reader(frame, HEADER)
  return Array.from({ length: reader.int16() }, () => {
    const length = reader.int32()
    return length < 0 ? null : reader.bytes(length).toString('utf8')
  })
}

/** oids of the parameters, as a ParameterDescription has them. */
export function readParameterTypes(frame: Buffer): readonly number[] {
  const reader = new Reader(frame, HEADER)
  return Array.from({ length: reader.count() }, () => reader.int32() >>> 0)
}
