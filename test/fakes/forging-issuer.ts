import type { webcrypto } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import type { FakeAuthority } from './authority.ts'

/** An issuer of OpenID Connect that lies in one way at a time; without a change it is an honest one. */
export interface ForgingIssuer {
  readonly issuer: string
  /** what the next ID token says beside what it must; undefined takes a claim away */
  claims: JWTPayload
  /** signs the next token in another way */
  sign: ((claims: JWTPayload) => Promise<string>) | undefined
  /** changes the published metadata */
  metadata: (document: Record<string, unknown>) => unknown
  /** how many codes were exchanged */
  readonly exchanged: URLSearchParams[]
  readonly privateKey: webcrypto.CryptoKey
  /** Whether it gives refresh tokens, and what it answers to one; `down`: it does not answer. */
  refreshing: 'never' | 'yes' | 'down' | { readonly status: number; readonly error: string }
  /** the refresh tokens that it was shown */
  readonly refreshed: string[]
  /** A token of its key, as it is. */
  signed(claims: JWTPayload, header?: Record<string, unknown>): Promise<string>
  /** Keys of before are gone; tokens are signed with new ones. */
  rotate(): Promise<void>
  /** The answer with which it would send the person back. */
  approve(url: string): URLSearchParams
  close(): Promise<void>
}

export async function forgingIssuer(authority: FakeAuthority): Promise<ForgingIssuer> {
  const tls = await authority.issue(['127.0.0.1'])
  let [keys, kid] = [await generateKeyPair('ES256'), 'k1']
  const codes = new Map<string, { nonce: string | null; client: string | null }>()
  const exchanged: URLSearchParams[] = []

  const server = createServer({ key: tls.key, cert: tls.chain }, (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      answer(request.url ?? '/', Buffer.concat(chunks).toString()).then(
        (value) => {
          if (value === 'down') return void response.destroy()
          const status = (value as { status?: number } | undefined)?.status
          response.writeHead(status ?? (value === undefined ? 400 : 200), { 'Content-Type': 'application/json' })
          response.end(JSON.stringify(value ?? { error: 'invalid_grant' }))
        },
        () => response.writeHead(500).end(),
      )
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const issuer = `https://127.0.0.1:${(server.address() as AddressInfo).port}`

  async function answer(path: string, body: string): Promise<unknown> {
    if (path === '/.well-known/openid-configuration')
      return forging.metadata({
        issuer,
        authorization_endpoint: `${issuer}/auth`,
        token_endpoint: `${issuer}/token`,
        jwks_uri: `${issuer}/jwks`,
        response_types_supported: ['code'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['ES256', 'RS256', 'HS256', 'none'],
        code_challenge_methods_supported: ['S256'],
        authorization_response_iss_parameter_supported: true,
      })
    if (path === '/jwks') return { keys: [{ ...(await exportJWK(keys.publicKey)), kid, alg: 'ES256', use: 'sig' }] }
    if (path !== '/token') return undefined
    const asked = new URLSearchParams(body)
    if (asked.get('grant_type') === 'refresh_token') return refresh(asked.get('refresh_token')!)
    exchanged.push(asked)
    const code = codes.get(asked.get('code') ?? '')
    if (!code || !asked.get('code_verifier')) return undefined
    codes.delete(asked.get('code')!)
    const now = Math.floor(Date.now() / 1000)
    const claims = {
      iss: issuer,
      aud: code.client!,
      sub: 'u-1',
      nonce: code.nonce!,
      iat: now,
      exp: now + 300,
      auth_time: now,
      preferred_username: 'mara',
      ...forging.claims,
    }
    const sign = forging.sign ?? ((given: JWTPayload) => new SignJWT(given).setProtectedHeader({ alg: 'ES256', kid }).sign(keys.privateKey))
    return { ...tokens(), id_token: await sign(JSON.parse(JSON.stringify(claims))) }
  }

  let newest = 0
  const tokens = () => ({
    ...{ access_token: 'a', token_type: 'Bearer', expires_in: 60 },
    ...(forging.refreshing === 'never' ? {} : { refresh_token: `refresh-${++newest}` }),
  })

  async function refresh(token: string): Promise<unknown> {
    forging.refreshed.push(token)
    if (forging.refreshing === 'down') return 'down'
    if (typeof forging.refreshing === 'object') return forging.refreshing
    const now = Math.floor(Date.now() / 1000)
    const claims = { iss: issuer, aud: 'chaperone', sub: 'u-1', iat: now, exp: now + 300, preferred_username: 'mara', ...forging.claims }
    return { ...tokens(), id_token: await forging.signed(JSON.parse(JSON.stringify(claims))) }
  }

  const forging: ForgingIssuer = {
    issuer,
    claims: {},
    sign: undefined,
    metadata: (document) => document,
    exchanged,
    refreshing: 'never',
    refreshed: [],
    signed: (claims, header = {}) => new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid, ...header }).sign(keys.privateKey),
    get privateKey() {
      return keys.privateKey
    },
    async rotate() {
      ;[keys, kid] = [await generateKeyPair('ES256'), `k${Number(kid.slice(1)) + 1}`]
    },
    approve(url) {
      const asked = new URL(url).searchParams
      const code = crypto.randomUUID()
      codes.set(code, { nonce: asked.get('nonce'), client: asked.get('client_id') })
      return new URLSearchParams({ code, state: asked.get('state')!, iss: issuer })
    },
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return forging
}
