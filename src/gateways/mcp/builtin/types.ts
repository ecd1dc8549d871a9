import type { ChaperoneError } from '../../../errors.ts'
import type { Connection, LiveSession } from '../../../identity/types.ts'
import type { Resource } from '../../../policy/types.ts'

/**
 * The servers that are no other process: `server/` gives them, and they answer here. What one of their tools does is judged
 * and recorded where it is done, as an action of another protocol, and not a second time as a call of a tool.
 */
export interface Builtins {
  /** The server of this name; undefined when there is none, or not for this identity (rule 8). */
  find(session: LiveSession, name: string): Builtin | undefined
  /** All that this identity may use. */
  list(session: LiveSession): readonly Builtin[]
}

export interface Builtin {
  /** `kind: mcp`. Its name holds a slash, or is one that no document can have: nobody can take it, and it can take nobody's. */
  readonly resource: Resource
  readonly title: string
  readonly instructions: string
  /** What a client writes holds values that the record must not keep, not even of what was refused before it was an action. */
  readonly discreet?: boolean
  /** As this identity finds them at this moment. */
  tools(): readonly BuiltinTool[]
  /** What one MCP session keeps between its calls. */
  open(): BuiltinSeat
}

export interface BuiltinTool {
  readonly name: string
  readonly title: string
  readonly description: string
  /** JSON Schema */
  readonly inputSchema: Readonly<Record<string, unknown>>
  readonly outputSchema: Readonly<Record<string, unknown>>
  readonly annotations: {
    readonly readOnlyHint: boolean
    readonly destructiveHint: boolean
    readonly idempotentHint: boolean
    readonly openWorldHint: boolean
  }
}

export interface BuiltinSeat {
  /**
   * Rejects with ChaperoneError when the call never became an action: then it is recorded as a message that was refused. A Refusal
   * with a question is recorded: the client waits for the answer as for any call, and the call is made again.
   */
  call(call: BuiltinCall): Promise<BuiltinResult>
  /** The MCP session is over. Idempotent. */
  end(why: ChaperoneError): Promise<void>
}

export interface BuiltinCall {
  readonly tool: string
  readonly args: Readonly<Record<string, unknown>>
  /** JSON pointers into `args` of numbers that a double does not keep */
  readonly lossy: ReadonlySet<string>
  readonly session: LiveSession
  /** of this request */
  readonly connection: Connection
  /** W3C trace id of this request */
  readonly trace?: string | undefined
  /** the question about this call that its client waits for already (`Asking.known`) */
  readonly known?: string | undefined
  /** The client has cancelled the call, or has gone. */
  readonly signal: AbortSignal
}

/** A `CallToolResult`, without what the era adds. */
export interface BuiltinResult {
  readonly content: readonly { readonly type: 'text'; readonly text: string }[]
  readonly structuredContent?: Readonly<Record<string, unknown>>
  readonly isError?: true
}

export const isBuiltin = (server: object): server is Builtin => 'open' in server
