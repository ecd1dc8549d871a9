import type { IncomingMessage } from 'node:http'
import type { McpEndpoint } from './endpoint.ts'
import { EventStreamReader } from './event-stream.ts'
import type { Message } from './mcp-headers.ts'
import { headerOf, LONGEST_ANSWER, lostAnswer, parseOrNothing, readBody, refusalOf } from './mcp-messages.ts'

/** The MCP session of a client of the era that has them: what `initialize` brought, and the client's own words, to begin another. */
export class LegacySession {
  readonly #endpoint: McpEndpoint
  readonly #over: AbortSignal
  #id: string | undefined
  #version: string | undefined
  #initialize: Buffer | undefined
  #initialized: Buffer | undefined
  #again: Promise<void> | undefined

  constructor(endpoint: McpEndpoint, over: AbortSignal) {
    this.#endpoint = endpoint
    this.#over = over
  }

  /** undefined: none, or the server has none */
  get id(): string | undefined {
    return this.#id
  }

  headers(): Record<string, string> {
    return {
      ...(this.#id === undefined ? {} : { 'mcp-session-id': this.#id }),
      ...(this.#version === undefined ? {} : { 'mcp-protocol-version': this.#version }),
    }
  }

  /** The client sends `initialize`: what there was is over. */
  begin(line: Buffer): void {
    this.#id = undefined
    this.#version = undefined
    this.#initialize = line
  }

  /** The head of the answer to `initialize`. */
  answered(answer: IncomingMessage): void {
    if (answer.statusCode === 200) this.#id = headerOf(answer, 'mcp-session-id')
  }

  /** The response to `initialize`. */
  learn(response: Message): void {
    const result = response.result as Message | undefined
    if (typeof result?.protocolVersion === 'string') this.#version = result.protocolVersion
  }

  /** The client has sent `notifications/initialized`. */
  complete(line: Buffer): void {
    this.#initialized = line
  }

  /** Another one after it was lost, with the client's own words, once for all who need it; the client never notices. `ready`: it can be used. */
  startAgain(ready: () => void): Promise<void> {
    this.#again ??= this.#repeat()
      .then(ready)
      .finally(() => {
        this.#again = undefined
      })
    return this.#again
  }

  async #repeat(): Promise<void> {
    if (!this.#initialize) throw lostAnswer()
    this.begin(this.#initialize)
    const answer = await this.#endpoint.post(this.#initialize, {}, this.#over)
    const body = await readBody(answer, LONGEST_ANSWER)
    if (answer.statusCode !== 200) throw refusalOf(answer.statusCode ?? 0, parseOrNothing(body))
    this.answered(answer)
    const streamed = (answer.headers['content-type'] ?? '').startsWith('text/event-stream')
    const first = streamed ? new EventStreamReader().push(Buffer.concat([body, Buffer.from('\n\n')])).find((event) => event.data !== '')?.data : body
    this.learn((first === undefined ? undefined : (parseOrNothing(first) as Message | undefined)) ?? {})
    if (this.#initialized) (await this.#endpoint.post(this.#initialized, this.headers(), this.#over)).resume()
  }
}
