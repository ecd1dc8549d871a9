import type { CertificateAuthority } from '../ca/types.ts'
import { type Log, logError } from './log.ts'

/** The certificates that an identity's must lead to, as of now: read for every connection, so kept at hand. */
export async function followIdentityBundle(ca: Pick<CertificateAuthority, 'bundle' | 'onChange'>, log: Log) {
  let pem = await ca.bundle('identity')
  const stop = ca.onChange((purpose) => {
    if (purpose !== 'identity') return
    ca.bundle('identity').then(
      (newer) => {
        pem = newer
      },
      (error) => logError(log, 'identity bundle', error),
    )
  })
  return { pem: () => pem, stop }
}
