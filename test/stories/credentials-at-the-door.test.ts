import assert from 'node:assert/strict'
import { createHmac, createPrivateKey, generateKeyPairSync, type KeyObject, sign, X509Certificate } from 'node:crypto'
import { connect } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { connect as secure, type TLSSocket } from 'node:tls'
import { ecdsaWithSHA256 } from '@peculiar/asn1-ecc'
import { AsnConvert, AsnProp, AsnPropTypes, AsnType, AsnTypeTypes, OctetString } from '@peculiar/asn1-schema'
import * as asn1 from '@peculiar/asn1-x509'
import { SignJWT } from 'jose'
import { CLAIMS_OID } from '../../src/ca/extension.ts'
import { canonicalJson } from '../../src/encoding/canonical-json.ts'
import { newId } from '../../src/ids.ts'
import { ask, type House, house, keyAndCsr, type Member } from '../parts/house.ts'

/**
 * Every wrong credential at every real door: the mTLS port, the web port and the PostgreSQL port of one running server.
 * The forger here knows everything but the private keys; where a test wants to show that a check stands by itself, he is
 * even given the key of the authority.
 */

const MINUTE = 60_000

class Text {
  text = ''
}
AsnProp({ type: AsnPropTypes.Utf8String })(Text.prototype, 'text')
AsnType({ type: AsnTypeTypes.Choice })(Text)

interface Forgery {
  readonly claims?: Readonly<Record<string, unknown>> | string
  readonly uri?: string
  readonly from?: number
  readonly until?: number
  readonly usage?: string
  readonly authority?: boolean
  readonly names?: readonly asn1.GeneralName[]
  readonly more?: readonly asn1.Extension[]
  readonly signer?: KeyObject
  readonly issuer?: asn1.Name
}

interface Shown {
  readonly key: string
  readonly cert: string
}

const undo: (() => Promise<void>)[] = []
after(async () => {
  for (const step of undo) await step()
})

let home: House
let agent: Member
let other: Member
let claims: Record<string, unknown>
let identityKey: KeyObject
let issuerName: asn1.Name

const now = () => Date.now()

/** Written here and not by src/ca: a forger is not held to what our issuer would write. */
async function forge(wish: Forgery = {}): Promise<Shown> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const claimsText = new Text()
  claimsText.text = typeof wish.claims === 'string' ? wish.claims : canonicalJson(wish.claims ?? claims)
  const uri = uriName(wish.uri ?? 'spiffe://chaperone.internal/agent/bot')
  const tbsCertificate = new asn1.TBSCertificate({
    version: asn1.Version.v3,
    serialNumber: Uint8Array.of(1, 2, 3, 4).buffer,
    signature: ecdsaWithSHA256,
    issuer: wish.issuer ?? issuerName,
    validity: new asn1.Validity({ notBefore: new Date(wish.from ?? now() - MINUTE), notAfter: new Date(wish.until ?? now() + 3 * MINUTE) }),
    subject: nameOf('bot'),
    subjectPublicKeyInfo: AsnConvert.parse(publicKey.export({ type: 'spki', format: 'der' }), asn1.SubjectPublicKeyInfo),
    extensions: new asn1.Extensions([
      extension(asn1.id_ce_basicConstraints, new asn1.BasicConstraints({ cA: wish.authority ?? false })),
      extension(asn1.id_ce_keyUsage, new asn1.KeyUsage(asn1.KeyUsageFlags.digitalSignature)),
      extension(asn1.id_ce_extKeyUsage, new asn1.ExtendedKeyUsage([wish.usage ?? asn1.id_kp_clientAuth])),
      extension(asn1.id_ce_subjectAltName, new asn1.SubjectAlternativeName([uri, ...(wish.names ?? [])])),
      extension(CLAIMS_OID, claimsText),
      ...(wish.more ?? []),
    ]),
  })
  const signature = sign('sha256', Buffer.from(AsnConvert.serialize(tbsCertificate)), wish.signer ?? identityKey)
  const whole = new asn1.Certificate({ tbsCertificate, signatureAlgorithm: ecdsaWithSHA256, signatureValue: new Uint8Array(signature).buffer })
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    cert: new X509Certificate(Buffer.from(AsnConvert.serialize(whole))).toString(),
  }
}

