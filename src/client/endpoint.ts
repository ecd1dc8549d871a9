import type { IncomingMessage } from 'node:http'
import type { Clock } from '../clock.ts'
import { type ChaperoneError, REASONS, toChaperoneError } from '../errors.ts'
import type { Keeper } from './credential.ts'
import { type DataPlane, mcpPath, NotSent, openDataPlane } from './data-plane.ts'
import { sleep } from './sleep.ts'

type Headers = Readonly<Record<string, string>>

const CONNECT_TRIES = 4
const RETRY_MS = 250
const GOODBYE_MS = 2000

/**
 * One MCP server behind the gateway, for as long as the shim runs: finds a credential when the first message goes out,
 * and another when that one has ended (the person may have signed in again). What was sent is never sent again.
 */
export class McpEndpoint {
  readonly #path: string
  readonly #connect: () => Promise<Keeper>
  readonly #clock: Clock
  #line: Promise<{ readonly keeper: Keeper; readonly plane: DataPlane }> | undefined
  /** why the credential before this one ended */
  #lastEnd: ChaperoneError | undefined
  #exitCode = 0

  readonly #plane: (keeper: Keeper, clock: Clock) => DataPlane

  /** `plane`: another way than TLS to the gateway, such as the socket of a run. */
  constructor(
    server: string | undefined,
    connect: () => Promise<Keeper>,
    clock: Clock,
    plane: (keeper: Keeper, clock: Clock) => DataPlane = openDataPlane,
  ) {
    this.#plane = plane
    this.#path = mcpPath(server)
    this.#connect = connect
    this.#clock = clock
  }

  /** 0 while a credential can be had, else that of the reason why not. */
  get exitCode(): number {
    return this.#exitCode
  }

  async post(body: Buffer, headers: Headers, signal: AbortSignal): Promise<IncomingMessage> {
    const all = {
      ...headers,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'content-length': String(body.length),
    }
    for (let attempt = 1; ; attempt++) {
      const { plane } = await this.#connected()
      try {
        return await plane.send({ method: 'POST', path: this.#path, headers: all, body, signal })
      } catch (error) {
        if (!(error instanceof NotSent) || error.code !== 'upstream_unavailable' || attempt >= CONNECT_TRIES || signal.aborted) throw error
        await sleep(this.#clock, RETRY_MS * 2 ** (attempt - 1), signal)
      }
    }
  }

  /** The stream of the era with sessions. */
  async listen(headers: Headers, signal: AbortSignal): Promise<IncomingMessage> {
    const { plane } = await this.#connected()
    return await plane.send({ method: 'GET', path: this.#path, headers: { ...headers, accept: 'text/event-stream' }, signal })
  }

  /** A lock, an expiry or the end of a session cuts the connection in the middle of a call: then that is the error to show. */
  async explain(error: ChaperoneError): Promise<ChaperoneError> {
    if (error.code !== 'upstream_unavailable' || error instanceof NotSent) return error
    const line = await this.#line?.catch(() => undefined)
    return (line ? await line.keeper.whyCut?.() : this.#lastEnd) ?? error
  }

  /** Ends the MCP session that `headers` name, when they name one, and the credential. Rejects when the server could not be told. */
  async close(headers: Headers): Promise<void> {
    const line = await this.#line?.catch(() => undefined)
    try {
      if (line && headers['mcp-session-id'] !== undefined) {
        const answer = await line.plane.send({ method: 'DELETE', path: this.#path, headers, signal: AbortSignal.timeout(GOODBYE_MS) })
        answer.resume()
      }
    } finally {
      line?.plane.close()
      await line?.keeper.close()
    }
  }

  #connected() {
    this.#line ??= this.#open()
    return this.#line
  }

  async #open(): Promise<{ readonly keeper: Keeper; readonly plane: DataPlane }> {
    try {
      const keeper = await this.#connect()
      const plane = this.#plane(keeper, this.#clock)
      keeper.signal.addEventListener('abort', () => {
        plane.close()
        this.#line = undefined
        this.#lastEnd = toChaperoneError(keeper.signal.reason)
      })
      this.#exitCode = 0
      return { keeper, plane }
    } catch (cause) {
      this.#line = undefined
      const error = toChaperoneError(cause)
      this.#exitCode = REASONS[error.code].exit
      throw error
    }
  }
}
