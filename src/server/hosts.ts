import type { IncomingMessage } from 'node:http'
import { ChaperoneError } from '../errors.ts'
import { splitHostPort } from './options.ts'

const MOST_SEEN = 64

/**
 * Refuses a Host that is not ours and any foreign Origin, on every listener, also on loopback: a web page that rebinds
 * its DNS name to 127.0.0.1 must not reach us (CVE-2025-49596; MCP 2025-11-25 transports, 2026-07-28 section on Origin).
 */
export function hostCheck(names: readonly string[]): (request: IncomingMessage, anyOrigin?: boolean) => void {
  const ours = new Set(names.map((name) => name.toLowerCase()))
  const known = (hostPort: string) => {
    const port = /:(\d+)$/.exec(hostPort.replace(/^\[[^\]]*\]/, ''))?.[1]
    // What no URL can hold would fail later, as a fault of ours.
    if (port !== undefined && Number(port) > 65_535) return false
    return ours.has((hostPort.startsWith('[') || port !== undefined ? splitHost(hostPort) : hostPort).toLowerCase())
  }
  /** What was found to be ours: with any port there are many ways to write it, and a client uses one. */
  const seen = new Set<string>()
  const isOurs = (host: string): boolean => {
    if (seen.has(host)) return true
    if (!known(host)) return false
    if (seen.size < MOST_SEEN) seen.add(host)
    return true
  }
  return (request, anyOrigin = false) => {
    const { host, origin } = request.headers
    if (host === undefined || !isOurs(host))
      throw new ChaperoneError('foreign_origin', 'The Host header is not one of ours.', {
        detail: host,
        fix: 'Start Chaperone with --public-host for this name.',
      })
    if (origin === undefined || anyOrigin) return
    const from = URL.canParse(origin) ? new URL(origin) : undefined
    if (!from || !known(from.host)) throw new ChaperoneError('foreign_origin', 'The Origin header is not one of ours.', { detail: origin })
  }
}

function splitHost(hostPort: string): string {
  if (/^\[[^\]]*\]$/.test(hostPort)) return hostPort.slice(1, -1)
  return splitHostPort(hostPort).host
}
