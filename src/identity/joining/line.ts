import { isIP } from 'node:net'
import { ChaperoneError } from '../../errors.ts'

/** Where to join, whom to believe there, and for whom a proof is made. It holds no secret: it may stand in a workflow that everybody reads. */
export interface ServerLine {
  /** `host:port`; IPv6 in brackets */
  readonly address: string
  /** sha256 hex of the server authority's SubjectPublicKeyInfo */
  readonly fingerprint: string
  /** `https://<trust domain>`, or what the document says. From here and not from the server: else one server could have proofs made for another. */
  readonly audience: string
}

/** `chaperone://host:port?ca=<sha256 hex>&for=<audience>` */
export function formatServerLine({ address, fingerprint, audience }: ServerLine): string {
  return `chaperone://${address}?ca=${fingerprint}&for=${encodeURIComponent(audience)}`
}

const LINE =
  /^chaperone:\/\/(?<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(?<port>\d{1,5})\/?\?ca=(?<fingerprint>[0-9a-f]{64})&for=(?<audience>[^&#\s]{1,600})$/

/** Reads the line, strictly. Throws `usage`. */
export function parseServerLine(text: string): ServerLine {
  const { host, port, fingerprint, audience } = (text.length <= 1024 ? LINE.exec(text.trim())?.groups : undefined) ?? {}
  const decoded = audience === undefined ? undefined : decode(audience)
  const wrong =
    !host || !fingerprint || !decoded || !(Number(port) >= 1 && Number(port) <= 65_535) || (host.startsWith('[') && isIP(host.slice(1, -1)) !== 6)
  if (wrong)
    throw new ChaperoneError('usage', 'This does not say which server to join: it looks like chaperone://host:port?ca=hash&for=https%3A%2F%2Fname.', {
      fix: 'Copy the whole line, in quotes: chaperone get join NAME --line prints it.',
    })
  return { address: `${host}:${port}`, fingerprint, audience: decoded }
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
