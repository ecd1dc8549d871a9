import type { Duplex } from 'node:stream'
import pg from 'pg'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { Column, Row, Taken, ToolLimits } from './types.ts'
import { shownValue, typeName } from './values.ts'

/** An ErrorResponse: of the database, or of Chaperone in front of it. */
export interface SqlError {
  readonly severity?: string
  readonly code?: string
  readonly message: string
  readonly detail?: string
  readonly hint?: string
  /** characters from the start of the text, from 1 */
  readonly position?: string
  readonly where?: string
}

/** The statement did not succeed; `sql` says why in the words of whoever refused it. */
export class StatementFailed extends Error {
  readonly sql: SqlError

  constructor(sql: SqlError) {
    super(sql.message)
    this.sql = sql
  }
}

export interface Statement {
  readonly text: string
  /** as text; the server finds their types */
  readonly parameters: readonly (string | null)[]
  /** where less than the limits is wanted, or more of one value */
  readonly rows?: number
  readonly valueChars?: number
}

/** A parameter has as many types as the statement gives it: the server reads each from text. */
type Values = Parameters<pg.Connection['bind']>[0]

interface Field {
  readonly name: string
  readonly dataTypeID: number
}

interface Asked {
  readonly columns: Column[]
  readonly types: number[]
  readonly rows: Row[]
  readonly notices: string[]
  bytes: number
  wire: number
  received: number
  cut: number
  /** rows that are taken */
  readonly most: number
  readonly valueChars: number
  more: boolean
  tag: string | undefined
  copies: boolean
  error: SqlError | undefined
  done(): void
}

/**
 * A client of one connection, one statement at a time, each a transaction of its own. It uses the protocol layer of
 * node-postgres and not its Client: that one reads PGOPTIONS, PGSSLMODE and others from the environment of this process.
 */
export class DatabaseClient {
  readonly #connection: pg.Connection
  readonly #stream: Duplex
  readonly #limits: ToolLimits
  #asked: Asked | undefined
  #status = ''
  /** what the other side said last, or why we ended it */
  #why: SqlError | ChaperoneError | undefined
  #over = false
  readonly #gone = Promise.withResolvers<void>()
  readonly #ready = Promise.withResolvers<void>()

  private constructor(stream: Duplex, limits: ToolLimits) {
    this.#stream = stream
    this.#limits = limits
    this.#connection = new pg.Connection({ stream: () => stream })
    this.#ready.promise.catch(() => {})
    this.#listen()
  }

