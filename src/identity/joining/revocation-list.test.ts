import assert from 'node:assert/strict'
import { webcrypto, X509Certificate } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import 'reflect-metadata' // first: @peculiar/x509 does not load without it
import * as lib from '@peculiar/x509'
import { ChaperoneError } from '../../errors.ts'
import { NOW } from './joining.fixture.ts'
import { askLists, LARGEST_LIST, readRevocationList, revokedSince, vouchedBy } from './revocation-list.ts'
import { openRevocationLists } from './revocation-lists.ts'

lib.cryptoProvider.set(webcrypto as never)
const ec = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const HOUR = 3_600_000
const { keyCertSign, cRLSign } = lib.KeyUsageFlags
const serials = { root: '01', between: '02', leaf: '00c3' }

async function make(name: string, serialNumber: string, by?: Made, usage = keyCertSign | cRLSign) {
  const keys = (await webcrypto.subtle.generateKey(ec, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair
  const made = await lib.X509CertificateGenerator.create({
    ...{ serialNumber, subject: `CN=${name}`, issuer: `CN=${by?.name ?? name}` },
    ...{ notBefore: new Date(NOW - HOUR), notAfter: new Date(NOW + HOUR), publicKey: keys.publicKey as never },
    ...{ signingKey: (by?.keys ?? keys).privateKey as never, signingAlgorithm: ec },
    extensions: [new lib.KeyUsagesExtension(usage, true)],
  })
  return { name, keys, cert: new X509Certificate(Buffer.from(made.rawData)) }
}
type Made = { readonly name: string; readonly keys: webcrypto.CryptoKeyPair; readonly cert: X509Certificate }

const root: Made = await make('root', serials.root)
const between: Made = await make('between', serials.between, root)
const leaf: Made = await make('leaf', serials.leaf, between)
const way = [leaf.cert, between.cert, root.cert]

interface Wish {
  readonly by?: Made
  readonly name?: string
  readonly from?: number
  readonly until?: number | undefined
  readonly hash?: string
  readonly more?: lib.Extension[]
  readonly entry?: object
}
async function list(revoked: readonly string[], wish: Wish = {}) {
  const { by = between, name = by.name, from = -HOUR, hash = 'SHA-256', more = [], entry = {} } = wish
  const until = 'until' in wish ? wish.until : HOUR
  const made = await lib.X509CrlGenerator.create({
    ...{ issuer: `CN=${name}`, thisUpdate: new Date(NOW + from), signingAlgorithm: { ...ec, hash }, signingKey: by.keys.privateKey as never },
    ...(until === undefined ? {} : { nextUpdate: new Date(NOW + until) }),
    entries: revoked.map((serialNumber) => ({ serialNumber, revocationDate: new Date(NOW - HOUR), ...entry })),
    extensions: more,
  })
  return {
    der: new Uint8Array(made.rawData),
    pem: made.toString('pem').replaceAll(/(?<=BEGIN|END) CRL/g, ' X509 CRL'),
    read: () => readRevocationList(new Uint8Array(made.rawData)),
  }
}
const ask = (lists: Awaited<ReturnType<typeof list>>[], overdue: 'refuse' | 'believe' = 'refuse', now = NOW) =>
  askLists(
    way,
    lists.map(({ read }) => read()),
    { now, overdue },
  )
const ofRoot = await list([], { by: root })
const clean = await list([])

test('rule 1: what an authority has revoked is revoked, on whichever step', async () => {
  assert.equal(ask([clean, ofRoot]), 'good')
  assert.equal(ask([await list([serials.leaf, '05']), ofRoot]), 'revoked')
  assert.equal(ask([clean, await list([serials.between], { by: root })]), 'revoked')
  assert.equal(ask([await list(['05']), ofRoot]), 'good')
})

test('rule 1: a list that is missing, overdue, from tomorrow or without an end says nothing; and overdue counts only where that is written', async () => {
  assert.equal(ask([clean]), 'unknown')
  assert.equal(ask([ofRoot]), 'unknown')
  const old = await list([], { until: -1000 })
  assert.equal(ask([old, ofRoot]), 'unknown')
  assert.equal(ask([old, ofRoot], 'believe'), 'good')
  assert.equal(ask([await list([], { from: HOUR, until: 2 * HOUR }), ofRoot], 'believe'), 'unknown')
  assert.equal(ask([await list([], { until: undefined }), ofRoot]), 'unknown')
  // A number is not given out again: what an old list says stays true.
  assert.equal(ask([await list([serials.leaf], { until: -1000 }), clean, ofRoot]), 'revoked')
})

test('rule 1: a list counts only with the signature of the very authority, by a hash that is believed, with a key that may sign lists', async () => {
  const twin = await make('between', '09', root)
  assert.equal(ask([await list([], { by: twin }), ofRoot]), 'unknown')
  assert.equal(ask([await list([], { by: between, name: 'other' }), ofRoot]), 'unknown')
  assert.equal(ask([await list([], { hash: 'SHA-1' }), ofRoot]), 'unknown')
  const changed = { ...clean, read: () => readRevocationList(clean.der.with(-1, clean.der.at(-1)! ^ 1)) }
  assert.equal(ask([changed, ofRoot]), 'unknown')
  const other = await make('between', serials.between, root, keyCertSign)
  const under = await make('leaf', serials.leaf, other)
  const lists = [await list([], { by: other }), ofRoot].map(({ read }) => read())
  assert.equal(askLists([under.cert, other.cert, root.cert], lists, { now: NOW, overdue: 'refuse' }), 'unknown')
})

test('rule 1: lists that are about a part of the certificates, or of others, are refused as a whole', async () => {
  for (const oid of ['2.5.29.28', '2.5.29.27', '1.2.3.4'])
    await assert.rejects(
      list([], { more: [new lib.Extension(oid, true, new Uint8Array([0x30, 0]))] }).then(({ read }) => read()),
      /not read \(/,
      oid,
    )
  // RFC 5280 section 5.3.3: from this entry on it speaks of another authority's certificates.
  const indirect = new lib.Extension('2.5.29.29', true, new Uint8Array([0x30, 0]))
  await assert.rejects(
    list(['05'], { entry: { extensions: [indirect] } }).then(({ read }) => read()),
    /not read \(2\.5\.29\.29/,
  )
  const numbered = await list([], { more: [new lib.Extension('2.5.29.20', true, new Uint8Array([2, 1, 7]))] })
  assert.equal(ask([numbered, ofRoot]), 'good', 'which number a list has takes nothing from it')
  assert.throws(() => readRevocationList(Buffer.from('no list')), /DER or PEM/)
  assert.throws(() => readRevocationList(Buffer.from([0x30, 3, 1, 2, 3])))
  assert.throws(() => readRevocationList(new Uint8Array(LARGEST_LIST + 1)), /at most/)
})

test('a session that rests on certificates is found by their numbers and the keys above them', async () => {
  const vouched = vouchedBy(way)
  assert.equal(vouched.length, 2)
  assert.equal(revokedSince(vouched, [(await list([serials.leaf])).read()]), true)
  assert.equal(revokedSince(vouched, [clean.read(), ofRoot.read()]), false)
  // The same number under another authority is another certificate.
  assert.equal(revokedSince(vouched, [(await list([serials.leaf], { by: root })).read()]), false)
})

test('a list is kept for five minutes and while nobody answers; an older one takes nothing back; none at all is said as such', async () => {
  let [now, asked] = [NOW, 0]
  let answer: () => Response = () => new Response(clean.der)
  const lists = openRevocationLists({
    clock: { now: () => now },
    open:
      ({ maxBytes }) =>
      async (url) => {
        assert.equal(url, 'https://crl.example/list.crl')
        assert.equal(maxBytes, LARGEST_LIST)
        asked++
        return answer()
      },
  })
  const place = { url: 'https://crl.example/list.crl' }
  await Promise.all([lists.of(place), lists.of([place])])
  await lists.of(place)
  assert.equal(asked, 1)
  const newer = await list([serials.leaf], { from: 0 })
  answer = () => new Response(newer.pem)
  now += 5 * 60_000
  assert.equal((await lists.of(place))[0]?.has(serials.leaf), true)
  answer = () => new Response(clean.der)
  now += 5 * 60_000
  assert.equal((await lists.of(place))[0]?.has(serials.leaf), true)
  answer = () => new Response('', { status: 503 })
  now += 5 * 60_000
  assert.equal((await lists.of(place))[0]?.has(serials.leaf), true)
  const elsewhere = { url: 'https://crl.example/list.crl', ca: 'other' }
  const before = asked
  for (let i = 0; i < 3; i++)
    await assert.rejects(lists.of(elsewhere), (error) => error instanceof ChaperoneError && error.code === 'upstream_unavailable')
  assert.equal(asked, before + 1)
})

test('rule 11: a long list is read by a thread of its own, and this one turns on meanwhile; what is wrong with it is said all the same', async () => {
  const long = await list(Array.from({ length: 500 }, (_, i) => `00${(0xc300 + i).toString(16)}`))
  let answer = long.der
  const lists = openRevocationLists({ clock: { now: () => NOW }, open: () => async () => new Response(answer) })
  let turns = 0
  let over = false
  const turn = () => {
    turns++
    if (!over) setImmediate(turn)
  }
  setImmediate(turn)
  const read = (await lists.of({ url: 'https://crl.example/long.crl' }))[0]!
  over = true
  // To read it here takes one turn, however long that is.
  assert.ok(turns > 10, `${turns} turns`)
  assert.ok(read.has('00c300') && read.has('00c4f3') && !read.has('00c4f4'))
  assert.equal(read.isSignedBy(between.cert.publicKey.export({ type: 'spki', format: 'der' })), true)
  assert.equal(read.isSignedBy(root.cert.publicKey.export({ type: 'spki', format: 'der' })), false)
  assert.deepEqual([read.issuer, read.thisUpdate, read.nextUpdate], [clean.read().issuer, NOW - HOUR, NOW + HOUR])
  answer = long.der.slice(0, -1)
  await assert.rejects(
    lists.of({ url: 'https://crl.example/cut.crl' }),
    (error) => error instanceof ChaperoneError && error.code === 'upstream_unavailable' && /End of input/.test(error.detail ?? ''),
  )
})

test('a list in a file is read again; what is no ordinary file, or is not there, is none', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-crl-'))
  t.after(() => rm(dir, { recursive: true }))
  let now = NOW
  const open = () => () => assert.fail('nothing is fetched')
  const lists = openRevocationLists({ clock: { now: () => now }, open })
  const file = join(dir, 'list.crl')
  await writeFile(file, clean.pem)
  assert.equal((await lists.of({ file }))[0]?.has(serials.leaf), false)
  await writeFile(file, (await list([serials.leaf], { from: 0 })).der)
  now += 30_000
  assert.equal((await lists.of({ file }))[0]?.has(serials.leaf), true)
  const none = (why: RegExp) => (error: unknown) =>
    error instanceof ChaperoneError && error.code === 'upstream_unavailable' && why.test(error.detail!)
  for (const odd of [dir, '/dev/zero', '/dev/null']) await assert.rejects(lists.of({ file: odd }), none(/no ordinary file/))
  await assert.rejects(lists.of({ file: join(dir, 'none') }), none(/ENOENT/))
  assert.equal((await lists.of(clean.pem))[0]?.has(serials.leaf), false, 'one that stands in the document')
  const faulty = openRevocationLists({ clock: { now: () => now }, open: () => async () => new Response(clean.der, { status: 404 }) })
  await assert.rejects(faulty.of({ url: 'https://crl.example/list.crl' }), none(/status 404/))
})
