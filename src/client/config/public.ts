import { ChaperoneError } from '../../errors.ts'
import { reachOfHost } from '../../vault/addresses.ts'
import type { ClientForm, UrlEntry } from './types.ts'

/** Names that lead nowhere outside of one network (RFC 6761, 6762, 8375, 9476 and ICANN's `internal`). */
const INSIDE = /(?:^|\.)(?:internal|local|localdomain|lan|home\.arpa|intranet|corp|test|invalid|alt)$/

/**
 * A URL that the client's maker calls must be one that it can reach: to print the clicks for another would send the person through all
 * of them, to an error that says nothing. What a public name leads to is not asked here. Throws `unsupported`.
 */
export function assertPublic({ title, callsFrom, file }: ClientForm, { url }: UrlEntry): void {
  const host = new URL(url).hostname.replace(/\.$/, '')
  const reach = reachOfHost(host)
  if (reach === undefined ? host.includes('.') && !INSIDE.test(host) : reach === 'public') return
  throw new ChaperoneError('unsupported', `${title} cannot use ${new URL(url).host}: ${callsFrom} servers call it, and reach only what is public.`, {
    fix: `${file ? 'Leave --url out. Or let' : 'Let'} whoever runs Chaperone give it a public name with a certificate that everybody trusts (chaperone up --web-url https://NAME --web-cert FILE --web-key FILE), and sign in again.`,
  })
}