const extension = (extnID: string, value: unknown, critical = false) =>
  new asn1.Extension({ extnID, critical, extnValue: new OctetString(AsnConvert.serialize(value)) })

const uriName = (uniformResourceIdentifier: string) => new asn1.GeneralName({ uniformResourceIdentifier })

const nameOf = (commonName: string) =>
  new asn1.Name([
    new asn1.RelativeDistinguishedName([
      new asn1.AttributeTypeAndValue({ type: '2.5.4.3', value: new asn1.AttributeValue({ utf8String: commonName }) }),
    ]),
  ])

const subjectOf = (pem: string) => AsnConvert.parse(new X509Certificate(pem).raw, asn1.Certificate).tbsCertificate.subject

const genuine = (member: Member): Shown => ({ key: member.profile.key, cert: member.profile.certificate })
const authorityKey = async (purpose: string) => (await home.server.parts.keyring.signer(`authority:${purpose}` as 'authority:identity')).privateKey

/** The reason code that the mTLS port answers with; `in` when it lets in. A handshake that fails is `handshake`. */
async function dataDoor(shown: Partial<Shown>): Promise<string> {
  try {
    const { status, text } = await ask(home.server.addresses.data, '/v1/whoami', shown)
    return status === 200 ? 'in' : ((JSON.parse(text) as { error: { code: string } }).error.code ?? text)
  } catch {
    return 'handshake'
  }
}

/** The reason that the PostgreSQL port gives in its last words; `in` when it is past the question who asks. */
async function postgresDoor(shown: Partial<Shown>, tls: { readonly maxVersion?: 'TLSv1.2'; readonly session?: Buffer } = {}): Promise<string> {
  const socket = await tlsToPostgres(shown, tls).catch(() => undefined)
  if (!socket) return 'handshake'
  const parameters = Buffer.from(`user\0analyst\0database\0nowhere/db\0\0`)
  const head = Buffer.alloc(8)
  head.writeInt32BE(8 + parameters.length, 0)
  head.writeInt32BE(196_608, 4)
  socket.write(Buffer.concat([head, parameters]))
  const text = await new Promise<string>((done) => {
    let said = ''
    socket.on('data', (chunk) => {
      said += chunk.toString('latin1')
    })
    socket.once('close', () => done(said))
    socket.once('error', () => done(said))
  })
  // Nobody has a rule for it, so whoever is known hears that there is no such database.
  return text.includes('there is no such database') ? 'in' : (/reason (\w+)/.exec(text)?.[1] ?? 'handshake')
}

function tlsToPostgres(shown: Partial<Shown>, more: object = {}): Promise<TLSSocket> {
  const address = home.server.addresses.postgres
  const at = address.lastIndexOf(':')
  const raw = connect(Number(address.slice(at + 1)), address.slice(0, at))
  return new Promise((done, fail) => {
    raw.once('error', fail)
    raw.write(Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]))
    raw.once('data', (answer) => {
      if (answer.toString() !== 'S') return fail(new Error(`no TLS: ${answer}`))
      const socket = secure({ socket: raw, rejectUnauthorized: false, ...shown, ...more }, () => done(socket))
      socket.once('error', fail)
    })
  })
}

