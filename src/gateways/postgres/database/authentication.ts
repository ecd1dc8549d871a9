import { HEADER } from '../wire/reader.ts'

/** What an Authentication message asks for (protocol-message-formats, the messages whose names begin with Authentication). */
export const ASKS = { nothing: 0, cleartext: 3, md5: 5, sasl: 10, saslContinue: 11, saslFinal: 12 } as const

/** -1 for a message too short to ask for anything. */
export const askedBy = (frame: Buffer) => (frame.length < HEADER + 4 ? -1 : frame.readInt32BE(HEADER))

/** What follows the number. */
export const askedWith = (frame: Buffer) => frame.subarray(HEADER + 4)

export function nameOfAsked(asked: number): string {
  if (asked === ASKS.nothing) return 'nothing'
  if (asked === ASKS.cleartext) return 'a password in the clear'
  if (asked === ASKS.md5) return 'an MD5 password'
  if (asked >= ASKS.sasl && asked <= ASKS.saslFinal) return 'a SCRAM password'
  return 'something that is not known here'
}
