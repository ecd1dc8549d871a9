import { X509Certificate } from 'node:crypto'
import { z } from 'zod'
import { certificateBlocks } from '../../ca/pem.ts'
import { namesOf, PathFault, validatePath } from './certificate-path.ts'
import type { Claims, JoinMethod } from './method.ts'
import { JoinRefused, unproven } from './refused.ts'
import { askLists, readRevocationList, vouchedBy } from './revocation-list.ts'
import { listPlaces, noList } from './revocation-lists.ts'
import { signedText, verifyStatement } from './signed-proof.ts'
import { notEverything } from './telling.ts'

const MOST_AUTHORITIES = 20

export const x509Spec = z.strictObject({
  authority: z
    .string()
    .max(64 * 1024)
    .describe('PEM of the authorities whose certificates are believed'),
  crl: listPlaces
    .optional()
    .describe(
      'what was revoked, one list for each authority between a certificate and the top: PEM, a `file` of the server, or a `url`; or several of these. Without it nothing is asked, and certificates should be short-lived',
    ),
  crl_overdue: z.enum(['refuse', 'believe']).default('refuse').describe('what a list counts for when its next one was due'),
})

const proof = z.strictObject({
  /** PEM, the leaf first */
  chain: z
    .string()
    .min(1)
    .max(32 * 1024),
  signed: signedText,
})

const certificatesOf = (pem: string) => certificateBlocks(pem).map((block) => new X509Certificate(block))

/** A certificate of an authority that a company has already: shown in full, and its key proven by signing our nonce. */
export const x509: JoinMethod<z.infer<typeof x509Spec>, z.infer<typeof proof>> = {
  name: 'x509',
  spec: x509Spec,
  proof,
  claims: ['common_name', 'organization', 'unit', 'dns', 'uri', 'email', 'serial', 'fingerprint'],
  // An authority of a company has given a certificate to everybody and everything there.
  telling: {
    common_name: notEverything,
    organization: notEverything,
    unit: notEverything,
    dns: notEverything,
    uri: notEverything,
    email: notEverything,
    serial: notEverything,
    fingerprint: notEverything,
  },
  provableAgain: true,
  faults({ authority, crl = [] }) {
    try {
      const found = certificatesOf(authority)
      if (found.length === 0 || found.length > MOST_AUTHORITIES)
        return [{ path: ['authority'], message: `Between one and ${MOST_AUTHORITIES} certificates in PEM stand here.` }]
      if (found.some((one) => !one.ca)) return [{ path: ['authority'], message: 'One of these certificates is not of an authority.' }]
    } catch {
      return [
        { path: ['authority'], message: 'This is not a certificate in PEM.', fix: 'Paste the whole block, from -----BEGIN CERTIFICATE----- on.' },
      ]
    }
    return [crl].flat().flatMap((one) => {
      if (typeof one !== 'string') return []
      try {
        readRevocationList(Buffer.from(one))
        return []
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error)
        return [
          {
            path: ['crl'],
            message: `A revocation list here cannot be used: ${why}.`,
            fix: 'openssl crl -inform DER -in list.crl writes one in PEM.',
          },
        ]
      }
    })
  },
  async prove({ chain, signed }, { authority, crl, crl_overdue: overdue }, context) {
    const facts = { document: context.document, method: 'x509' }
    const { way, over } = readWay(chain, authority, context.now, (why, cause) => unproven(why, facts, cause))
    const [leaf] = way
    const { once } = await verifyStatement(signed, leaf.publicKey, context, 'x509')
    if (over) throw new JoinRefused(`${over.message}.`, { why: over.message, ...facts }, { cause: over })
    if (crl !== undefined) {
      const answer = askLists(way, await context.lists.of(crl), { now: context.now, overdue })
      if (answer === 'revoked') throw new JoinRefused('the certificate was revoked.', { why: 'revoked', ...facts })
      if (answer === 'unknown') throw noList('no list of one of the authorities, or it is overdue')
    }
    const subject = leaf.subject?.replaceAll('\n', ', ') || `serial ${leaf.serialNumber}`
    return { subject, claims: claimsOf(leaf), once, certificates: vouchedBy(way) }
  },
}

/** Whoever holds a certificate that was good in its time is told that it is over; anybody else hears nothing of what was wrong. */
function readWay(chain: string, authority: string, now: number, stranger: (why: string, cause: unknown) => JoinRefused) {
  try {
    const [shown, believed] = [certificatesOf(chain), certificatesOf(authority)]
    try {
      return { way: validatePath(shown, believed, now) }
    } catch (error) {
      const end = shown[0]?.validToDate.getTime() ?? now
      if (!(error instanceof PathFault) || end >= now) throw error
      return { way: validatePath(shown, believed, end), over: error }
    }
  } catch (error) {
    throw stranger(error instanceof PathFault ? error.message : `the certificate cannot be read: ${String(error)}`, error)
  }
}

export function claimsOf(leaf: X509Certificate): Claims {
  return { ...namesOf(leaf), serial: leaf.serialNumber.toLowerCase(), fingerprint: leaf.fingerprint256.replaceAll(':', '').toLowerCase() }
}
