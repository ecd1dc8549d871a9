import { reachOfHost } from '../vault/addresses.ts'
import type { Fault, Path } from './types.ts'

/**
 * An address of your own network that nobody allowed: it is never asked, and whoever comes by it is told only that it cannot be reached.
 * So it is said to the one who can mend it, as far as the address says it by itself; a name is looked up when it is needed.
 */
export function* privateIssuer(block: unknown, at: Path): Generator<Fault> {
  if (typeof block !== 'object' || block === null) return
  const { issuer, api, allow_private, jwks } = block as Readonly<Record<string, unknown>>
  // A cluster is asked at its own address, where that is written.
  const asked = api ?? issuer
  // With its keys pinned nobody asks an issuer of machines.
  if (typeof asked !== 'string' || allow_private === true || (jwks !== undefined && at.length > 1)) return
  const url = URL.parse(asked)
  const reach = url ? reachOfHost(url.hostname) : undefined
  if (reach !== 'private' && reach !== 'loopback') return
  yield {
    path: [...at, api === undefined ? 'issuer' : 'api'],
    level: 'warning',
    message: `\`${asked}\` lies in ${reach === 'loopback' ? 'this machine' : 'a private network'}, which nobody allowed, so it is not asked and nobody can come in by it.`,
    fix: 'If it is right, write beside it: `allow_private: true`.',
  }
}
