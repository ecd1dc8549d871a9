import { readFileSync } from 'node:fs'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { ChaperoneError } from '../errors.ts'

const PEM = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g

/** Of this process, in which several servers may start (tests, the demo): reading the system's store takes a while. */
let believedAlready: ReadonlySet<string> | undefined

/**
 * From now on this process believes, beside what Node brings and NODE_EXTRA_CA_CERTS, the authorities of the system's store
 * (a company puts its own there) and those in `files`. Throws `usage` for a file without a certificate.
 */
export function believeMore(files: readonly string[]): void {
  if (believedAlready !== undefined && files.every((file) => believedAlready!.has(file))) return
  const extra = files.flatMap((file) => {
    let found: readonly string[] = []
    try {
      found = readFileSync(file, 'utf8').match(PEM) ?? []
    } catch (error) {
      throw new ChaperoneError('usage', `The authorities in ${file} cannot be read.`, { detail: String(error) })
    }
    if (found.length === 0) throw new ChaperoneError('usage', `${file} holds no certificate.`, { fix: 'Give a file with PEM certificates.' })
    return found
  })
  const all = new Set([...getCACertificates('default'), ...getCACertificates('system'), ...extra])
  try {
    setDefaultCACertificates([...all])
    believedAlready = new Set([...(believedAlready ?? []), ...files])
  } catch (error) {
    throw new ChaperoneError('usage', 'One of the extra authorities is no certificate.', { detail: String(error) })
  }
}

/** What a TLS connection outwards believes: the default of this process, and the authority that a document names beside it. */
export const believed = (ca?: string): string[] => [...getCACertificates('default'), ...(ca === undefined ? [] : [ca])]

/** The same as options of a connection; nothing where the default is meant. */
export const trust = (ca: string | undefined): { readonly ca?: string[] } => (ca === undefined ? {} : { ca: believed(ca) })
