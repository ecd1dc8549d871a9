import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { connect, createServer } from 'node:tls'
import 'reflect-metadata' // first: @peculiar/x509 does not load without it
import * as peculiar from '@peculiar/x509'
import { type Clock, manualClock } from '../clock.ts'
import { newId } from '../ids.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import type { Keyring } from '../keys/types.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { openAuthority } from './authority.ts'
import { authorityName, keyIdentifierOf, signAuthority } from './certificate.ts'
import { CLAIMS_OID } from './extension.ts'
import { certificateBlocks, pemOf, readBundle } from './pem.ts'
import { type CertificateAuthority, type CredentialClaims, TTL } from './types.ts'

const HOUR = 3_600_000
const folder = mkdtempSync(join(tmpdir(), 'chaperone-ca-'))

function keyPair() {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return {
    privateKey,
    publicKey,
    spki: publicKey.export({ type: 'spki', format: 'der' }),
    pem: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  }
}

function claims(): CredentialClaims {
  const identity = newId('agt')
  return {
    v: 1,
    identity,
    credential: newId('crd'),
    session: newId('ses'),
    chain: [{ identity: newId('usr') }, { identity, delegation: newId('dlg') }],
  }
}

function file(name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

function openssl(...args: string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

async function place(clock: Clock): Promise<{ store: Store; keyring: Keyring }> {
  const dataDir = mkdtempSync(join(folder, 'store-'))
  const store = await openStore({ dataDir }, { clock })
  return { store, keyring: await openKeyring(store, await loadRootKey({ store, createAt: `${dataDir}.key` }), clock) }
}

const hasOpenssl = spawnSync('openssl', ['version']).status === 0

describe('the certificate authority', () => {
  // OpenSSL judges by the real time, so the test's clock begins there.
  const clock = manualClock(Date.now())
  let store: Store
  let keyring: Keyring
  let ca: CertificateAuthority

  before(async () => {
    ;({ store, keyring } = await place(clock))
    ca = await openAuthority(store, keyring, { clock, trustDomain: 'example.org' })
  })
  after(async () => {
    await ca.close()
    await store.close()
  })

  const identityLeaf = (ttlMs: number = TTL.agentMs, name = 'boris/claude-code') =>
    ca.issueIdentity({ spki: keyPair().spki, kind: 'agent', name, claims: claims(), notAfter: clock.now() + ttlMs })

  test('an identity certificate says what it must, read by Node', async () => {
    const said = claims()
    const key = keyPair()
    const issued = await ca.issueIdentity({
      spki: key.spki,
      kind: 'agent',
      name: 'boris/claude-code',
      claims: said,
      notAfter: clock.now() + TTL.agentMs,
    })
    const leaf = new X509Certificate(issued.certificate)
    assert.equal(leaf.subject, 'CN=boris/claude-code')
    assert.equal(leaf.subjectAltName, 'URI:spiffe://example.org/agent/boris/claude-code')
    assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.2'])
    assert.equal(leaf.ca, false)
    assert.ok(leaf.publicKey.equals(key.publicKey))
    assert.equal(Date.parse(leaf.validTo), issued.notAfter)
    assert.equal(leaf.serialNumber.toLowerCase(), issued.serial)
    assert.match(issued.serial, /^[4-7][0-9a-f]{31}$/)
    const [root] = readBundle(await ca.bundle('identity'))
    assert.ok(root && leaf.checkIssued(root) && leaf.verify(root.publicKey))
    assert.equal(
      createHash('sha256')
        .update(root.publicKey.export({ type: 'spki', format: 'der' }))
        .digest('hex'),
      await ca.fingerprint('identity'),
    )
  })

  test('@peculiar/x509 reads the same certificate the same way', async () => {
    const issued = await identityLeaf()
    const leaf = new peculiar.X509Certificate(issued.certificate)
    const root = new peculiar.X509Certificate(await ca.bundle('identity'))
    assert.ok(await leaf.verify({ publicKey: root.publicKey, date: new Date(clock.now()) }))
    assert.ok(await root.isSelfSigned())
    const constraints = root.getExtension(peculiar.BasicConstraintsExtension)
    assert.deepEqual([constraints?.ca, constraints?.pathLength, constraints?.critical], [true, 0, true])
    assert.equal(root.getExtension(peculiar.KeyUsagesExtension)?.usages, peculiar.KeyUsageFlags.keyCertSign | peculiar.KeyUsageFlags.cRLSign)
    assert.equal(leaf.getExtension(peculiar.KeyUsagesExtension)?.usages, peculiar.KeyUsageFlags.digitalSignature)
    assert.equal(leaf.getExtension(peculiar.SubjectAlternativeNameExtension)?.critical, true)
    assert.equal(leaf.getExtension(peculiar.AuthorityKeyIdentifierExtension)?.keyId, root.getExtension(peculiar.SubjectKeyIdentifierExtension)?.keyId)
    assert.equal(leaf.extensions.filter((extension) => extension.critical).length, 3, 'our extension is not critical')
  })

  test('OpenSSL accepts every kind of certificate for its purpose and for no other', {
    skip: !hasOpenssl && 'openssl is not installed (Debian package openssl)',
  }, async () => {
    const resourceId = newId('res')
    const notAfter = clock.now() + TTL.agentMs
    const kinds = [
      ['identity', 'sslclient', await ca.bundle('identity'), await identityLeaf()],
      ['identity-long', 'sslclient', await ca.bundle('identity'), await identityLeaf(TTL.agentMs, `${'b'.repeat(63)}/${'c'.repeat(63)}`)],
      [
        'server',
        'sslserver',
        await ca.bundle('server'),
        await ca.issueServer({ spki: keyPair().spki, names: ['localhost', '127.0.0.1', '::1'], notAfter }),
      ],
      [
        'database',
        'sslclient',
        await ca.bundle(`database:${resourceId}`),
        await ca.issueDatabase({ spki: keyPair().spki, resourceId, user: 'analyst_ro', notAfter }),
      ],
      [
        'database-server',
        'sslserver',
        await ca.bundle(`database:${resourceId}`),
        await ca.issueDatabaseServer({ spki: keyPair().spki, resourceId, names: ['db.example.org'], notAfter: clock.now() + 90 * 24 * HOUR }),
      ],
    ] as const
    for (const [name, purpose, bundle, issued] of kinds) {
      const roots = file(`${name}-root.pem`, bundle)
      const leaf = file(`${name}.pem`, issued.certificate)
      openssl('verify', '-x509_strict', '-purpose', purpose, '-CAfile', roots, leaf)
      const other = purpose === 'sslclient' ? 'sslserver' : 'sslclient'
      assert.throws(() => openssl('verify', '-x509_strict', '-purpose', other, '-CAfile', roots, leaf), `${name} must not serve as ${other}`)
    }
    const text = openssl('x509', '-noout', '-text', '-in', join(folder, 'identity.pem'))
    for (const line of [
      `${CLAIMS_OID}: \n`,
      'X509v3 Subject Alternative Name: critical\n                URI:spiffe://example.org/agent/boris/claude-code',
      'X509v3 Key Usage: critical\n                Digital Signature\n',
      'X509v3 Extended Key Usage: \n                TLS Web Client Authentication\n',
      'X509v3 Basic Constraints: critical\n                CA:FALSE',
    ]) {
      assert.ok(text.includes(line), `${line}\nis missing in\n${text}`)
    }
    assert.match(openssl('x509', '-noout', '-subject', '-in', join(folder, 'database.pem')), /CN ?= ?analyst_ro/)
    assert.match(
      openssl('x509', '-noout', '-ext', 'subjectAltName', '-in', join(folder, 'server.pem')),
      /DNS:localhost, IP Address:127\.0\.0\.1, IP Address:0:0:0:0:0:0:0:1/,
    )
  })

  test('authorities are separate: a certificate of one is nothing at another', async () => {
    const leaf = new X509Certificate((await identityLeaf()).certificate)
    for (const purpose of ['server', `database:${newId('res')}`] as const) {
      const [root] = readBundle(await ca.bundle(purpose))
      assert.ok(root)
      assert.equal(leaf.verify(root.publicKey) || leaf.checkIssued(root), false)
    }
  })

  test('rule 4: a certificate never lives longer than was asked, to the second', async () => {
    for (const ttl of [30_000, 30_001, 30_999, 179_500]) {
      const notAfter = clock.now() + ttl
      const issued = await identityLeaf(ttl)
      assert.ok(issued.notAfter <= notAfter && issued.notAfter > notAfter - 1000)
      assert.equal(Date.parse(new X509Certificate(issued.certificate).validTo), issued.notAfter)
      assert.ok(issued.notBefore >= clock.now() - 61_000)
    }
  })

  test('a life that is over or too long is refused', async () => {
    await assert.rejects(identityLeaf(0), { code: 'issue_refused' })
    await assert.rejects(identityLeaf(Number.NaN), { code: 'issue_refused' })
    await assert.rejects(identityLeaf(TTL.longestMs + 60_000), { code: 'issue_refused' })
  })

  test('names that cannot stand in a certificate are refused, and the thread goes on', async () => {
    const notAfter = clock.now() + TTL.agentMs
    for (const name of ['', 'Boris', 'a/../b', 'a//b', 'a b', 'a%2fb', '../a', 'a'.repeat(200)]) {
      await assert.rejects(
        ca.issueIdentity({ spki: keyPair().spki, kind: 'user', name, claims: claims(), notAfter }),
        { code: 'issue_refused' },
        name,
      )
    }
    for (const name of ['', '*.example.org', 'a..b', 'a_b', 'exa mple', '1.2.3.4/24']) {
      await assert.rejects(ca.issueServer({ spki: keyPair().spki, names: [name], notAfter }), { code: 'issue_refused' }, name)
    }
    for (const user of ['', 'a\0b', 'a\nb', 'x'.repeat(64)]) {
      await assert.rejects(ca.issueDatabase({ spki: keyPair().spki, resourceId: newId('res'), user, notAfter }), { code: 'issue_refused' }, user)
    }
    await assert.rejects(ca.issueServer({ spki: new Uint8Array([1, 2, 3]), names: ['localhost'], notAfter }), { code: 'issue_refused' })
    await assert.rejects(ca.issueIdentity({ spki: keyPair().spki, kind: 'agent', name: 'a', claims: { ...claims(), v: 2 as 1 }, notAfter }), {
      code: 'issue_refused',
    })
    assert.ok(await identityLeaf())
  })

  test('a trust domain that cannot be one is refused at the start', async () => {
    for (const trustDomain of ['', 'Example.org', 'a b', 'a/b', 'x'.repeat(65)]) {
      await assert.rejects(openAuthority(store, keyring, { clock, trustDomain }), { code: 'usage' })
    }
  })
})

describe('rotation', () => {
  const clock = manualClock(Date.now())
  let store: Store
  let keyring: Keyring
  let ca: CertificateAuthority
  let other: CertificateAuthority

  before(async () => {
    ;({ store, keyring } = await place(clock))
    ca = await openAuthority(store, keyring, { clock, trustDomain: 'example.org' })
    other = await openAuthority(store, keyring, { clock, trustDomain: 'example.org' })
  })
  after(async () => {
    await ca.close()
    await other.close()
    await store.close()
  })

  /** The authorities look at the table again only after the look before has ended, so one step may come too early. */
  async function advanceUntil(event: Promise<void>, ms: number): Promise<void> {
    let over = false
    event.then(() => {
      over = true
    })
    while (!over) {
      clock.advance(ms)
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  test('two nodes that need an authority at the same moment make one', async () => {
    const [one, two] = await Promise.all([ca.bundle('identity'), other.bundle('identity')])
    assert.equal(one, two)
    assert.equal(certificateBlocks(one).length, 1)
    assert.equal(await ca.bundle('identity'), one)
  })

  test('nothing live breaks: who knows only the old server authority still reaches the new certificate, over its link', async () => {
    const oldBundle = await ca.bundle('server')
    await ca.rotate('server')
    const key = keyPair()
    const issued = await ca.issueServer({ spki: key.spki, names: ['localhost'], notAfter: Date.now() + HOUR })
    assert.equal(certificateBlocks(issued.certificate).length, 2)
    assert.equal(new X509Certificate(issued.certificate).subject, 'CN=localhost')
    const server = createServer({ cert: issued.certificate, key: key.pem }, (socket) => socket.end())
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const newBundle = await ca.bundle('server')
    for (const roots of [oldBundle, newBundle, certificateBlocks(newBundle)[0]!]) {
      const socket = connect({ host: '127.0.0.1', port, ca: roots, servername: 'localhost' })
      await once(socket, 'secureConnect')
      assert.equal(socket.authorized, true)
      socket.destroy()
    }
    server.close()
    if (hasOpenssl) {
      const link = file('link.pem', certificateBlocks(issued.certificate)[1]!)
      openssl(
        'verify',
        '-x509_strict',
        '-purpose',
        'sslserver',
        '-CAfile',
        file('old.pem', oldBundle),
        '-untrusted',
        link,
        file('new-leaf.pem', issued.certificate),
      )
    }
  })

  test('leaves come from the new authority, the old one is believed until the longest leaf under it is over', async () => {
    const leafOf = async (authority: CertificateAuthority) =>
      new X509Certificate(
        (await authority.issueIdentity({ spki: keyPair().spki, kind: 'user', name: 'dana', claims: claims(), notAfter: clock.now() + TTL.agentMs }))
          .certificate,
      )
    const seen: string[] = []
    ca.onChange((purpose) => seen.push(`ca ${purpose}`))
    const elsewhere = new Promise<void>((resolve) => {
      other.onChange((purpose) => {
        seen.push(`other ${purpose}`)
        resolve()
      })
    })
    const before = await leafOf(ca)
    const [old] = readBundle(await ca.bundle('identity'))
    clock.advance(1000)
    const { fingerprint, believedUntil } = await ca.rotate('identity')
    assert.equal(believedUntil, clock.now() + TTL.longestMs)
    assert.equal(await ca.fingerprint('identity'), fingerprint)
    const [first, second] = readBundle(await ca.bundle('identity'))
    assert.equal(second?.fingerprint256, old?.fingerprint256)
    assert.ok(before.verify(second!.publicKey))
    const after = await leafOf(ca)
    assert.ok(after.verify(first!.publicKey) && !after.verify(second!.publicKey))

    await advanceUntil(elsewhere, 2000)
    assert.deepEqual(seen, ['ca identity', 'other identity'])
    assert.equal(await other.bundle('identity'), await ca.bundle('identity'))

    const gone = new Promise<void>((resolve) => {
      ca.onChange(() => resolve())
    })
    await advanceUntil(gone, TTL.longestMs)
    assert.equal(certificateBlocks(await ca.bundle('identity')).length, 1)
  })

  test('a crash between the new key and its authority is mended by the next one who needs it', async () => {
    const before = await openAuthority(store, keyring, { clock, trustDomain: 'example.org' })
    const purpose = `database:${newId('res')}` as const
    const old = await before.fingerprint(purpose)
    await before.close()
    await keyring.rotate(`authority:${purpose}`, HOUR)
    const after = await openAuthority(store, keyring, { clock, trustDomain: 'example.org' })
    assert.notEqual(await after.fingerprint(purpose), old)
    assert.equal(certificateBlocks(await after.bundle(purpose)).length, 2)
    await after.close()
  })

  test('an authority that somebody wrote into the store is not believed', async () => {
    const purpose = `database:${newId('res')}` as const
    await ca.bundle(purpose)
    const { privateKey, publicKey, spki } = keyPair()
    const planted = signAuthority({ name: authorityName('example.org', purpose), keyIdentifier: keyIdentifierOf(spki), privateKey }, spki, {
      notBefore: clock.now() - 1000,
      notAfter: clock.now() + HOUR,
    })
    const row = await store.db.selectFrom('authorities').selectAll().where('purpose', '=', purpose).executeTakeFirstOrThrow()
    await store.write((trx) =>
      trx
        .insertInto('authorities')
        .values({ ...row, id: newId('aut'), state: 'retiring', certificate: pemOf('CERTIFICATE', planted.der), spki_sha256: 'x' })
        .execute(),
    )
    const reader = await openAuthority(store, keyring, { clock, trustDomain: 'example.org' })
    const roots = readBundle(await reader.bundle(purpose))
    assert.equal(roots.length, 1)
    assert.ok(!roots[0]?.publicKey.equals(publicKey))
    await reader.close()
  })
})
