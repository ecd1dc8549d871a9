import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { fakeAuthority } from '../fakes/authority.ts'
import { ask, house, keyAndCsr } from '../parts/house.ts'
import { ofFile } from '../parts/of-file.ts'
import { indented } from './ways.ts'

const { csr } = keyAndCsr()
const DOCUMENTS = ['own', 'pod', 'fleet', 'machine', 'cloud', 'nowhere']

const own = ofFile(async (t) => {
  const made = await house(t)
  const { certificate } = await fakeAuthority('company')
  const jwk = { ...generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }), kid: 'k1' }
  const jwks = JSON.stringify({ keys: [jwk] })
  const document = (name: string, method: string, rest: string) =>
    `---\nkind: join\nname: ${name}\nspec:\n  agent: report-bot\n  method: ${method}\n${rest}\n`
  await made.apply(
    [
      'kind: user\nname: boris\nspec: { roles: [] }\n---\nkind: agent\nname: report-bot\nspec: { owner: boris, roles: [] }\n',
      document('own', 'oidc', `  oidc: { issuer: https://issuer.example, jwks: ${jwks} }\n  allow: [{ sub: x }]`),
      document('pod', 'kubernetes', `  kubernetes: { jwks: ${jwks} }\n  allow: [{ namespace: agents }]`),
      document('fleet', 'x509', `  x509:\n    authority: |\n${indented(certificate, 6)}\n  allow: [{ dns: a.example.com }]`),
      document('machine', 'bound-key', '  bound-key: { register: true }'),
      document('cloud', 'aws', '  allow: [{ account: "123456789012" }]'),
    ].join(''),
  )
  return made
})

let address = 0
/** From another address each time: of one, a few a second are answered. */
async function posted(body: string | Buffer): Promise<{ readonly status: number; readonly text: string }> {
  address++
  return await ask(`127.0.0.1:${own.server.addresses.data.split(':').at(-1)}`, '/v1/join', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
    localAddress: `127.1.${(address >> 8) & 255}.${address & 255 || 1}`,
  })
}

/** Refused as what it is: never as a fault of ours, never with a word of a library, and never let in. */
async function refused(body: string | Buffer, statuses: readonly number[] = [400, 401, 403, 413, 422]): Promise<{ readonly code: string }> {
  const { status, text } = await posted(body)
  const shown = `${status} ${text.slice(0, 300)} to ${body.toString().slice(0, 300)}`
  assert.ok(statuses.includes(status), shown)
  const { error } = JSON.parse(text) as { error: { code: string } }
  assert.notEqual(error.code, 'internal', shown)
  assert.doesNotMatch(text, /node:|\.ts:|Zod|asn1|jose|undefined|octo/, shown)
  return error
}

const token = fc.oneof(
  fc.string(),
  fc
    .tuple(
      fc.record(
        {
          alg: fc.constantFrom('none', 'HS256', 'EdDSA', 'RS256', 'x'),
          kid: fc.constantFrom('k1', 'k2', 7),
          typ: fc.constantFrom('JWT', null),
          b64: fc.boolean(),
        },
        { requiredKeys: [] },
      ),
      fc.jsonValue(),
      fc.base64String(),
    )
    .map(([head, payload, signature]) =>
      [head, payload]
        .map((one) => Buffer.from(JSON.stringify(one)).toString('base64url'))
        .concat(signature)
        .join('.'),
    ),
)
const PEM = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }) as string
const proof = fc.oneof(
  fc.jsonValue(),
  fc.record({ token }),
  fc.record({
    chain: fc.oneof(
      fc.string(),
      fc.base64String().map((text) => `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`),
    ),
    signed: token,
  }),
  fc.record({ key: fc.oneof(fc.string(), fc.constant(PEM)), signed: token, register: fc.string() }, { requiredKeys: ['key', 'signed'] }),
  fc.record({
    region: fc.constantFrom('eu-central-1', 'evil.example/', 'cn-north-1'),
    authorization: fc.oneof(
      fc.string(),
      fc.constant(
        `AWS4-HMAC-SHA256 Credential=${'A'.repeat(20)}/20261123/eu-central-1/sts/aws4_request, SignedHeaders=host;x-amz-date;x-chaperone-join, Signature=${'0'.repeat(64)}`,
      ),
    ),
    date: fc.constantFrom('20261123T000000Z', 'now'),
    statement: fc.oneof(
      fc.string({ minLength: 1 }),
      fc.jsonValue().map((value) => Buffer.from(JSON.stringify(value)).toString('base64url')),
    ),
  }),
)

