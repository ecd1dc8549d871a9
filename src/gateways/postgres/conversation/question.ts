import { randomBytes } from 'node:crypto'
import { FROM_SERVER } from '../wire/codes.ts'
import type { Passage } from '../wire/scanner.ts'
import { readDataRow, readErrorFields } from '../wire/server.ts'
import { bindMessage, closeMessage, executeMessage, parseMessage, syncMessage } from '../wire/write.ts'

export type Rows = readonly (readonly (string | null)[])[]

/**
 * A statement of the gateway's own on the client's connection: it looks again where names lead, or sets a fence. Sent only
 * between the client's messages; its answers are swallowed.
 *
 * By the extended protocol and under a name of its own: a simple Query would destroy the unnamed statement and portal that the
 * client may still want to use.
 */
export class Question {
  readonly frame: Buffer
  readonly #done: (rows: Rows | undefined) => void
  readonly #rows: (readonly (string | null)[])[] = []
  #failed = false

  /** `done`: its rows as texts, or undefined when the server refused it. */
  constructor(sql: string, done: (rows: Rows | undefined) => void) {
    const name = `chaperone ${randomBytes(9).toString('base64url')}`
    this.#done = done
    this.frame = Buffer.concat([
      parseMessage(name, sql),
      bindMessage(name, name),
      executeMessage(name),
      closeMessage('P', name),
      closeMessage('S', name),
      syncMessage(),
    ])
  }

  /** Every answer but ReadyForQuery, and what has nothing to do with it (settings, notifications). */
  see(type: number, frame: Buffer | undefined): Passage {
    if (type === FROM_SERVER.dataRow) {
      if (!frame) return 'whole'
      this.#rows.push(readDataRow(frame))
    }
    if (type === FROM_SERVER.error) {
      this.#failed = true
      // The server is going away; that is for the client.
      if (readErrorFields(frame!).get('V') !== 'ERROR') return 'keep'
    }
    return 'drop'
  }

  over(): void {
    this.#done(this.#failed ? undefined : this.#rows)
  }
}
