import assert from 'node:assert/strict'
import { generateKeyPairSync, sign, X509Certificate } from 'node:crypto'
import { describe, test } from 'node:test'
import { ecdsaWithSHA256, ecdsaWithSHA384 } from '@peculiar/asn1-ecc'
import { AsnConvert, OctetString } from '@peculiar/asn1-schema'
import {
  BasicConstraints,
  Certificate,
  ExtendedKeyUsage,
  Extension,
  Extensions,
  GeneralName,
  id_ce_basicConstraints,
  id_ce_extKeyUsage,
  id_ce_keyUsage,
  id_ce_subjectAltName,
  id_kp_clientAuth,
  id_kp_serverAuth,
  KeyUsage,
  KeyUsageFlags,
  SubjectAlternativeName,
} from '@peculiar/asn1-x509'
import { authorityName, keyIdentifierOf, signAuthority, signLeaf } from '../ca/certificate.ts'
import { CLAIMS_OID, claimsExtension } from '../ca/extension.ts'
import { pemOf } from '../ca/pem.ts'
import type { CredentialClaims } from '../ca/types.ts'
import { newId } from '../ids.ts'
import { type CertificateContext, claimsOf, principalFromCertificate } from './credential.ts'

const NOW = Date.UTC(2026, 10, 22, 12)
const MINUTE = 60_000

function authority(purpose = 'identity') {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const issuer = { name: authorityName('example.org', purpose), keyIdentifier: keyIdentifierOf(spki), privateKey }
  const root = signAuthority(issuer, spki, { notBefore: NOW - 60 * MINUTE, notAfter: NOW + 1000 * MINUTE })
  return { issuer, pem: pemOf('CERTIFICATE', root.der) }
}

const ours = authority()
const leafKey = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const leafSpki = leafKey.publicKey.export({ type: 'spki', format: 'der' })
const boris = newId('usr')
const agent = newId('agt')
const claims: CredentialClaims = {
  v: 1,
  identity: agent,
  credential: newId('crd'),
  session: newId('ses'),
  issuer: boris,
  chain: [{ identity: boris }, { identity: agent, delegation: newId('dlg') }],
}
const context: CertificateContext = { identityBundle: ours.pem, now: NOW, trustDomain: 'example.org' }

function leaf(
  issuer = ours.issuer,
  more: Partial<{
    name: string
    kind: 'user' | 'agent' | 'node'
    trustDomain: string
    claims: CredentialClaims
    notBefore: number
    notAfter: number
  }> = {},
) {
  const { name = 'boris/claude-code', kind = 'agent', trustDomain = 'example.org', notBefore = NOW - MINUTE, notAfter = NOW + 3 * MINUTE } = more
  return signLeaf(issuer, leafSpki, { use: 'identity', trustDomain, kind, name, claims: more.claims ?? claims }, { notBefore, notAfter }).der
}

const refused = (der: Uint8Array, code = 'credential_invalid', on = context) => assert.throws(() => principalFromCertificate(der, on), { code })

describe('a client certificate', () => {
  test('gives the principal it speaks of, from DER and from X509Certificate', () => {
    const der = leaf()
    const expected = {
      identityId: agent,
      kind: 'agent',
      name: 'boris/claude-code',
      credentialId: claims.credential,
      sessionId: claims.session,
      issuerId: boris,
      chain: claims.chain,
      notAfter: NOW + 3 * MINUTE,
      proof: 'mtls',
    }
    assert.deepEqual(principalFromCertificate(der, context), expected)
    assert.equal(
      principalFromCertificate(new X509Certificate(der), context),
      principalFromCertificate(der, context),
      'the second time from the cache',
    )
  })

  test('without a chain speaks of itself alone', () => {
    const alone = claimsOf({ identityId: boris, credentialId: newId('crd'), sessionId: newId('ses'), chain: [{ identity: boris }] })
    assert.equal(alone.chain, undefined)
    assert.deepEqual(principalFromCertificate(leaf(ours.issuer, { kind: 'user', name: 'boris', claims: alone }), context).chain, [
      { identity: boris },
    ])
  })

  test('rule 1: none at all is unauthenticated', () => {
    assert.throws(() => principalFromCertificate(undefined, context), { code: 'unauthenticated' })
  })

  test('rule 4: is over at its end to the millisecond, also when it is in the cache, and whatever TLS says', () => {
    const der = leaf()
    const at = (now: number) => principalFromCertificate(der, { ...context, now })
    assert.ok(at(NOW + 3 * MINUTE - 1))
    assert.throws(() => at(NOW + 3 * MINUTE), { code: 'credential_expired' })
    assert.throws(() => at(NOW - MINUTE - 1), { code: 'credential_invalid' })
    assert.ok(at(NOW), 'a refusal by time is not remembered')
  })

  test('of another authority, of the server authority, self-signed or of another trust domain is refused', () => {
    refused(leaf(authority().issuer))
    refused(leaf(authority('server').issuer))
    const self = { ...ours.issuer, keyIdentifier: keyIdentifierOf(leafSpki), privateKey: leafKey.privateKey }
    refused(leaf(self))
    refused(leaf(ours.issuer, { trustDomain: 'evil.org' }))
    refused(leaf(ours.issuer, { trustDomain: 'example.org.evil' }))
    refused(signAuthority(ours.issuer, leafSpki, { notBefore: NOW - 1, notAfter: NOW + MINUTE }).der)
  })

  test('an expired one of another authority is invalid, not expired: nothing is said about what is not ours', () => {
    refused(leaf(authority().issuer, { notAfter: NOW - 1 }), 'credential_invalid')
    refused(leaf(ours.issuer, { notAfter: NOW - 1 }), 'credential_expired')
  })

  test('is refused as soon as its authority is not in the bundle any more, whatever the cache holds', () => {
    const der = leaf()
    assert.ok(principalFromCertificate(der, context))
    refused(der, 'credential_invalid', { ...context, identityBundle: authority().pem })
    refused(der, 'credential_invalid', { ...context, identityBundle: '' })
    assert.ok(principalFromCertificate(der, { ...context, identityBundle: authority().pem + ours.pem }))
    refused(der, 'credential_invalid', { ...context, trustDomain: 'evil.org' })
  })

  test('ends with its authority at the latest', () => {
    const der = leaf(ours.issuer, { notAfter: NOW + 5000 * MINUTE })
    assert.equal(principalFromCertificate(der, context).notAfter, NOW + 1000 * MINUTE)
    refused(der, 'credential_expired', { ...context, now: NOW + 1000 * MINUTE })
  })

  test('whose name and claims speak of different identities is refused', () => {
    refused(leaf(ours.issuer, { kind: 'user', name: 'boris' }))
    refused(leaf(ours.issuer, { kind: 'agent', name: 'a/b/c' }))
    refused(leaf(ours.issuer, { kind: 'user', name: 'a/b', claims: { ...claims, identity: boris, chain: [{ identity: boris }] } }))
  })

  test('with any single bit changed is refused', () => {
    const der = leaf()
    for (let bit = 0; bit < der.length * 8; bit += 3) {
      const changed = Uint8Array.from(der)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      refused(changed)
    }
    refused(Buffer.concat([der, Buffer.from([0])]))
    refused(new Uint8Array(9000))
    refused(new Uint8Array())
  })
})

