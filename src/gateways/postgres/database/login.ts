import type { TLSSocket } from 'node:tls'
import { ChaperoneError } from '../../../errors.ts'
import { FROM_SERVER } from '../wire/codes.ts'
import { readErrorFields, readParameterStatus } from '../wire/server.ts'
import { startupPacket } from '../wire/write.ts'
import type { Credential } from './credential.ts'
import { Frames } from './frames.ts'

/** A connection to the database, logged in and idle. */
export interface LoggedIn {
  readonly socket: TLSSocket
  readonly frames: Frames
  /** What the server calls this connection, for a cancel. */
  readonly process: number
  readonly secret: Buffer
  /** What the server said of itself: `server_version`, `TimeZone` ... */
  readonly parameters: ReadonlyMap<string, string>
}

/** From the startup packet to the first ReadyForQuery. Throws ChaperoneError; the socket is the caller's to close then. */
export async function logIn(
  socket: TLSSocket,
  credential: Pick<Credential, 'answer' | 'secret'>,
  settings: Readonly<Record<string, string>>,
  deadline: AbortSignal,
): Promise<LoggedIn> {
  const parameters = new Map<string, string>()
  let key: Pick<LoggedIn, 'process' | 'secret'> | undefined
  let accepted = false
  const frames = new Frames(socket)
  // The two settings that statements are read by stand last: nothing that a client asked for can change them.
  socket.write(startupPacket({ ...settings, client_encoding: 'UTF8', standard_conforming_strings: 'on' }))
  for (;;) {
    const frame = await frames.next(deadline)
    switch (frame[0]) {
      case FROM_SERVER.authentication: {
        const answer = await credential.answer(frame, socket)
        if (answer === 'accepted') accepted = true
        else if (answer) socket.write(answer)
        break
      }
      case FROM_SERVER.parameterStatus: {
        const { name, value } = readParameterStatus(frame)
        parameters.set(name, value)
        break
      }
      case FROM_SERVER.backendKeyData:
        key = { process: frame.readInt32BE(5), secret: Buffer.from(frame.subarray(9)) }
        break
      case FROM_SERVER.error:
        throw refusedBy(frame, credential.secret)
      case FROM_SERVER.readyForQuery:
        if (!accepted) throw new ChaperoneError('upstream_unavailable', 'The database let us in without saying so.')
        if (!key) throw new ChaperoneError('upstream_unavailable', 'The database gave no key for cancelling.')
        if (parameters.get('standard_conforming_strings') !== 'on' || parameters.get('client_encoding') !== 'UTF8') {
          throw new ChaperoneError('upstream_unavailable', 'The database does not keep the settings that statements are read by.')
        }
        return { socket, frames, ...key, parameters }
      default:
    }
  }
}

/**
 * The server's own words reach the client: they say which user or database it does not know. `secret` is what the server was
 * shown; should it say it again, it is left out.
 */
export function refusedBy(frame: Buffer, secret?: string, what = 'the connection'): ChaperoneError {
  const fields = readErrorFields(frame)
  const said = fields.get('M') ?? 'no reason given'
  return new ChaperoneError('upstream_unavailable', `The database refused ${what}: ${secret ? said.replaceAll(secret, '***') : said}`, {
    detail: `SQLSTATE ${(fields.get('C') ?? '?').slice(0, 5)}`,
  })
}
