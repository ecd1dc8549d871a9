import { ChaperoneError } from '../../../errors.ts'
import { malformed, Reader } from './reader.ts'

/** The server's own limit before somebody is known (MAX_STARTUP_PACKET_LENGTH). */
export const LONGEST_STARTUP = 10_000

export type FirstPacket =
  | { readonly kind: 'ssl' | 'gss' }
  | { readonly kind: 'cancel'; readonly process: number; readonly secret: Buffer }
  | { readonly kind: 'startup'; readonly minor: number; readonly parameters: ReadonlyMap<string, string> }

export const SSL_REQUEST = 80_877_103
const GSS_REQUEST = 80_877_104
export const CANCEL_REQUEST = 80_877_102

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
