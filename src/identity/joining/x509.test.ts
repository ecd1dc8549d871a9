import assert from 'node:assert/strict'
import { generateKeyPairSync, webcrypto, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import 'reflect-metadata' // first: @peculiar/x509 does not load without it
import { createHash } from 'node:crypto'
import * as lib from '@peculiar/x509'
import { CompactSign } from 'jose'
import { joinContext, NOW, refusedFor as refused, SERVER } from './joining.fixture.ts'
import { JoinRefused, UNKNOWN } from './refused.ts'
import { PROOF_TYPE } from './signed-proof.ts'
import { x509, x509Spec } from './x509.ts'

lib.cryptoProvider.set(webcrypto as never)
const ec = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const HOUR = 3_600_000
const context = joinContext({ challenge: () => NOW + 1000 })

async function make(subject: string, { by, ca = false, from = -2 * HOUR, to = HOUR }: Wish = {}) {
  const keys = (await webcrypto.subtle.generateKey(ec, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair
  const made = await lib.X509CertificateGenerator.create({
    ...{ serialNumber: '0a', subject, issuer: by?.subject ?? subject, notBefore: new Date(NOW + from), notAfter: new Date(NOW + to) },
    ...{ publicKey: keys.publicKey as never, signingKey: (by?.keys ?? keys).privateKey as never, signingAlgorithm: ec },
    extensions: [new lib.BasicConstraintsExtension(ca, undefined, true)],
  })
  return { subject, keys, pem: new X509Certificate(Buffer.from(made.rawData)).toString() }
}
interface Wish {
  readonly by?: Made
  readonly ca?: boolean
  readonly from?: number
  readonly to?: number
}
interface Made {
  readonly subject: string
  readonly keys: webcrypto.CryptoKeyPair
  readonly pem: string
}
const root: Made = await make('CN=root', { ca: true })
const machine: Made = await make('CN=machine,O=octo', { by: root })

async function shown(of: Made) {
  const said = { aud: 'https://test', ca: SERVER, join: 'ci', nonce: 'n', key: createHash('sha256').update(context.spki).digest('base64url') }
  const signed = await new CompactSign(Buffer.from(JSON.stringify(said)))
    .setProtectedHeader({ alg: 'ES256', typ: PROOF_TYPE })
    .sign(of.keys.privateKey)
  return { chain: of.pem, signed }
}
const prove = async (of: Made, spec = {}, as = of) =>
  x509.prove({ ...(await shown(as)), chain: of.pem }, x509.spec.parse({ authority: root.pem, ...spec }), context)

test('who holds the key of a certificate is who that says; a name that is empty is its number', async () => {
  const { subject, claims, once } = await prove(machine)
  assert.deepEqual([subject, claims.common_name, claims.serial, once?.key], ['CN=machine, O=octo', ['machine'], '0a', 'nonce n'])
  assert.equal((await prove(await make('', { by: root }))).subject, 'serial 0A')
})

test('rule 8: that a certificate is over is told to who holds its key, and to nobody else', async () => {
  const old = await make('CN=old', { by: root, to: -HOUR })
  await assert.rejects(prove(old), (error) => error instanceof JoinRefused && /holds from/.test(error.message))
  await assert.rejects(prove(old, {}, machine), refused(/signature does not hold/))
  const early = await make('CN=early', { by: root, from: HOUR, to: 2 * HOUR })
  await assert.rejects(prove(early), (error) => error instanceof JoinRefused && error.message.endsWith(UNKNOWN))
  // Over, and of another authority: nothing is told of either.
  const stranger = await make('CN=other', { ca: true })
  for (const one of [await make('CN=old', { by: stranger, to: -HOUR }), await make('CN=new', { by: stranger })])
    await assert.rejects(prove(one), refused(/no authority of the document/))
})

test('rule 1: what was revoked, or cannot be looked up, does not come in', async () => {
  const list = (has: boolean, isSignedBy: boolean) => ({
    issuer: '',
    thisUpdate: NOW,
    nextUpdate: NOW + HOUR,
    has: () => has,
    isSignedBy: () => isSignedBy,
  })
  const name = new lib.Name('CN=root').toArrayBuffer()
  const ask = async (...lists: ReturnType<typeof list>[]) =>
    x509.prove(await shown(machine), x509.spec.parse({ authority: root.pem, crl: 'x' }), {
      ...context,
      lists: { of: async () => lists.map((one) => ({ ...one, issuer: Buffer.from(name).toString('hex') })) },
    })
  assert.equal((await ask(list(false, true))).certificates?.length, 1)
  await assert.rejects(ask(list(true, true)), refused(/was revoked/))
  await assert.rejects(ask(list(false, false)), { code: 'upstream_unavailable' })
  await assert.rejects(ask(), { code: 'upstream_unavailable' })
})

test('a document names authorities, one to twenty, and lists that can be read', () => {
  const faults = (spec: object) =>
    x509.faults!(x509Spec.parse({ authority: root.pem, ...spec })).map(({ path, message }) => `${path.join('.')}: ${message}`)
  assert.deepEqual(faults({}), [])
  assert.deepEqual(faults({ crl: [{ file: '/a' }, { url: 'https://x.example' }] }), [])
  assert.deepEqual(faults({ authority: root.pem.repeat(20) }), [])
  for (const authority of ['', 'nonsense', root.pem.repeat(21)]) assert.match(faults({ authority })[0]!, /^authority: Between one and 20/)
  assert.match(faults({ authority: root.pem + machine.pem })[0]!, /^authority: .*not of an authority/)
  assert.match(faults({ authority: root.pem.replace(/[A-Za-z]{20}/, 'AAAA') })[0]!, /^authority: This is not a certificate/)
  assert.match(faults({ crl: 'nonsense' })[0]!, /^crl: A revocation list here cannot be used/)
  const key = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }) as string
  assert.match(faults({ authority: key })[0]!, /^authority: Between one/)
})

test('rule 11: what is shown is bounded', () => {
  const fits = (chain: string) => x509.proof.safeParse({ chain, signed: 'x' }).success
  assert.deepEqual(
    [0, 1, 32 * 1024, 32 * 1024 + 1].map((length) => fits('x'.repeat(length))),
    [false, true, true, false],
  )
})
