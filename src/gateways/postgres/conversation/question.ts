import { randomBytes } from 'node:crypto'
import { FROM_SERVER } from '../wire/codes.ts'
import type { Passage } from '../wire/scanner.ts'
import { readDataRow, readErrorFields, readParameterTypes } from '../wire/server.ts'
import { bindMessage, closeMessage, executeMessage, parseMessage, syncMessage } from '../wire/write.ts'

export type Rows = readonly (readonly (string | null)[])[]

/** What a question sends. `messages` gets a name that the client cannot know, for what it prepares. */
export interface Wording {
  readonly messages: (name: string) => readonly Buffer[]
}

/** One statement without parameters. */
export const statement = (sql: string): Wording => ({
  messages: (name) => [parseMessage(name, sql), bindMessage(name, name), executeMessage(name), closeMessage('P', name), closeMessage('S', name)],
})

/** A Sync alone: what was sent before is answered. */
export const NOTHING: Wording = { messages: () => [] }

/** What came of it. */
export interface Answer {
  readonly rows: Rows
  /** oids of the parameters of what it prepared, where it asked for them */
  readonly parameters: readonly number[]
  /** SQLSTATE, when the server refused it */
  readonly sqlstate: string | undefined
}

/**
 * A question of the gateway's own on the client's connection: it looks again where names lead, sets a fence, or has something
 * planned. Sent only between the client's messages; its answers are swallowed.
 *
 * By the extended protocol and under a name of its own: a simple Query would destroy the unnamed statement and portal that the
 * client may still want to use.
 */
export class Question {
  readonly frame: Buffer
  readonly #done: (answer: Answer) => void
  readonly #rows: (readonly (string | null)[])[] = []
  #parameters: readonly number[] = []
  #sqlstate: string | undefined

  constructor({ messages }: Wording, done: (answer: Answer) => void, name = newName()) {
    this.#done = done
    this.frame = Buffer.concat([...messages(name), syncMessage()])
  }

  /** Every answer but ReadyForQuery, and what has nothing to do with it (settings, notifications). */
  see(type: number, frame: Buffer | undefined): Passage {
    if (type === FROM_SERVER.dataRow) {
      if (!frame) return 'whole'
      this.#rows.push(readDataRow(frame))
    }
    if (type === FROM_SERVER.parameterDescription) {
      if (!frame) return 'whole'
      this.#parameters = readParameterTypes(frame)
    }
    if (type === FROM_SERVER.error) {
      const fields = readErrorFields(frame!)
      this.#sqlstate = fields.get('C') ?? ''
      // The server is going away; that is for the client.
      if (fields.get('V') !== 'ERROR') return 'keep'
    }
    return 'drop'
  }

  over(): void {
    this.#done({ rows: this.#rows, parameters: this.#parameters, sqlstate: this.#sqlstate })
  }
}

export const newName = () => `chaperone ${randomBytes(9).toString('base64url')}`
