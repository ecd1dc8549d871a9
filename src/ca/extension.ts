import { AsnConvert, AsnProp, AsnPropTypes, AsnType, AsnTypeTypes, OctetString } from '@peculiar/asn1-schema'
import { Extension } from '@peculiar/asn1-x509'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { parseStrict } from '../encoding/strict-json.ts'
import { ChaperoneError } from '../errors.ts'
import { type IdKind, isId } from '../ids.ts'
import type { CredentialClaims } from './types.ts'

/**
 * Our extension: `2.25.<UUID 875291ae-8a6d-4247-8869-7024ab3664f0 as an integer>` (ITU-T X.667 section 7: everybody may
 * take an arc under 2.25 for a UUID of his own). Fixed for ever: certificates in the field carry it.
 */
export const CLAIMS_OID = '2.25.179874502551297322947179491123457844464'

/** A chain longer than this is nobody's honest delegation, and every link costs a decision. */
export const LONGEST_CHAIN = 8

const LARGEST = 4096

const KEYS: ReadonlySet<string> = new Set(['v', 'identity', 'credential', 'session', 'issuer', 'chain'])
const LINK_KEYS: ReadonlySet<string> = new Set(['identity', 'delegation'])

/** The extension's value is one UTF8String: RFC 5280 section 4.2 wants DER inside the OCTET STRING. */
class ClaimsText {
  text = ''
}
AsnProp({ type: AsnPropTypes.Utf8String })(ClaimsText.prototype, 'text')
AsnType({ type: AsnTypeTypes.Choice })(ClaimsText)

/** asn1js reads arcs over 64 bits back in a spelling of its own, so an OID is compared as it was read, never as we write it. */
const OID_AS_READ = AsnConvert.parse(AsnConvert.serialize(new Extension({ extnID: CLAIMS_OID, extnValue: new OctetString(0) })), Extension).extnID

export function isClaimsExtension(extension: Extension): boolean {
  return extension.extnID === OID_AS_READ || extension.extnID === CLAIMS_OID
}

/** The claims as a non-critical extension, so that TLS stacks that do not know it accept the certificate. Throws `issue_refused` for claims that no reader would accept. */
export function claimsExtension(claims: CredentialClaims): Extension {
  const fault = faultOf(claims)
  if (fault !== undefined) throw new ChaperoneError('issue_refused', 'The certificate cannot be issued as asked.', { detail: `claims: ${fault}` })
  const value = new ClaimsText()
  value.text = canonicalJson(claims)
  return new Extension({ extnID: CLAIMS_OID, critical: false, extnValue: new OctetString(AsnConvert.serialize(value)) })
}

/** Reads the content of our extension. Throws `credential_invalid` for an unknown `v` or key, wrong ids, or any byte that is not canonical. */
export function readClaims(extnValue: Uint8Array): CredentialClaims {
  if (extnValue.byteLength > LARGEST) throw invalid('too large')
  let text: string
  try {
    text = AsnConvert.parse(extnValue, ClaimsText).text
  } catch (error) {
    throw invalid('not a UTF8String', error)
  }
  return claimsFromJson(text)
}

/** The same claims in a token. */
export function claimsFromJson(text: string): CredentialClaims {
  let claims: unknown
  try {
    claims = parseStrict(text, { maxBytes: LARGEST, maxDepth: 4 }).value
  } catch (error) {
    throw invalid('not strict JSON', error)
  }
  assertClaims(claims)
  // One form only: what was signed is what every reader sees.
  if (canonicalJson(claims) !== text) throw invalid('not canonical')
  return claims
}

/** Throws `credential_invalid` unless the value is claims. */
export function assertClaims(claims: unknown): asserts claims is CredentialClaims {
  const fault = faultOf(claims)
  if (fault !== undefined) throw invalid(fault)
}

const invalid = (detail: string, cause?: unknown) =>
  new ChaperoneError('credential_invalid', 'The credential does not say who it is of in a way that is understood.', {
    detail: `claims: ${detail}`,
    cause,
  })

function faultOf(value: unknown): string | undefined {
  if (!isObject(value)) return 'not an object'
  if (value.v !== 1) return 'unknown version'
  const unknown = Object.keys(value).find((key) => !KEYS.has(key))
  if (unknown !== undefined) return `unknown key ${JSON.stringify(unknown.slice(0, 40))}`
  if (!isIdentity(value.identity)) return 'identity'
  if (!isId('crd', value.credential)) return 'credential'
  if (!isId('ses', value.session)) return 'session'
  if (value.issuer !== undefined && !isIdentity(value.issuer)) return 'issuer'
  return value.chain === undefined ? undefined : faultOfChain(value.chain, value.identity)
}

function faultOfChain(chain: unknown, identity: string): string | undefined {
  if (!Array.isArray(chain) || chain.length === 0 || chain.length > LONGEST_CHAIN) return 'chain'
  for (const [i, link] of chain.entries()) {
    if (!isObject(link) || !isIdentity(link.identity) || Object.keys(link).some((key) => !LINK_KEYS.has(key))) return `link ${i}`
    // Without a delegation nobody could revoke the link; the first acts for nobody.
    if (i === 0 ? link.delegation !== undefined : !isId('dlg', link.delegation)) return `delegation of link ${i}`
  }
  return chain.at(-1).identity === identity ? undefined : 'the chain ends in another identity'
}

const IDENTITY_KINDS: readonly IdKind[] = ['usr', 'agt', 'nod']
const isIdentity = (id: unknown): id is string => IDENTITY_KINDS.some((kind) => isId(kind, id))
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)