describe('credentials at the door', () => {
  before(async () => {
    home = await house({ after: (work) => void undo.unshift(work) })
    await home.apply(`
kind: user
name: boris
spec: {}
---
kind: agent
name: bot
spec: { owner: boris }
---
kind: agent
name: other
spec: { owner: boris }
`)
    agent = await home.join('bot')
    other = await home.join('other')
    identityKey = await authorityKey('identity')
    issuerName = subjectOf(home.dana.profile.bundles.identity)
    const { session, identity } = agent.profile
    claims = { v: 1, identity: identity.id, session, credential: newId('crd', now()) }
  })

  test('a genuine certificate, and one that the forger makes with the stolen key of the authority, come in', async () => {
    for (const shown of [genuine(agent), await forge()]) {
      assert.equal(await dataDoor(shown), 'in')
      assert.equal(await postgresDoor(shown), 'in')
    }
  })

  const wrong: readonly (readonly [what: string, make: () => Promise<Partial<Shown>>, reason: RegExp])[] = [
    ['none at all', async () => ({}), /^unauthenticated$/],
    [
      'self-signed, with our extension copied',
      async () => forge({ signer: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey }),
      /^credential_invalid$/,
    ],
    [
      'under a foreign authority of the same name',
      async () => forge({ signer: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey, issuer: issuerName }),
      /^credential_invalid$/,
    ],
    [
      'of the server authority',
      async () => forge({ signer: await authorityKey('server'), issuer: subjectOf(home.dana.profile.bundles.server) }),
      /^credential_invalid$/,
    ],
    ['of the server authority, naming the identity authority', async () => forge({ signer: await authorityKey('server') }), /^credential_invalid$/],
    ['of a database authority', async () => forge({ signer: await databaseKey() }), /^credential_invalid$/],
    [
      "a leaf under another identity's leaf",
      async () => forge({ signer: createPrivateKey(other.profile.key), issuer: nameOf('other') }),
      /^credential_invalid$/,
    ],
    ['of a foreign trust domain', async () => forge({ uri: 'spiffe://evil.example/agent/bot' }), /^credential_invalid$/],
    ['whose trust domain only begins like ours', async () => forge({ uri: 'spiffe://chaperone.internal.evil/agent/bot' }), /^credential_invalid$/],
    ['whose name is of another kind than its id', async () => forge({ uri: 'spiffe://chaperone.internal/user/bot' }), /^credential_invalid$/],
    ['expired', async () => forge({ from: now() - 5 * MINUTE, until: now() - 1000 }), /^credential_expired$/],
    ['not valid yet', async () => forge({ from: now() + MINUTE }), /^credential_invalid$/],
    ['for servers', async () => forge({ usage: asn1.id_kp_serverAuth }), /^credential_invalid$/],
    ['that is an authority', async () => forge({ authority: true }), /^credential_invalid$/],
    ['with an unknown critical extension', async () => forge({ more: [extension('1.2.3.4', uriName('x'), true)] }), /^credential_invalid$/],
    ['with two names', async () => forge({ names: [uriName('spiffe://chaperone.internal/user/dana')] }), /^credential_invalid$/],
    ['with claims of an unknown version', async () => forge({ claims: { ...claims, v: 2 } }), /^credential_invalid$/],
    ['with an unknown claim', async () => forge({ claims: { ...claims, admin: true } }), /^credential_invalid$/],
    ['with claims that are no canonical JSON', async () => forge({ claims: JSON.stringify({ v: 1, ...claims }, null, 1) }), /^credential_invalid$/],
    ['with duplicate claims', async () => forge({ claims: canonicalJson(claims).replace('"v":1', '"v":1,"v":1') }), /^credential_invalid$/],
    ['of a session that does not exist', async () => forge({ claims: { ...claims, session: newId('ses', now()) } }), /^credential_invalid$/],
    ["with another identity's session", async () => forge({ claims: { ...claims, session: other.profile.session } }), /^credential_invalid$/],
    ["with a person's session", async () => forge({ claims: { ...claims, session: home.dana.profile.session } }), /^credential_invalid$/],
    [
      'with a chain that the session does not have',
      async () =>
        forge({
          claims: { ...claims, chain: [{ identity: home.dana.profile.identity.id }, { identity: claims.identity, delegation: newId('dlg', now()) }] },
        }),
      /^credential_invalid$/,
    ],
  ]

  async function databaseKey() {
    await home.server.parts.ca.bundle('database:res_1')
    return authorityKey('database:res_1')
  }

  for (const [what, make, reason] of wrong) {
    test(`rule 1: a certificate opens neither door: ${what}`, async () => {
      const shown = await make()
      assert.match(await dataDoor(shown), reason)
      assert.match(await postgresDoor(shown), reason)
    })
  }

  test('rule 7: a delegated session cannot be used with its chain left out', async () => {
    const boris = await home.enrol('boris')
    const { csr, key } = keyAndCsr()
    const client = await boris.api.call<{ certificate: string; identity: { id: string; name: string }; session: string }>('POST', '/v1/clients', {
      client: 'cursor',
      csr,
    })
    assert.equal(await dataDoor({ key, cert: client.certificate }), 'in')
    const shortened = await forge({
      uri: 'spiffe://chaperone.internal/agent/boris/cursor',
      claims: { v: 1, identity: client.identity.id, session: client.session, credential: newId('crd', now()) },
    })
    assert.equal(await dataDoor(shortened), 'credential_invalid')
    assert.equal(await postgresDoor(shortened), 'credential_invalid')
  })

  test('a broken certificate, and one with the key of somebody else, do not get through the handshake', async () => {
    const mine = genuine(agent)
    const bytes = Buffer.from(new X509Certificate(mine.cert).raw)
    bytes[bytes.length - 10]! ^= 1
    const broken = `-----BEGIN CERTIFICATE-----\n${bytes
      .toString('base64')
      .replace(/(.{64})/g, '$1\n')
      .trimEnd()}\n-----END CERTIFICATE-----\n`
    assert.equal(await dataDoor({ key: mine.key, cert: broken }), 'credential_invalid')
    assert.equal(await postgresDoor({ key: mine.key, cert: broken }), 'credential_invalid')
    await assert.rejects(ask(home.server.addresses.data, '/v1/whoami', { key: other.profile.key, cert: mine.cert }))
  })

  test('rule 4: TLS sessions are not resumed, on no port and in no version', async () => {
    for (const port of ['data', 'postgres'] as const) {
      for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
        const open = async (more: object = {}) => {
          if (port === 'postgres') return tlsToPostgres(genuine(agent), { maxVersion: version, minVersion: version, ...more })
          const [host, number] = home.server.addresses.data.split(':')
          return new Promise<TLSSocket>((done, fail) => {
            const socket = secure(
              { host: host!, port: Number(number), rejectUnauthorized: false, maxVersion: version, minVersion: version, ...genuine(agent), ...more },
              () => done(socket),
            )
            socket.once('error', fail)
          })
        }
        const first = await open()
        const session = first.getSession()
        first.destroy()
        if (!session) continue
        const second = await open({ session })
        assert.equal(second.isSessionReused(), false, `${port} ${version}`)
        second.destroy()
      }
    }
  })

  test('rule 4: the session that ended takes every certificate of it along, also one that was renewed a moment before', async () => {
    const leaver = await home.join('other')
    const fresh = keyAndCsr()
    const renewed = await leaver.api.call<{ certificate: string }>('POST', '/v1/renew', { csr: fresh.csr })
    assert.equal(await dataDoor({ key: fresh.key, cert: renewed.certificate }), 'in')
    await leaver.api.call('POST', '/v1/logout', {})
    for (const shown of [genuine(leaver), { key: fresh.key, cert: renewed.certificate }]) {
      assert.equal(await dataDoor(shown), 'session_ended')
      assert.equal(await postgresDoor(shown), 'session_ended')
    }
    assert.equal(await dataDoor(genuine(other)), 'in', 'another session of the same agent goes on')
  })

  test('rule 6: disabled, locked and deleted identities are turned away with certificates that have minutes left', async () => {
    await home.dana.api.call('POST', '/v1/identities/bot/state', { state: 'disabled' })
    assert.equal(await dataDoor(genuine(agent)), 'identity_disabled')
    assert.equal(await postgresDoor(genuine(agent)), 'identity_disabled')
    await home.dana.api.call('POST', '/v1/identities/bot/state', { state: 'active' })
    assert.equal(await dataDoor(genuine(agent)), 'in')

    const lock = await home.dana.api.call<{ id: string }>('POST', '/v1/locks', { kind: 'identity', target: 'bot', reason: 'test' })
    assert.equal(await dataDoor(genuine(agent)), 'locked')
    assert.equal(await postgresDoor(genuine(agent)), 'locked')
    await home.dana.api.call('DELETE', `/v1/locks/${lock.id}`)

    await home.dana.api.call('POST', '/v1/identities/boris/state', { state: 'disabled' })
    assert.equal(await dataDoor(genuine(agent)), 'identity_disabled', 'nobody answers for the agent any more')
    assert.equal(await postgresDoor(genuine(agent)), 'identity_disabled')
    await home.dana.api.call('POST', '/v1/identities/boris/state', { state: 'active' })

    await home.apply('kind: agent\nname: gone\nspec: { owner: boris }\n')
    const gone = await home.join('gone')
    assert.equal(await dataDoor(genuine(gone)), 'in')
    await home.dana.api.call('DELETE', '/v1/documents/agent/gone')
    assert.equal(await dataDoor(genuine(gone)), 'identity_disabled')
    assert.equal(await postgresDoor(genuine(gone)), 'identity_disabled')
    await assert.rejects(home.apply('kind: agent\nname: gone\nspec: { owner: boris }\n'), /never used again/)
  })
})

