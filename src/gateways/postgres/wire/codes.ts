/**
 * Messages of the PostgreSQL protocol 3.0, https://www.postgresql.org/docs/current/protocol-message-formats.html.
 * This folder is pure: bytes in, messages out. A message is read in exactly one way or refused.
 */

export const code = (letter: string) => letter.charCodeAt(0)

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

export const WIRE_LIMITS: WireLimits = { statementBytes: 1024 * 1024, messageBytes: 16 * 1024 * 1024 }
