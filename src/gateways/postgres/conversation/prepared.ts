import type { Permit } from '../../../access/types.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Action } from '../../../policy/types.ts'
import type { Described, SqlContext } from '../describe.ts'
import type { Field, RowMasks } from '../masks/rows.ts'
import { FROM_CLIENT } from '../wire/codes.ts'
import { ByName } from './by-name.ts'
import type { Question } from './question.ts'

/** One execution of one statement: what was admitted, and what came of it. */
export interface Run {
  readonly permit: Permit
  readonly described: Described
  /** when it was sent; for its duration */
  startedAt: number
  rows: number
  /** of the rows that went back, their headers included */
  bytes: number
  /** most rows, and bytes of rows, that may go back; 0: all of them */
  readonly cap: number
  readonly capBytes: number
  /** what it was cut by */
  cut: 'rows' | 'bytes' | undefined
  /** The server was asked to stop, because it had reached the cap and nothing else would be lost. */
  stopped: boolean
  /** An error or notice of it was cut, or left out: it was over the bytes that were left. */
  wordsCut: boolean
  /** The server was asked to stop, because its time was over. */
  overtime: boolean
  /** Why nobody has a right to it any more (`withdrawal.ts`). */
  withdrawn: ChaperoneError | undefined
  /** Rows of it came after that, and the client has not got them. */
  withheld: boolean
  /** What is true once the server has done it: names it has made or forgotten. */
  readonly done: (() => void) | undefined
  /** of the Bind, as they are recorded */
  readonly parameters: string
  /** ms after which it is cancelled; 0: never */
  readonly timeoutMs: number
  /** how its rows are hidden, where its rule hides columns */
  readonly masks: RowMasks | undefined
  /** undefined: not answered yet */
  status: 'ok' | 'failed' | undefined
  sqlstate: string | undefined
  /** which of the connection's, from 1; 0 until it is answered */
  transaction: number
  /** What became of the transaction that it ended. */
  ended: 'committed' | 'rolled back' | undefined
  sent: boolean
}

/** What is recorded of a run. */
export interface Outcome {
  readonly status: 'ok' | 'failed' | 'unknown'
  readonly [fact: string]: unknown
}

/** What a message does to a name. */
export interface Naming {
  /** The server has done it. */
  confirm(): void
  /** It never will. */
  withdraw(): void
  /** What is so although it was refused, here or there. */
  failed?(): void
}

/** A message of the client on its way: read, perhaps waiting for its permit, then sent, then answered. */
export interface Item {
  readonly type: number
  readonly frame: Buffer
  waiting: boolean
  /** `around`: how to write it so that it is not refused */
  refusal: { readonly error: ChaperoneError; readonly about?: Described | undefined; readonly around?: string | undefined } | undefined
  readonly runs: Run[]
  /** which of its runs the server is at (a Query with several statements) */
  at: number
  readonly name: Naming | undefined
  readonly portal: Portal | undefined
  /** a Describe of it */
  readonly shape: Shape | undefined
  /** COPY FROM STDIN is in it */
  readonly copiesIn: boolean
  /** It is the gateway's own. */
  readonly question: Question | undefined
  /** It was sent in place of a refused one, to make the server fail; this is the error that the client gets. */
  readonly marker: Buffer | undefined
}

export const itemOf = (type: number, frame: Buffer, more: Partial<Item> = {}): Item => ({
  type,
  frame,
  waiting: false,
  refusal: undefined,
  runs: [],
  at: 0,
  name: undefined,
  portal: undefined,
  shape: undefined,
  copiesIn: false,
  question: undefined,
  marker: undefined,
  ...more,
})

/** Messages that are answered with a ReadyForQuery of their own. */
export const isSimple = (type: number) => type === FROM_CLIENT.query || type === FROM_CLIENT.functionCall

/** What the server said of the columns of a prepared statement, once it was asked. */
export interface Shape {
  fields: readonly Field[] | undefined
}

/** A prepared statement: its text is judged again each time it runs. */
export interface Prepared {
  /** undefined: an empty text */
  readonly described: Described | undefined
  readonly action: Action | undefined
  /** of the statement alone */
  readonly text: string
  /** the whole text that it came in: what the server keeps in pg_prepared_statements */
  readonly source: string
  /** what it was described in */
  readonly context: SqlContext
  /** oids of user's types that the client declared for its parameters */
  readonly types?: readonly number[]
  /** and all of them, in order, as it declared them */
  readonly declared?: readonly number[]
  readonly shape: Shape
}

export interface Portal {
  /** as it was last read: what a human is asked about is read anew before it runs */
  prepared: Prepared
  readonly parameters: string
  /** What Bind was admitted for; the first Execute uses it, a later one needs its own. */
  run: Run | undefined
  executed: boolean
  /** what all of its Executes gave to the client */
  rows: number
  bytes: number
  /** The client was told that it was cut. */
  saidCut: boolean
}

