import { createHash, type X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { connect } from 'node:tls'
import { ChaperoneError } from '../errors.ts'
import type { InvitationLine } from '../identity/invitations.ts'
import { openSocket } from '../network/tunnel.ts'
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
  const raw = await openSocket({ host, port, secure: true }, process.env, { timeoutMs: HANDSHAKE_MS }).catch((error: Error) => {
    throw unreachable(contact.address, error)
  })
  const socket = connect({
    socket: raw,
    ...(isIP(host) ? {} : { servername: host }),
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
    timeout: HANDSHAKE_MS,
  })
  let shown: X509Certificate | undefined
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve)
      socket.once('error', (error) => reject(unreachable(contact.address, error)))
      socket.once('timeout', () => reject(unreachable(contact.address, new Error('timeout'))))
    })
    let certificate = socket.getPeerX509Certificate()
    for (let depth = 0; certificate && depth < LONGEST_CHAIN; depth++) {
      shown = certificate
      if (spkiHash(certificate) === contact.fingerprint) return certificate.toString()
      certificate = certificate.issuerCertificate
    }
  } finally {
    socket.destroy()
  }
  throw new ChaperoneError('credential_invalid', `The server at ${contact.address} is not the one that the line names.`, {
    fix: `What answers there shows a certificate of ${authorityName(shown)}. If that is a proxy of your company that opens TLS, ask for an exception for this address (docs/company-network.md); else ask your administrator for a new line.`,
  })
}

/** The last of a chain, by the name that it gives itself: what a company calls its inspecting proxy. */
function authorityName(certificate: X509Certificate | undefined): string {
  const subject = certificate?.issuer ?? ''
  const name = /^(?:CN|O)=(.+)$/m.exec(subject)?.[1] ?? 'nobody'
  return JSON.stringify(name.replace(/[^\x20-\x7e]/g, '?').slice(0, 80))
}

/** Who vouches for the certificate that answers at an address, without believing it. Nothing is sent. Throws `upstream_unavailable`. */
export async function whoAnswers(address: string): Promise<{ readonly issuer: string; readonly chain: readonly string[] }> {
  const { host, port } = splitAddress(address)
  const raw = await openSocket({ host, port, secure: true }, process.env, { timeoutMs: HANDSHAKE_MS })
  const socket = connect({ socket: raw, ...(isIP(host) ? {} : { servername: host }), rejectUnauthorized: false, timeout: HANDSHAKE_MS })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve)
      socket.once('error', (error) => reject(unreachable(address, error)))
      socket.once('timeout', () => reject(unreachable(address, new Error('timeout'))))
    })
    const chain: string[] = []
    let certificate = socket.getPeerX509Certificate()
    let last = certificate
    for (let depth = 0; certificate && depth < LONGEST_CHAIN; depth++) {
      chain.push(certificate.toString())
      last = certificate
      certificate = certificate.issuerCertificate
    }
    return { issuer: authorityName(last), chain }
  } finally {
    socket.destroy()
  }
}

export function unreachable(address: string, cause: Error): ChaperoneError {
  // The proxy on the way knows better what is wrong than we do.
  if (cause instanceof ChaperoneError) return cause
  return new ChaperoneError('upstream_unavailable', `Chaperone at ${address} cannot be reached.`, {
    fix: 'Check that it runs (`chaperone up`), the address, and the network.',
    detail: cause.message,
    cause,
  })
}
