import { WIRE_LIMITS } from './wire/codes.ts'

/** How much one gateway for PostgreSQL takes on. */
export interface PostgresLimits {
  /** sockets at once, those that have not said who they are included */
  readonly connections: number
  /** until a client has said who it is */
  readonly handshakeMs: number
  /** until the database has let us in, and for a cancel */
  readonly connectMs: number
  /** bytes of one SQL text; longer ones are refused */
  readonly statementBytes: number
  /** bytes of one message of a client */
  readonly messageBytes: number
  /** messages, and their bytes, that wait for their permits on one connection */
  readonly queuedMessages: number
  readonly queuedBytes: number
  /** prepared statements, and portals, of one connection */
  readonly names: number
  /** ms that a statement waits for the human whom a rule wants asked, where the document of the database says nothing else */
  readonly approvalWaitMs: number
  /** statements that wait at once; further ones are asked about, and do not wait for the answer */
  readonly waiting: number
}

export const POSTGRES_LIMITS: PostgresLimits = {
  ...WIRE_LIMITS,
  connections: 2_000,
  handshakeMs: 10_000,
  connectMs: 10_000,
  queuedMessages: 256,
  queuedBytes: 32 * 1024 * 1024,
  names: 10_000,
  approvalWaitMs: 120_000,
  waiting: 1_000,
}
