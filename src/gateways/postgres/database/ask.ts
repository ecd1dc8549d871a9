import type { TLSSocket } from 'node:tls'
import { ChaperoneError } from '../../../errors.ts'
import { FROM_SERVER } from '../wire/codes.ts'
import { readDataRow } from '../wire/server.ts'
import { queryMessage } from '../wire/write.ts'
import type { Frames } from './frames.ts'
import { refusedBy } from './login.ts'

/** One row of a database's description of itself: a view's definition, a list of columns. */
const LONGEST_ROW = 4 * 1024 * 1024
/** All rows of one answer: 100,000 columns with their names are 20 MB. */
const LONGEST_ANSWER = 64 * 1024 * 1024

/** A question waited for somebody's lock for as long as it may (`lock_timeout`). The connection is as good as before. */
export const isLockTimeout = (error: unknown) => error instanceof ChaperoneError && error.detail === 'SQLSTATE 55P03'

/** Asks on an idle connection, and reads to the next ReadyForQuery. Rows as texts. Throws ChaperoneError. */
export async function ask(socket: TLSSocket, frames: Frames, sql: string, deadline: AbortSignal): Promise<readonly (readonly (string | null)[])[]> {
  const rows: (readonly (string | null)[])[] = []
  let bytes = 0
  let refused: ChaperoneError | undefined
  socket.write(queryMessage(sql))
  for (;;) {
    const frame = await frames.next(deadline, LONGEST_ROW)
    switch (frame[0]) {
      case FROM_SERVER.dataRow:
        bytes += frame.length
        if (bytes > LONGEST_ANSWER) throw new ChaperoneError('too_large', 'The database says more of itself than can be held.')
        rows.push(readDataRow(frame))
        break
      case FROM_SERVER.error:
        refused = refusedBy(frame, undefined, 'a question of Chaperone')
        // After another one the connection is given up, and a FATAL one has no end to wait for.
        if (!isLockTimeout(refused)) throw refused
        break
      case FROM_SERVER.readyForQuery:
        if (refused) throw refused
        return rows
      default:
    }
  }
}