/**
 * Which text a name of the client stands for on the server. A name that means one text here and another there would be
 * judged as the one and run as the other, so only what the server confirmed counts (ParseComplete, BindComplete,
 * CloseComplete) - and, until the next Sync, what the client has just sent: if that fails, the server skips to the Sync
 * and never comes to the message that uses it.
 */
export class Names<T> {
  readonly #confirmed = new ByName<T>()
  readonly #sinceSync = new ByName<T | undefined>()
  readonly #weigh: (value: T) => number
  #confirmedWeight = 0
  #sinceSyncWeight = 0
  #pending = 0
  #pendingSinceSync = 0

  /** `weigh`: characters that a value keeps in memory */
  constructor(weigh: (value: T) => number = () => 0) {
    this.#weigh = weigh
  }

  get size(): number {
    return this.#confirmed.size + this.#sinceSync.size
  }

  /** characters of names and values */
  get weight(): number {
    return this.#confirmedWeight + this.#sinceSyncWeight
  }

  /** The same of what was asked for since the last Sync, names that are taken away included. */
  get sinceSync(): { readonly size: number; readonly weight: number } {
    return { size: this.#sinceSync.size, weight: this.#sinceSyncWeight }
  }

  /** The client has asked to give or (undefined) to take away the name. */
  propose(name: string, value: T | undefined): void {
    if (this.#sinceSync.has(name)) this.#sinceSyncWeight -= this.#weightOf(name, this.#sinceSync.get(name))
    this.#sinceSyncWeight += this.#weightOf(name, value)
    this.#sinceSync.set(name, value)
    this.#pending++
    this.#pendingSinceSync++
  }

  /** The same, for a message of the client that does nothing else to names. */
  naming(name: string, value: T | undefined): Naming {
    this.propose(name, value)
    return { confirm: () => this.confirm(name, value), withdraw: () => this.withdraw() }
  }

  /** The server has done it. */
  confirm(name: string, value: T | undefined): void {
    this.#pending--
    this.know(name, value)
  }

  /** The server never will. */
  withdraw(): void {
    this.#pending--
  }

  /** The server has it, or has it no more, without the client having asked by a message of the protocol (PREPARE, DEALLOCATE). */
  know(name: string, value: T | undefined): void {
    if (this.#confirmed.has(name)) this.#confirmedWeight -= this.#weightOf(name, this.#confirmed.get(name))
    if (value !== undefined) this.#confirmedWeight += this.#weightOf(name, value)
    if (value === undefined) this.#confirmed.delete(name)
    else this.#confirmed.set(name, value)
  }

  /** A Sync or a Query was sent. */
  sync(): void {
    this.#sinceSync.clear()
    this.#sinceSyncWeight = 0
    this.#pendingSinceSync = 0
  }

  /** `wait`: an earlier part of the pipeline may still change what the name means. */
  find(name: string): T | 'wait' | undefined {
    if (this.#sinceSync.has(name)) return this.#sinceSync.get(name)
    if (this.#pending > this.#pendingSinceSync) return 'wait'
    return this.#confirmed.get(name)
  }

  /** False: it certainly does not have the name, and nobody has asked to give it. */
  mayHave(name: string): boolean {
    return this.#pending > 0 || this.#confirmed.has(name)
  }

  /** What the server has confirmed. */
  known(name: string): T | undefined {
    return this.#confirmed.get(name)
  }

  values(): Iterable<T> {
    return this.#confirmed.values()
  }

  names(): Iterable<string> {
    return this.#confirmed.names()
  }

  /** The server has forgotten them all (portals, at the end of a transaction). */
  clear(): void {
    this.#confirmed.clear()
    this.#confirmedWeight = 0
  }

  /** DEALLOCATE ALL and DISCARD ALL: the server keeps its unnamed statement in another place, and keeps it. */
  clearNamed(): void {
    const unnamed = this.#confirmed.get('')
    this.clear()
    this.know('', unnamed)
  }

  #weightOf(name: string, value: T | undefined): number {
    return name.length + (value === undefined ? 0 : this.#weigh(value))
  }
}

/** Characters of the names of one connection, and of the texts and parameters that they stand for. */
const MOST_NAMED = 32 * 1024 * 1024

/** Throws `too_many` when there are `most` names already, or when they hold too much memory. */
export function assertRoom({ size, weight }: { readonly size: number; readonly weight: number }, most: number, what: string): void {
  if (size >= most || weight >= MOST_NAMED)
    throw new ChaperoneError('too_many', `The connection holds too many ${what}.`, { fix: 'Close some of them.' })
}

/** The values of a Bind, for the record: text as it is, binary as base64, NULL as null. */
export function parametersOf(values: readonly (Buffer | null)[], isBinary: (index: number) => boolean): string {
  return JSON.stringify(
    values.map((value, i) => (value === null ? null : isBinary(i) ? { base64: value.toString('base64') } : value.toString('utf8'))),
  )
}
