import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { AsnUtf8StringConverter } from '@peculiar/asn1-schema'
import fc from 'fast-check'
import { newId } from '../ids.ts'
import { CLAIMS_OID, claimsExtension, claimsFromJson, isClaimsExtension, LONGEST_CHAIN, readClaims } from './extension.ts'
import type { CredentialClaims } from './types.ts'

const agent = newId('agt')
const claims: CredentialClaims = {
  v: 1,
  identity: agent,
  credential: newId('crd'),
  session: newId('ses'),
  issuer: newId('usr'),
  chain: [{ identity: newId('usr') }, { identity: agent, delegation: newId('dlg') }],
}

const derOf = (text: string) => new Uint8Array(AsnUtf8StringConverter.toASN(text).toBER())
const contentOf = (of: CredentialClaims) => new Uint8Array(claimsExtension(of).extnValue.buffer)

describe('the extension of our certificates', () => {
  test('has an OID made from a UUID', () => {
    assert.equal(CLAIMS_OID, `2.25.${BigInt('0x875291ae8a6d424788697024ab3664f0')}`)
    const extension = claimsExtension(claims)
    assert.equal(extension.critical, false)
    assert.ok(isClaimsExtension(extension))
  })

  test('comes back as it went in', () => {
    assert.deepEqual(readClaims(contentOf(claims)), claims)
    const { issuer: _, chain: __, ...least } = claims
    assert.deepEqual(readClaims(contentOf(least)), least)
  })

  test('rule 2: what could be read in two ways, or is not understood, is refused', () => {
    const text = Buffer.from(contentOf(claims))
      .toString('utf8')
      .replace(/^[^{]+/, '')
    assert.deepEqual(claimsFromJson(text), claims)
    const wrong = {
      'unknown v': text.replace('"v":1', '"v":2'),
      'v as text': text.replace('"v":1', '"v":"1"'),
      'no v': text.replace(',"v":1', ''),
      'unknown key': text.replace('"v":1', '"v":1,"w":1'),
      'duplicate key': text.replace('"v":1', '"v":1,"v":1'),
      'a space': text.replace('"v":1', '"v": 1'),
      'another order': text.replace(/^\{(.*),"v":1\}$/, '{"v":1,$1}'),
      'an escape': text.replace('"session"', '"\\u0073ession"'),
      'an exponent': text.replace('"v":1', '"v":1e0'),
      'trailing bytes': `${text} `,
      'prototype key': text.replace('"v":1', '"__proto__":{},"v":1'),
      'wrong kind of credential id': text.replace(claims.credential, newId('ses')),
      'wrong kind of session id': text.replace(claims.session, newId('crd')),
      'wrong kind of issuer': text.replace(claims.issuer!, newId('dlg')),
      'null issuer': text.replace(`"${claims.issuer}"`, 'null'),
      'a chain that ends elsewhere': text.replace(`"identity":"${agent}"}`, `"identity":"${newId('agt')}"}`),
      'an empty chain': text.replace(/"chain":\[.*?\]/, '"chain":[]'),
      'a link without delegation': text.replace(/"delegation":"[^"]+",/, ''),
      'an array': '[]',
      null: 'null',
    }
    for (const [what, changed] of Object.entries(wrong)) {
      assert.notEqual(changed, text, what)
      assert.throws(() => claimsFromJson(changed), { code: 'credential_invalid' }, what)
      assert.throws(() => readClaims(derOf(changed)), { code: 'credential_invalid' }, what)
    }
  })

  test('rule 11: a chain and its text are bounded', () => {
    const link = () => ({ identity: newId('agt'), delegation: newId('dlg') })
    const chain = [{ identity: newId('usr') }, ...Array.from({ length: LONGEST_CHAIN }, link)]
    const identity = chain.at(-1)!.identity
    assert.throws(() => claimsExtension({ ...claims, identity, chain }), { code: 'issue_refused' })
    assert.throws(() => readClaims(derOf(' '.repeat(5000))), { code: 'credential_invalid' })
  })

  test('any bytes at all are claims or credential_invalid', () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.json().map(derOf)), (bytes) => {
        assert.throws(() => readClaims(bytes), { code: 'credential_invalid' })
      }),
      { numRuns: 300 },
    )
  })
})
