import { lookup as systemLookup } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import { getCACertificates } from 'node:tls'
import { ChaperoneError } from '../errors.ts'
import { reachOf, reachOfHost } from '../vault/addresses.ts'

export type Resolve = (host: string) => Promise<readonly { readonly address: string; readonly family: number }[]>

export const systemResolve: Resolve = (host) => systemLookup(host, { all: true, verbatim: true })

const refused = (why: string) => new ChaperoneError('upstream_unavailable', `refused: ${why}`)

/**
 * Where a message may be sent. A receiver is what an administrator wrote, but its name is resolved by somebody else, and the
 * address of a chat channel is a secret that a second person sets: neither may lead to the metadata service of a cloud, to
 * link-local addresses, or to this very machine unless that is what was written (SSRF). An internal network is where most
 * receivers live; there the certificate proves the name, and plain text goes nowhere but to this machine. Throws.
 */
function assertReach(host: string, address: string, plain: boolean): void {
  const reach = reachOf(address)
  if (reach === 'never') throw refused('the address is link-local, a metadata service or no receiver at all')
  if (reach === 'loopback' && reachOfHost(host) !== 'loopback') throw refused('the name leads to this very machine')
  if (plain && reach !== 'loopback') throw refused('without TLS nothing leaves this machine')
}

/** Asks once, checks every answer, and gives exactly those to the socket (DNS rebinding). */
export function checkedLookup(resolve: Resolve, plain: boolean): LookupFunction {
  return (host, options, done) => {
    resolve(host).then(
      (found) => {
        try {
          if (found.length === 0) throw refused('the name has no address')
          for (const { address } of found) assertReach(host, address, plain)
        } catch (error) {
          return done(error as Error, '')
        }
        if (options.all) done(null, found as { address: string; family: number }[])
        else done(null, found[0]!.address, found[0]!.family)
      },
      (error: Error) => done(error, ''),
    )
  }
}

/** A socket to an address asks no lookup function, so what is written as one is looked at before. Throws. */
export function assertWritten(host: string, plain: boolean): void {
  if (isIP(host) !== 0) assertReach(host, host, plain)
}

export const trust = (ca: string | undefined) => (ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] })

/** What failed, for the operator: codes of Node and of TLS, and sentences of ours. Never what the receiver said. */
export function faultOf(error: unknown): string {
  if (error instanceof ChaperoneError) return error.message
  const code = (error as NodeJS.ErrnoException).code
  return typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? code : 'the connection failed'
}
