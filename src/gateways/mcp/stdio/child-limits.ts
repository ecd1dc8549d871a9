import type { McpServerSpec } from '../../../catalog/mcp-server.ts'
import { parseByteSize } from '../../../encoding/byte-size.ts'
import { parseDuration } from '../../../encoding/duration.ts'

/** What one process may cost, as its document says; what it does not say is left to {@link MCP_LIMITS}. Bytes and ms. */
export interface ChildLimits {
  readonly memoryBytes?: number
  readonly lifetimeMs?: number
  readonly idleMs?: number
  readonly startMs?: number
  /** a minute */
  readonly outputBytes?: number
}

export function childLimits({ limits }: Pick<McpServerSpec, 'limits'>): ChildLimits {
  const { memory, lifetime, idle, start, output } = limits
  return {
    ...(memory === undefined ? {} : { memoryBytes: parseByteSize(memory) }),
    ...(lifetime === undefined ? {} : { lifetimeMs: parseDuration(lifetime) }),
    ...(idle === undefined ? {} : { idleMs: parseDuration(idle) }),
    ...(start === undefined ? {} : { startMs: parseDuration(start) }),
    ...(output === undefined ? {} : { outputBytes: parseByteSize(output) }),
  }
}