describe('a certificate that our own key signed in another form', () => {
  /** Our leaf with other extensions (and perhaps another hash), signed again by our authority. */
  function signed(extensions: readonly Extension[], digest = 'sha256', algorithm = ecdsaWithSHA256): Uint8Array {
    const certificate = AsnConvert.parse(leaf(), Certificate)
    const { tbsCertificate } = certificate
    tbsCertificate.extensions = new Extensions([...extensions])
    tbsCertificate.signature = algorithm
    const signature = sign(digest, Buffer.from(AsnConvert.serialize(tbsCertificate)), ours.issuer.privateKey)
    return new Uint8Array(
      AsnConvert.serialize(new Certificate({ tbsCertificate, signatureAlgorithm: algorithm, signatureValue: new Uint8Array(signature).buffer })),
    )
  }

  const extension = (extnID: string, critical: boolean, value: unknown) =>
    new Extension({ extnID, critical, extnValue: new OctetString(AsnConvert.serialize(value)) })
  const nameOf = (...uris: string[]) =>
    extension(
      id_ce_subjectAltName,
      true,
      new SubjectAlternativeName(uris.map((uniformResourceIdentifier) => new GeneralName({ uniformResourceIdentifier }))),
    )
  const usages = (...ids: string[]) => extension(id_ce_extKeyUsage, false, new ExtendedKeyUsage(ids))
  const usage = (flags: number) => extension(id_ce_keyUsage, true, new KeyUsage(flags))

  const OURS = claimsExtension(claims)
  const NAME = nameOf('spiffe://example.org/agent/boris/claude-code')
  const CLIENT = usages(id_kp_clientAuth)
  const USAGE = usage(KeyUsageFlags.digitalSignature)
  const LEAF = extension(id_ce_basicConstraints, true, new BasicConstraints({ cA: false }))
  const good = [OURS, NAME, CLIENT, USAGE, LEAF]
  const instead = (gone: Extension, ...put: Extension[]) => [...good.filter((one) => one !== gone), ...put]

  test('is read when it says the same', () => {
    assert.equal(principalFromCertificate(signed(good), context).identityId, agent)
  })

  test('is refused when an extension is missing, doubled, unknown and critical, or says something else', () => {
    const { keyCertSign, digitalSignature } = KeyUsageFlags
    const wrong: Record<string, Extension[]> = {
      none: [],
      'no claims': instead(OURS),
      'two claims': [...good, OURS],
      'claims that are no UTF8String': instead(OURS, new Extension({ extnID: CLAIMS_OID, extnValue: new OctetString([4, 2, 0x7b, 0x7d]) })),
      'no name': instead(NAME),
      'two names': instead(NAME, nameOf('spiffe://example.org/agent/boris/claude-code', 'spiffe://example.org/agent/dana')),
      'a DNS name': instead(NAME, extension(id_ce_subjectAltName, true, new SubjectAlternativeName([new GeneralName({ dNSName: 'x' })]))),
      'a percent-encoded name': instead(NAME, nameOf('spiffe://example.org/agent/boris%2fclaude-code')),
      'a name of another kind': instead(NAME, nameOf('spiffe://example.org/user/boris')),
      'no extended key usage': instead(CLIENT),
      'server usage': instead(CLIENT, usages(id_kp_serverAuth)),
      'any usage': instead(CLIENT, usages('2.5.29.37.0')),
      'both usages': instead(CLIENT, usages(id_kp_clientAuth, id_kp_serverAuth)),
      'no key usage': instead(USAGE),
      'signing of certificates': instead(USAGE, usage(digitalSignature | keyCertSign)),
      'no constraints': instead(LEAF),
      'an authority': instead(LEAF, extension(id_ce_basicConstraints, true, new BasicConstraints({ cA: true }))),
      'an unknown critical extension': [...good, new Extension({ extnID: '1.2.3.4', critical: true, extnValue: new OctetString([5, 0]) })],
    }
    for (const [what, extensions] of Object.entries(wrong)) {
      assert.throws(() => principalFromCertificate(signed(extensions), context), { code: 'credential_invalid' }, what)
    }
  })

  test('is refused when it is signed with another hash', () => {
    refused(signed(good, 'sha384', ecdsaWithSHA384))
  })
})
