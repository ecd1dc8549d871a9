import assert from 'node:assert/strict'
import { webcrypto, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import 'reflect-metadata' // first: @peculiar/x509 does not load without it
import * as lib from '@peculiar/x509'
import { namesOf, PathFault, validatePath } from './certificate-path.ts'
import { NOW } from './joining.fixture.ts'

lib.cryptoProvider.set(webcrypto as never)
const ec = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const DAY = 86_400_000

interface Made {
  readonly cert: X509Certificate
  readonly name: string
  readonly keys: webcrypto.CryptoKeyPair
}
interface Wish {
  readonly by?: Made
  readonly ca?: boolean
  readonly pathLength?: number
  readonly usage?: number
  readonly purposes?: string[]
  readonly dns?: string[]
  readonly from?: number
  readonly to?: number
  readonly hash?: string
  /** its own key; default: P-256 */
  readonly key?: Parameters<typeof webcrypto.subtle.generateKey>[0]
  /** how the one above signs it */
  readonly signing?: object
  readonly more?: lib.Extension[]
}
let serial = 0

async function make(
  name: string,
  { by, ca, pathLength, usage, purposes, dns, from = -DAY, to = DAY, hash = 'SHA-256', key = ec, signing = { ...ec, hash }, more = [] }: Wish = {},
): Promise<Made> {
  const keys = (await webcrypto.subtle.generateKey(key as typeof ec, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair
  const made = await lib.X509CertificateGenerator.create({
    serialNumber: String(++serial).padStart(4, '0'),
    subject: `CN=${name}`,
    issuer: `CN=${by?.name ?? name}`,
    notBefore: new Date(NOW + from),
    notAfter: new Date(NOW + to),
    publicKey: keys.publicKey as never,
    signingKey: (by?.keys ?? keys).privateKey as never,
    signingAlgorithm: signing as typeof ec,
    extensions: [
      ...(ca === undefined ? [] : [new lib.BasicConstraintsExtension(ca, pathLength, true)]),
      ...(usage === undefined ? [] : [new lib.KeyUsagesExtension(usage, true)]),
      ...(purposes ? [new lib.ExtendedKeyUsageExtension(purposes)] : []),
      ...(dns ? [new lib.SubjectAlternativeNameExtension(dns.map((value) => ({ type: 'dns', value })))] : []),
      ...more,
    ],
  })
  return { cert: new X509Certificate(Buffer.from(made.rawData)), name, keys }
}
const { keyCertSign, digitalSignature, cRLSign } = lib.KeyUsageFlags
const CLIENT = '1.3.6.1.5.5.7.3.2'
const SERVER = '1.3.6.1.5.5.7.3.1'
const root = await make('root', { ca: true, usage: keyCertSign })
const between = await make('between', { by: root, ca: true, pathLength: 0, usage: keyCertSign })
const leaf = await make('leaf', { by: between, ca: false, usage: digitalSignature, purposes: [CLIENT], dns: ['a.example.com'] })
const path = (...chain: Made[]) =>
  validatePath(
    chain.map(({ cert }) => cert),
    [root.cert],
    NOW,
  )
const refused = (told: RegExp) => (error: unknown) => error instanceof PathFault && told.test(error.message)

test('a leaf is believed by way of what stands between it and the authority, in any of its shapes', async () => {
  assert.deepEqual(path(leaf, between), [leaf.cert, between.cert, root.cert])
  assert.deepEqual(path(leaf, between, root), [leaf.cert, between.cert, root.cert])
  const direct = await make('direct', { by: root, ca: false })
  assert.deepEqual(path(direct), [direct.cert, root.cert])
})

test('rule 1: a leaf does not sign another: what is no authority has no certificates', async () => {
  const under = await make('under', { by: leaf, dns: ['admin.example.com'] })
  assert.throws(() => path(under, leaf, between), refused(/no authority/))
  const plain = await make('plain', { by: root })
  const child = await make('child', { by: plain, ca: false })
  assert.throws(() => path(child, plain), refused(/no authority/))
})

test('rule 1: an authority that may sign no further authorities does not', async () => {
  const deeper = await make('deeper', { by: between, ca: true, usage: keyCertSign })
  const end = await make('end', { by: deeper, ca: false })
  assert.throws(() => path(end, deeper, between), refused(/no authority/))
})

test('rule 1: an authority whose key is for something else signs nothing', async () => {
  const wrong = await make('wrong', { by: root, ca: true, usage: cRLSign })
  assert.throws(() => path({ ...leaf, cert: leaf.cert }, wrong), refused(/no authority/))
  const end = await make('end', { by: wrong, ca: false })
  assert.throws(() => path(end, wrong), refused(/no authority/))
  const servers = await make('servers', { by: root, ca: true, usage: keyCertSign, purposes: [SERVER] })
  assert.throws(() => path(servers, root), refused(/authority itself/))
  const other = await make('other', { by: servers, ca: false })
  assert.throws(() => path(other, servers), refused(/no authority/))
})

test('rule 1: an authority of the same name and another key vouches for nothing', async () => {
  const twin = await make('root', { ca: true, usage: keyCertSign })
  const end = await make('end', { by: twin, ca: false })
  assert.throws(() => path(end), refused(/no authority/))
  assert.throws(() => path(end, twin), refused(/no authority/))
})

test('rule 4: what is over, or has not begun, is not believed, on whichever step', async () => {
  assert.throws(() => validatePath([leaf.cert, between.cert], [root.cert], NOW + 2 * DAY), refused(/holds from/))
  assert.throws(() => validatePath([leaf.cert, between.cert], [root.cert], NOW - 2 * DAY), refused(/holds from/))
  const old = await make('old', { by: root, ca: true, usage: keyCertSign, to: -1000 })
  const end = await make('end', { by: old, ca: false })
  assert.throws(() => path(end, old), refused(/no authority/))
})

test('rule 1: a certificate for servers, or one not for signing, does not join', async () => {
  assert.throws(() => path(serverLeaf), refused(/client authentication/))
  assert.throws(() => path(noSigning), refused(/not for signing/))
  assert.throws(() => path(between), refused(/authority itself/))
})
const serverLeaf = await make('web', { by: root, ca: false, purposes: [SERVER] })
const noSigning = await make('enc', { by: root, ca: false, usage: lib.KeyUsageFlags.keyEncipherment })

test('a certificate for any purpose joins, and authorities for clients, or for any purpose, may vouch', async () => {
  const ANY = '2.5.29.37.0'
  const any = await make('any', { by: root, ca: false, purposes: [ANY] })
  assert.deepEqual(path(any), [any.cert, root.cert])
  for (const purpose of [CLIENT, ANY]) {
    const signer = await make(`signer ${purpose}`, { by: root, ca: true, usage: keyCertSign, purposes: [SERVER, purpose] })
    const end = await make('end', { by: signer, ca: false })
    assert.deepEqual(path(end, signer), [end.cert, signer.cert, root.cert])
  }
})

test('rule 1: a certificate that names two algorithms, one of them in what is signed, is not believed', async () => {
  const one = await make('two names', { by: root, ca: false })
  const der = Buffer.from(one.cert.raw)
  // ecdsa-with-SHA256; the last one stands outside of what is signed, and SHA384 is believed as well.
  const at = der.lastIndexOf(Buffer.from('06082a8648ce3d040302', 'hex'))
  der[at + 9] = 3
  assert.throws(() => path({ ...one, cert: new X509Certificate(der) }), refused(/no authority/))
})

test('rule 1: what is critical and not read here is refused, and so are name constraints even where they are not critical', async () => {
  const strange = await make('strange', { by: root, ca: false, more: [new lib.Extension('1.2.3.4.5', true, new Uint8Array([5, 0]))] })
  assert.throws(() => path(strange), refused(/critical extension/))
  const constrained = await make('constrained', {
    by: root,
    ca: true,
    usage: keyCertSign,
    more: [new lib.Extension('2.5.29.30', false, new Uint8Array([0x30, 0]))],
  })
  const end = await make('end', { by: constrained, ca: false })
  assert.throws(() => path(end, constrained), refused(/name constraints/))
})

test('rule 1: SHA-1 makes two certificates with one signature, and is not believed', async () => {
  const weak = await make('weak', { by: root, ca: false, hash: 'SHA-1' })
  assert.throws(() => path(weak), refused(/not believed/))
})

const rsa = (name: string, hash: string, modulusLength = 2048) => ({
  ...{ name, hash, modulusLength, publicExponent: new Uint8Array([1, 0, 1]) },
  ...(name === 'RSA-PSS' ? { saltLength: hash === 'SHA-1' ? 20 : 32 } : {}),
})
const rsaRoots = (await Promise.all(
  ['RSASSA-PKCS1-v1_5', 'RSA-PSS'].map(async (name) => {
    const kind = rsa(name, 'SHA-256')
    return [name, await make(`root ${name}`, { ca: true, usage: keyCertSign, key: kind, signing: kind })] as const
  }),
)) as (readonly [string, Made])[]
/** A key of one kind may sign with another hash: what is written down is what counts. */
async function signedBy([name, by]: readonly [string, Made], hash: string): Promise<X509Certificate[]> {
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', by.keys.privateKey)
  const privateKey = await webcrypto.subtle.importKey('pkcs8', pkcs8, { name, hash }, true, ['sign'])
  const made = await make(`leaf ${hash}`, { by: { ...by, keys: { ...by.keys, privateKey } }, ca: false, signing: rsa(name, hash) })
  return [made.cert]
}

test('rule 1: RSA by either padding is believed with SHA-256, and not with SHA-1 in the parameters or in the name', async () => {
  for (const one of rsaRoots) {
    const [, { cert }] = one
    const good = await signedBy(one, 'SHA-256')
    assert.deepEqual(validatePath(good, [cert], NOW), [...good, cert])
    const weak = await signedBy(one, 'SHA-1')
    assert.equal(weak[0]!.verify(cert.publicKey), true, 'OpenSSL has nothing against it')
    assert.throws(() => validatePath(weak, [cert], NOW), refused(/not believed/), one[0])
  }
})

test('rule 1: a key of RSA with 1024 bits vouches for nobody, and joins nowhere', async () => {
  const kind = rsa('RSASSA-PKCS1-v1_5', 'SHA-256', 1024)
  const short = await make('short', { ca: true, usage: keyCertSign, key: kind, signing: kind })
  const end = await make('end', { by: short, ca: false, signing: kind })
  assert.throws(() => validatePath([end.cert], [short.cert], NOW), refused(/too weak/))
  const weakLeaf = await make('weak leaf', { by: root, ca: false, key: kind })
  assert.throws(() => path(weakLeaf), refused(/too weak/))
})

test('rule 1: an extension that stands there twice is refused: one would be judged, the other believed', async () => {
  const name = (value: string) => new lib.SubjectAlternativeNameExtension([{ type: 'dns', value }])
  const twice = await make('twice', { by: root, ca: false, more: [name('a.example.com'), name('admin.example.com')] })
  assert.throws(() => path(twice), refused(/twice/))
})

test('rule 11: a chain without end is not walked', () => {
  assert.throws(() => path(leaf, ...Array.from({ length: 20 }, () => between)), refused(/one to 5/))
  assert.throws(() => path(), refused(/one to 5/))
})

test('names are those of the DER, several where there are several', async () => {
  const two = await make('reporter', { by: root, ca: false, dns: ['a.example.com', 'b.example.com, DNS:admin.example.com'] }).catch(() => undefined)
  assert.deepEqual(namesOf(leaf.cert).dns, ['a.example.com'])
  assert.deepEqual(namesOf(leaf.cert).common_name, ['leaf'])
  if (two) assert.ok(!namesOf(two.cert).dns.includes('admin.example.com'))
})
