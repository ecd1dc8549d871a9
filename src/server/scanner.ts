import { MCP_LIMITS } from '../gateways/mcp/limits.ts'
import { makeScanner, type Scanner } from '../gateways/mcp/offers/scan.ts'
import { isolator } from '../gateways/mcp/stdio/isolation.ts'
import type { Parts } from './parts.ts'

/** Looks at MCP servers for the API; what it starts is isolated as what the gateway starts, from the same things. */
export const createScanner = ({ options, audit, vault, logins, clock, log }: Parts, hide: readonly string[]): Scanner =>
  makeScanner({
    audit,
    reveal: vault.reveal,
    logins,
    isolator: isolator({ dataDir: options.dataDir, hide }),
    clock,
    limits: MCP_LIMITS,
    log: (what, facts) => log.warn(facts, what),
  })