  /** Rejects with StatementFailed when the connection is refused. */
  static async open(
    stream: Duplex,
    who: { readonly user: string; readonly database: string },
    limits: ToolLimits,
    signal: AbortSignal,
  ): Promise<DatabaseClient> {
    const client = new DatabaseClient(stream, limits)
    await client.#until(signal, () => {
      const connection = client.#connection as pg.Connection & { connect(): void; startup(parameters: object): void }
      connection.once('connect', () => connection.startup(who))
      connection.connect()
      return client.#ready.promise
    })
    return client
  }

  /** No statement is under way, no transaction is open, and the other side is there. */
  get usable(): boolean {
    return !this.#over && this.#asked === undefined && this.#status === 'I'
  }

  /** Resolves when it is over, by whatever end. */
  get ended(): Promise<void> {
    return this.#gone.promise
  }

  /** True when the last statement has left a transaction open. */
  get inTransaction(): boolean {
    return this.#status === 'T' || this.#status === 'E'
  }

  /**
   * One statement, up to the limits of this client. Rejects with StatementFailed, or ChaperoneError: `session_ended` when
   * `signal` ends it, `too_large`, `upstream_unavailable`.
   */
  async run(
    { text, parameters, rows: most = this.#limits.rows, valueChars = this.#limits.valueChars }: Statement,
    signal: AbortSignal,
  ): Promise<Taken> {
    if (!this.usable) throw this.#ended()
    const { promise, resolve } = Promise.withResolvers<void>()
    const asked: Asked = {
      columns: [],
      types: [],
      rows: [],
      notices: [],
      bytes: 0,
      wire: 0,
      received: 0,
      cut: 0,
      most,
      valueChars,
      more: false,
      tag: undefined,
      copies: false,
      error: undefined,
      done: resolve,
    }
    this.#asked = asked
    await this.#until(signal, () => {
      const connection = this.#connection
      this.#stream.cork()
      connection.parse({ name: '', text, types: [] }, true)
      const bind = { portal: '', statement: '', binary: false, values: parameters, valueMapper: (value: unknown) => value }
      connection.bind(bind as unknown as Values, true)
      connection.describe({ type: 'P', name: '' }, true)
      // One more than is taken, to know whether there are more. It ends with the Sync, and so does its transaction.
      connection.execute({ portal: '', rows: String(most + 1) }, true)
      connection.sync()
      this.#stream.uncork()
      return promise
    })
    this.#asked = undefined
    if (asked.error) throw new StatementFailed(asked.error)
    if (this.#over) throw this.#ended()
    if (asked.copies) throw new ChaperoneError('unsupported', 'COPY has no rows that could be shown here.', { fix: 'Use SELECT, or INSERT.' })
    const { columns, rows, tag, more, cut, notices } = asked
    return { columns, rows, tag, more, cut, notices }
  }

  /** Says goodbye. Idempotent. */
  close(): void {
    if (!this.#over) this.#connection.end()
    this.#over = true
  }

  /** Ends it in the middle of whatever it does; the gateway cancels that upstream. */
  #abandon(why: ChaperoneError): void {
    this.#why ??= why
    this.#over = true
    this.#stream.destroy()
  }

  async #until(signal: AbortSignal, act: () => Promise<void>): Promise<void> {
    const stop = () => this.#abandon(toChaperoneError(signal.reason))
    if (signal.aborted) {
      stop()
      throw toChaperoneError(signal.reason)
    }
    signal.addEventListener('abort', stop, { once: true })
    try {
      await act()
      if (signal.aborted) throw toChaperoneError(signal.reason)
    } finally {
      signal.removeEventListener('abort', stop)
    }
  }

  #ended(): Error {
    const why = this.#why ?? new ChaperoneError('upstream_unavailable', 'The connection to the database has ended.')
    return why instanceof ChaperoneError ? why : new StatementFailed(why)
  }

  #listen(): void {
    const connection = this.#connection as pg.Connection & { sendCopyFail(why: string): void }
    // biome-ignore lint/suspicious/noExplicitAny: node-postgres publishes no types of its messages
    const on = (event: string, take: (message: any) => void) =>
      connection.on(event, (message) => {
        try {
          take(message)
        } catch (error) {
          // Thrown from here it would end the process, with everybody's connections.
          this.#abandon(toChaperoneError(error))
        }
      })
    this.#stream.on('data', (chunk: Buffer) => {
      const asked = this.#asked
      if (asked) asked.wire += chunk.length
      if (asked && asked.wire > this.#limits.wireBytes)
        this.#abandon(
          new ChaperoneError('too_large', `The result is over ${this.#limits.wireBytes} bytes, so the statement was cancelled.`, {
            fix: 'Ask for fewer columns or rows.',
          }),
        )
    })
    on('rowDescription', ({ fields }: { fields: readonly Field[] }) => {
      for (const { name, dataTypeID } of fields) {
        this.#asked?.columns.push({ name, type: typeName(dataTypeID) })
        this.#asked?.types.push(dataTypeID)
      }
    })
    on('dataRow', ({ fields }: { fields: readonly (string | null)[] }) => this.#row(fields))
    on('commandComplete', ({ text }: { text: string }) => {
      if (this.#asked) this.#asked.tag = text
    })
    on('portalSuspended', () => {
      const asked = this.#asked
      if (!asked) return
      asked.more = true
      // A rule may cap the rows below what was asked for.
      if (asked.received <= asked.most) asked.notices.push(`Chaperone cut this result at ${asked.received} rows, as a rule demands.`)
    })
    on('notice', ({ message }: { message?: string }) => {
      if (this.#asked && this.#asked.notices.length < 20) this.#asked.notices.push(String(message).slice(0, 500))
    })
    on('copyInResponse', () => {
      if (this.#asked) this.#asked.copies = true
      connection.sendCopyFail('there is no data to copy here')
      // While it waited for data the server has ignored the Sync.
      connection.sync()
    })
    on('copyOutResponse', () => {
      if (this.#asked) this.#asked.copies = true
    })
    on('errorMessage', (error: SqlError) => {
      this.#why = error
      if (this.#asked) this.#asked.error = error
    })
    on('readyForQuery', ({ status }: { status: string }) => {
      this.#status = status
      this.#ready.resolve()
      this.#asked?.done()
    })
    const over = () => {
      this.#over = true
      this.#gone.resolve()
      this.#ready.reject(this.#ended())
      this.#asked?.done()
    }
    on('error', (error: Error) => {
      this.#why ??= new ChaperoneError('upstream_unavailable', 'The connection to the database broke.', { detail: error.message })
      this.#stream.destroy()
      over()
    })
    on('end', over)
    this.#stream.on('end', over)
  }

  #row(fields: readonly (string | null)[]): void {
    const asked = this.#asked
    if (!asked) return
    asked.received++
    if (asked.rows.length >= asked.most || asked.more) {
      asked.more = true
      return
    }
    const { bytes, pageBytes } = this.#limits
    const whole = rowOf(fields, asked.types, asked.valueChars)
    // One row is always shown: of a thousand long values each has its share.
    const one = whole.size > bytes ? rowOf(fields, asked.types, Math.max(16, Math.floor(pageBytes / fields.length))) : whole
    asked.bytes += one.size
    // The rest is not kept. Nothing is cancelled for it: what is only long is let to its end.
    if (asked.bytes > bytes && asked.rows.length > 0) asked.more = true
    else {
      asked.cut += one.cut
      asked.rows.push(one.row)
    }
  }
}

function rowOf(
  fields: readonly (string | null)[],
  types: readonly number[],
  chars: number,
): { readonly row: Row; readonly cut: number; readonly size: number } {
  const values = fields.map((field, i) => shownValue(field, types[i] ?? 0, chars))
  const row = values.map(({ value }) => value)
  return { row, cut: values.filter(({ cut }) => cut).length, size: JSON.stringify(row).length }
}
