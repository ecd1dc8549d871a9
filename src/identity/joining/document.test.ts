import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import { fakeAuthority } from '../../../test/fakes/authority.ts'
import { joinFaults, joinSpec } from './document.ts'
import { issuerOf } from './joining.fixture.ts'

const allow = [{ repository: 'octo/app' }]
const faultsOf = (spec: Record<string, unknown>) =>
  joinFaults(joinSpec.parse({ agent: 'bot', ...spec })).map(({ path, message }) => `${path.join('.')}: ${message}`)
const good = { method: 'github', allow }

test('a document that says all is accepted; each thing that is wrong is said at its place', () => {
  assert.deepEqual(faultsOf(good), [])
  assert.deepEqual(faultsOf({ method: 'bound-key', 'bound-key': { register: true } }), [], 'whose key it is says enough')
  const wrong: readonly (readonly [object, RegExp])[] = [
    [{ ...good, gitlab: {} }, /^gitlab: .*is not read/],
    [{ ...good, allow: [] }, /^allow: Without a rule/],
    [{ ...good, allow: [{ repository: 'octo/app', repo: 'x' }] }, /^allow\.0\.repo: github has no claim/],
    [{ ...good, allow: [{ repository: 'octo/app', ref: 'refs/**' }] }, /^allow\.0\.ref: /],
    [{ ...good, allow: [{ ref: 'x' }] }, /^allow\.0: .*does not say whose it is/],
    // Of a list every member lets somebody in.
    [{ ...good, allow: [{ repository: ['octo/app', '*'] }] }, /^allow\.0: .*does not say whose it is/],
    [{ method: 'oidc', oidc: { issuer: 'https://x.example' }, allow: [{ sub: '*' }] }, /^allow\.0: .*everybody whom the issuer knows/],
    [{ method: 'oidc', allow: [{ sub: 'x' }] }, /^method: .*needs a block/],
    ...['29s', '13h', 'soon'].flatMap((text) => ['ttl', 'longest'].map((part) => [{ ...good, [part]: text }, new RegExp(`^${part}: `)] as const)),
  ]
  for (const [spec, told] of wrong) {
    const faults = faultsOf(spec as Record<string, unknown>)
    assert.equal(faults.length, 1, JSON.stringify([spec, faults]))
    assert.match(faults[0]!, told)
  }
})

test('rule 11: what a document may hold is bounded, and so is each part of it', () => {
  const many = (count: number) => Array.from({ length: count }, () => 'octo/app')
  const fits = (spec: object) => joinSpec.safeParse({ agent: 'bot', ...good, ...spec }).success
  const claims = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`c${i}`, 'x']))
  const pem = 'x'.repeat(65_536)
  const [issuer, keys] = [`https://x.example/${'a'.repeat(494)}`, (count: number) => ({ keys: Array.from({ length: count }, () => ({})) })]
  const crl = (count: number) => Array.from({ length: count }, () => ({ file: '/a' }))
  const bounds: readonly (readonly [object, object])[] = [
    [{ agent: 'a'.repeat(130) }, { agent: 'a'.repeat(131) }],
    [{ agent: 'a' }, { agent: '' }],
    [{ allow: Array.from({ length: 64 }, () => allow[0]) }, { allow: Array.from({ length: 65 }, () => allow[0]) }],
    [{ allow: [claims(32)] }, { allow: [claims(33)] }],
    [{ allow: [claims(1)] }, { allow: [{}] }],
    [{ allow: [{ ['c'.repeat(256)]: 'x' }] }, { allow: [{ ['c'.repeat(257)]: 'x' }] }],
    [{ allow: [{ c: 'x' }] }, { allow: [{ '': 'x' }] }],
    [{ allow: [{ c: many(100) }] }, { allow: [{ c: many(101) }] }],
    [{ allow: [{ c: ['x'] }] }, { allow: [{ c: [] }] }],
    [{ allow: [{ c: 'x'.repeat(1024) }] }, { allow: [{ c: 'x'.repeat(1025) }] }],
    [{ allow: [{ c: 'x' }] }, { allow: [{ c: '' }] }],
    [{ audience: 'a'.repeat(512) }, { audience: 'a'.repeat(513) }],
    [{ audience: 'a' }, { audience: '' }],
    [{ audience: 'a' }, { audience: 'a b' }],
    [{ oidc: { issuer } }, { oidc: { issuer: `${issuer}a` } }],
    [{ oidc: { issuer, ca: pem } }, { oidc: { issuer, ca: `${pem}x` } }],
    [{ oidc: { issuer, jwks: keys(100) } }, { oidc: { issuer, jwks: keys(101) } }],
    [{ oidc: { issuer, jwks: keys(1) } }, { oidc: { issuer, jwks: keys(0) } }],
    [{ kubernetes: { issuer, api: issuer } }, { kubernetes: { issuer: `${issuer}a` } }],
    [{ kubernetes: {} }, { kubernetes: { api: `${issuer}a` } }],
    [{ aws: { regions: ['eu-central-1'] } }, { aws: { regions: [] } }],
    [{ aws: { regions: Array.from({ length: 32 }, () => 'eu-central-1') } }, { aws: { regions: Array.from({ length: 33 }, () => 'eu-central-1') } }],
    [{ aws: {} }, { aws: { regions: ['eu-central-1.evil.example'] } }],
    [{ aws: { ca: pem } }, { aws: { ca: `${pem}x` } }],
    [{ 'bound-key': { keys: many(100) } }, { 'bound-key': { keys: many(101) } }],
    [{ 'bound-key': { keys: ['x'.repeat(4096)] } }, { 'bound-key': { keys: ['x'.repeat(4097)] } }],
    [{ 'bound-key': { keys: ['x'] } }, { 'bound-key': { keys: [''] } }],
    [{ 'bound-key': { recoveries: 0 } }, { 'bound-key': { recoveries: -1 } }],
    [{ 'bound-key': { recoveries: 100_000 } }, { 'bound-key': { recoveries: 100_001 } }],
    [{ x509: { authority: pem } }, { x509: { authority: `${pem}x` } }],
    [{ x509: { authority: 'x', crl: pem } }, { x509: { authority: 'x', crl: `${pem}x` } }],
    [{ x509: { authority: 'x', crl: 'x' } }, { x509: { authority: 'x', crl: '' } }],
    [{ x509: { authority: 'x', crl: crl(20) } }, { x509: { authority: 'x', crl: crl(21) } }],
    [{ x509: { authority: 'x', crl: crl(1) } }, { x509: { authority: 'x', crl: [] } }],
    [{ x509: { authority: 'x', crl: { file: '/a' } } }, { x509: { authority: 'x', crl: { file: '/' } } }],
    [{ x509: { authority: 'x', crl: { file: '/a' } } }, { x509: { authority: 'x', crl: { file: 'a/b' } } }],
    [{ x509: { authority: 'x', crl: { file: `/${'a'.repeat(1023)}` } } }, { x509: { authority: 'x', crl: { file: `/${'a'.repeat(1024)}` } } }],
    [{ x509: { authority: 'x', crl: { url: issuer, ca: pem } } }, { x509: { authority: 'x', crl: { url: `${issuer}a` } } }],
    [{ x509: { authority: 'x', crl: { url: issuer } } }, { x509: { authority: 'x', crl: { url: issuer, ca: `${pem}x` } } }],
    [{ x509: { authority: 'x', crl: { url: issuer } } }, { x509: { authority: 'x', crl: { url: 'http://x.example/' } } }],
  ]
  for (const [inside, outside] of bounds) {
    assert.equal(fits(inside), true, JSON.stringify(inside).slice(0, 120))
    assert.equal(fits(outside), false, JSON.stringify(outside).slice(0, 120))
  }
})

