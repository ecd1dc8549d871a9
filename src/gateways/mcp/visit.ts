import type { IncomingMessage } from 'node:http'
import type { Answer } from './answer.ts'
import type { Builtin } from './builtin/types.ts'
import type { McpCaller } from './exchange.ts'
import type { Server } from './lanes.ts'
import type { ClientHeaders } from './types.ts'

/** One HTTP request on its way. */
export interface Visit {
  readonly request: IncomingMessage
  readonly caller: McpCaller
  /** as the client wrote it */
  readonly name: string
  /** undefined when there is none of that name: the answers are those of a server that may not be seen (rule 8) */
  readonly server: Server | Builtin | undefined
  /** the endpoint of all servers */
  readonly all: boolean
  readonly answer: Answer
  readonly headers: ClientHeaders
  /** W3C trace id */
  readonly trace?: string | undefined
}