describe('tokens at the web door', () => {
  let token: string
  let payload: Record<string, unknown>
  let header: { kid: string; typ: string; alg: string }
  let key: KeyObject

  const b64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const read = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>
  const minted = (claims: Record<string, unknown>, head: object = header) => new SignJWT(claims).setProtectedHeader(head as { alg: string }).sign(key)

  /** The status, and the reason when there is one. A server that nobody has a rule for is `in`: who asked was known. */
  async function webDoor(text: string, door: 'web' | 'data' = 'web', path = '/mcp/nowhere'): Promise<string> {
    const { status, text: said } = await ask(home.server.addresses[door], path, {
      method: 'POST',
      headers: { authorization: `Bearer ${text}`, 'content-type': 'application/json' },
      body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
    })
    if (status !== 401 && status !== 403) return `in ${status}`
    return (JSON.parse(said) as { error: { code: string } }).error.code
  }

  before(async () => {
    const audience = `https://${home.server.trustDomain}`
    ;({ token } = await home.dana.api.call<{ token: string }>('POST', '/v1/issue', { name: 'other', token: { audience } }))
    header = read(token.split('.')[0]!) as typeof header
    payload = read(token.split('.')[1]!)
    key = (await home.server.parts.keyring.signer('tokens')).privateKey
  })

  test('a genuine token comes in at the web door only, and never into the API', async () => {
    assert.match(await webDoor(token), /^in/)
    assert.match(await webDoor(await minted(payload)), /^in/, 'made with the stolen key')
    assert.equal(await webDoor(token, 'data'), 'unauthenticated')
    for (const door of ['web', 'data'] as const) {
      const { status } = await ask(home.server.addresses[door], '/v1/whoami', { headers: { authorization: `Bearer ${token}` } })
      assert.notEqual(status, 200)
    }
  })

  test('rule 1: a forged, foreign or old token opens nothing (peers R50)', async () => {
    const [head, body, signature] = token.split('.') as [string, string, string]
    const verifier = (await home.server.parts.keyring.verifiers('tokens'))[0]!.publicKey
    const spki = verifier.export({ type: 'spki', format: 'pem' }) as string
    const hmac = (secret: string | Buffer) => {
      const signed = `${b64({ ...header, alg: 'HS256' })}.${body}`
      return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
    }
    const seconds = Math.floor(now() / 1000)
    const foreign = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    const cases: Record<string, string> = {
      'alg none': `${b64({ ...header, alg: 'none' })}.${body}.`,
      'alg None with a signature': `${b64({ ...header, alg: 'None' })}.${body}.${signature}`,
      'HS256 with the public key as PEM': hmac(spki),
      'HS256 with the public key as DER': hmac(verifier.export({ type: 'spki', format: 'der' })),
      'no signature': `${head}.${body}.`,
      'another payload under the signature': `${head}.${b64({ ...payload, sub: home.dana.profile.identity.id })}.${signature}`,
      'a foreign key under our kid': await new SignJWT(payload).setProtectedHeader(header).sign(foreign),
      'a kid that is a path': await minted(payload, { ...header, kid: '../../../../dev/null' }),
      'a kid of another purpose': await minted(payload, { ...header, kid: (await home.server.parts.keyring.signer('checkpoints')).id }),
      'no kid': await minted(payload, { alg: 'ES256', typ: 'at+jwt' }),
      'the key brought along': await minted(payload, { ...header, kid: 'mine', jwk: { kty: 'EC' } }),
      'another typ': await minted(payload, { ...header, typ: 'JWT' }),
      'no typ': await minted(payload, { alg: 'ES256', kid: header.kid }),
      'another audience': await minted({ ...payload, aud: 'https://elsewhere.example' }),
      'a list of audiences': await minted({ ...payload, aud: [payload.aud, 'https://elsewhere.example'] }),
      'another issuer': await minted({ ...payload, iss: 'spiffe://evil.example' }),
      expired: await minted({ ...payload, exp: seconds - 1 }),
      'no end': await minted(Object.fromEntries(Object.entries(payload).filter(([name]) => name !== 'exp'))),
      'not valid yet': await minted({ ...payload, nbf: seconds + 600 }),
      'claims that contradict each other': await minted({ ...payload, sub: home.dana.profile.identity.id }),
      'an unknown version of our claims': await minted({ ...payload, chaperone: { ...(payload.chaperone as object), v: 2 } }),
      'a session of somebody else': await minted({ ...payload, chaperone: { ...(payload.chaperone as object), session: home.dana.profile.session } }),
      'critical headers': await minted(payload, { ...header, crit: ['exp'], exp: 1 }).catch(() => 'x.y.z'),
      'too large': `${head}.${b64({ ...payload, pad: 'x'.repeat(9000) })}.${signature}`,
      'a JWE': 'a.b.c.d.e',
      nothing: '',
      'a certificate': Buffer.from(other.profile.certificate).toString('base64url'),
    }
    for (const [what, text] of Object.entries(cases)) {
      assert.match(await webDoor(text), /^(credential_(invalid|expired)|unauthenticated)$/, what)
    }
  })

  test('rule 2: whoever says twice who asks or in which form is refused at both ports: what stands before us may read the other one', async () => {
    const good = `Bearer ${token}`
    const twice: readonly Record<string, string[]>[] = [
      { authorization: [good, good] },
      { authorization: [good, 'Bearer other'] },
      { authorization: ['Bearer other', good] },
      { 'content-type': ['application/json', 'text/plain'] },
    ]
    for (const headers of twice) {
      const name = Object.keys(headers)[0]!
      for (const [port, path, shown] of [
        ['web', '/mcp/nowhere', {}],
        ['web', '/scim/v2/company/Users', {}],
        ['web', '/v0.1/servers', {}],
        ['web', '/signin', {}],
        ['data', '/v1/whoami', genuine(agent)],
      ] as const) {
        const { status, text } = await ask(home.server.addresses[port], path, { headers, ...shown })
        assert.deepEqual([status, text.includes('"ambiguous"')], [400, true], `${name} ${path} ${text}`)
      }
    }
  })

  test('rule 6: a token dies with the session and the identity it belongs to', async () => {
    const audience = `https://${home.server.trustDomain}`
    const mint = () => home.dana.api.call<{ token: string; session: string }>('POST', '/v1/issue', { name: 'other', token: { audience } })
    const one = await mint()
    assert.match(await webDoor(one.token), /^in/)
    await home.dana.api.call('DELETE', `/v1/sessions/${one.session}`)
    assert.equal(await webDoor(one.token), 'session_ended')
    const two = await mint()
    assert.match(await webDoor(two.token), /^in/)
    await home.dana.api.call('POST', '/v1/identities/other/state', { state: 'disabled' })
    assert.equal(await webDoor(two.token), 'identity_disabled')
  })

  test('a certificate at the web port is not asked for and counts for nothing', async () => {
    const { status } = await ask(home.server.addresses.web, '/mcp/nowhere', genuine(home.dana))
    assert.equal(status, 401)
  })
})