test('rule 5: a key that is secret, or a text that is none, does not come to lie in a document', async () => {
  const secret = generateKeyPairSync('ed25519').privateKey
  const own = issuerOf('https://x.example')
  const oidc = (more: object) => faultsOf({ method: 'oidc', oidc: { issuer: 'https://x.example', ...more }, allow: [{ sub: 'x' }] })
  assert.deepEqual(oidc({ jwks: own.jwks }), [])
  for (const key of [secret.export({ format: 'jwk' }), { kty: 'oct', k: 'c2VjcmV0' }]) {
    const [told, ...more] = oidc({ jwks: { keys: [...own.jwks.keys, key] } })
    assert.match(told!, /^oidc\.jwks: One of these keys is secret/)
    assert.deepEqual(more, [])
  }
  for (const keys of [[{ ...own.jwks.keys[0], use: 'enc' }], [{ kty: 'EC', crv: 'P-384' }], [{ kty: 'OKP', crv: 'X25519' }]])
    assert.match(oidc({ jwks: { keys } })[0]!, /None of these keys can be used/)
  assert.deepEqual(oidc({ ca: (await fakeAuthority()).certificate }), [])
  for (const ca of ['nonsense', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n']) {
    assert.match(oidc({ ca })[0]!, /^oidc\.ca: This is not a certificate/)
    assert.match(faultsOf({ ...good, github: { ca } })[0]!, /^github\.ca: /)
    assert.match(faultsOf({ method: 'gitlab', gitlab: { ca }, allow: [{ project_path: 'a/b' }] })[0]!, /^gitlab\.ca: /)
    assert.match(faultsOf({ method: 'kubernetes', kubernetes: { ca }, allow: [{ namespace: 'a' }] })[0]!, /^kubernetes\.ca: /)
    assert.match(faultsOf({ method: 'aws', aws: { ca }, allow: [{ account: '123456789012' }] })[0]!, /^aws\.ca: /)
  }
  const bound = (key: string) => faultsOf({ method: 'bound-key', 'bound-key': { keys: [key] } })
  const pem = (curve: string) => generateKeyPairSync('ec', { namedCurve: curve }).publicKey.export({ type: 'spki', format: 'pem' }) as string
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey
  for (const key of [pem('prime256v1'), ...(['spki', 'pkcs1'] as const).map((type) => rsa.export({ type, format: 'pem' }) as string)])
    assert.deepEqual(bound(key), [])
  for (const key of [secret.export({ type: 'pkcs8', format: 'pem' }) as string, pem('secp256k1'), 'nonsense'])
    assert.match(bound(key)[0]!, /^bound-key\.keys\.0: This is not a public key/)
})
