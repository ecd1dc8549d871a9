import { createHash, type X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { connect } from 'node:tls'
import { ChaperoneError } from '../errors.ts'
import type { InvitationLine } from '../identity/invitations.ts'
import { splitAddress } from './profile.ts'

const HANDSHAKE_MS = 10_000
/** A chain is a leaf and an authority or two; a longer one is somebody wasting our time. */
const LONGEST_CHAIN = 8

const spkiHash = (certificate: X509Certificate) =>
  createHash('sha256')
    .update(certificate.publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex')

/**
 * The certificate (PEM) of the authority that the invitation names, as the server presents it. Nothing is sent on this
 * connection: it is closed, and the real one is verified in the ordinary way with this authority as its only root. So
 * there is no trust on first use, and no moment in which a secret goes to somebody unverified.
 */
export async function fetchAuthority(contact: Pick<InvitationLine, 'address' | 'fingerprint'>): Promise<string> {
  const { host, port } = splitAddress(contact.address)
  const socket = connect({
    host,
    port,
    ...(isIP(host) ? {} : { servername: host }),
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
    timeout: HANDSHAKE_MS,
  })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve)
      socket.once('error', (error) => reject(unreachable(contact.address, error)))
      socket.once('timeout', () => reject(unreachable(contact.address, new Error('timeout'))))
    })
    let certificate = socket.getPeerX509Certificate()
    for (let depth = 0; certificate && depth < LONGEST_CHAIN; depth++) {
      if (spkiHash(certificate) === contact.fingerprint) return certificate.toString()
      certificate = certificate.issuerCertificate
    }
  } finally {
    socket.destroy()
  }
  throw new ChaperoneError('credential_invalid', `The server at ${contact.address} is not the one that the invitation names.`, {
    fix: 'Somebody may stand between you and the server, or its authority was replaced: ask your administrator for a new invitation.',
  })
}

export function unreachable(address: string, cause: Error): ChaperoneError {
  return new ChaperoneError('upstream_unavailable', `Chaperone at ${address} cannot be reached.`, {
    fix: 'Check that it runs (`chaperone up`), the address, and the network.',
    detail: cause.message,
    cause,
  })
}