test('rule 1: whatever is sent in the place of a proof is refused, and in words of ours', async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...DOCUMENTS), proof, async (join, shown) => {
      await refused(JSON.stringify({ join, proof: shown, csr }))
    }),
    { numRuns: 100 },
  )
})

test('rule 8: a stranger hears the same of each document, and of one that does not exist', async () => {
  await fc.assert(
    fc.asyncProperty(proof, async (shown) => {
      const heard = await Promise.all(DOCUMENTS.map((join) => refused(JSON.stringify({ join, proof: shown, csr }))))
      for (const one of heard) assert.deepEqual(one, heard[0])
    }),
    { numRuns: 40 },
  )
})

test('rule 1: whatever is sent in the place of a request is refused', async () => {
  const some = fc.oneof(
    fc.jsonValue(),
    fc.dictionary(fc.constantFrom('token', 'join', 'proof', 'csr', 'ttl', 'for', 'purpose', '__proto__', 'x'), fc.jsonValue()),
  )
  await fc.assert(
    fc.asyncProperty(some, async (body) => {
      await refused(JSON.stringify(body))
    }),
    { numRuns: 60 },
  )
  for (const bytes of [
    Buffer.alloc(0),
    Buffer.from([0xff, 0xfe, 0x7b]),
    Buffer.from('{"join":"own\0"}'),
    Buffer.from('\ufeff{}'),
    Buffer.from("{'join':'own'}"),
  ])
    await refused(bytes)
})

test('rule 2: a key that stands there twice, on whichever level, is refused and not repaired', async () => {
  const twice = [
    `{"join":"own","join":"pod","proof":{"token":"x"},"csr":${JSON.stringify(csr)}}`,
    `{"join":"own","proof":{"token":"x","token":"y"},"csr":${JSON.stringify(csr)}}`,
    `{"join":"own","proof":{"token":"x"},"\\u0070roof":{"token":"y"},"csr":${JSON.stringify(csr)}}`,
    `{"join":"own","proof":{"a":[{"b":1,"b":2}]},"csr":${JSON.stringify(csr)}}`,
  ]
  for (const body of twice) assert.equal((await refused(body)).code, 'ambiguous')
})

test('rule 11: what is huge or deep is refused at once, and the next one is answered', async () => {
  const wide = JSON.stringify({ join: 'own', proof: Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`k${i}`, 1])), csr })
  const deep = (of: number) => `{"join":"own","proof":{"token":${'['.repeat(of)}${']'.repeat(of)}},"csr":${JSON.stringify(csr)}}`
  for (const body of [
    wide,
    'x'.repeat(10_000_000),
    JSON.stringify({ join: 'own', proof: { token: 'x'.repeat(60_000) }, csr }),
    deep(1000),
    deep(30_000),
  ]) {
    // What is too long is not read to its end: the connection may be closed before its answer is.
    await refused(body).catch((error: NodeJS.ErrnoException) => assert.ok(['ECONNRESET', 'EPIPE'].includes(error.code ?? ''), String(error)))
  }
  const began = performance.now()
  await refused(JSON.stringify({ join: 'own', proof: { token: 'x' }, csr }))
  assert.ok(performance.now() - began < 20_000)
})
