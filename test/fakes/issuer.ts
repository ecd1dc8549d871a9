import { generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { CompactSign } from 'jose'
import { fakeAuthority } from './authority.ts'

/** An OpenID issuer over real TLS, as a CI has one: discovery, keys that can be rotated, and the endpoint at which a job asks for its token. */
export interface FakeIssuer {
  readonly issuer: string
  /** PEM of the authority behind its certificate */
  readonly ca: string
  /** every path that was asked for */
  readonly asked: string[]
  /** A token as the issuer would make it now. */
  token(claims?: Record<string, unknown>): Promise<string>
  /** A new key; `keep`: the old one is still published. */
  rotate(keep?: boolean): void
  /** Signed with the key to come, which is not published yet. */
  tokenOfNext(claims?: Record<string, unknown>): Promise<string>
  /** The keys as everybody sees them. */
  published(): readonly Record<string, unknown>[]
  /** What a job finds in its environment (GitHub Actions): where to ask for a token with these claims (or for this very one), and the secret to do it with. */
  actionsJob(claims: Record<string, unknown> | string): {
    readonly ACTIONS_ID_TOKEN_REQUEST_URL: string
    readonly ACTIONS_ID_TOKEN_REQUEST_TOKEN: string
  }
  /** Answers nothing but 503 from now on. */
  down(isDown: boolean): void
  close(): Promise<void>
}

interface Key {
  readonly kid: string
  readonly privateKey: KeyObject
  readonly jwk: Record<string, unknown>
}

function newKey(): Key {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const kid = randomUUID()
  return { kid, privateKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg: 'RS256', use: 'sig' } }
}

export async function fakeIssuer({ audience = 'https://chaperone.internal' } = {}): Promise<FakeIssuer> {
  const authority = await fakeAuthority('issuer')
  const own = await authority.issue(['127.0.0.1'])
  let keys = [newKey()]
  let isDown = false
  const asked: string[] = []
  const jobs = new Map<string, Record<string, unknown> | string>()

  const token = (claims: Record<string, unknown> = {}, [{ kid, privateKey }] = keys as [Key]): Promise<string> => {
    const now = Math.floor(Date.now() / 1000)
    const all = { iss: issuer.issuer, aud: audience, sub: 'workload', jti: randomUUID(), iat: now, nbf: now, exp: now + 300, ...claims }
    return new CompactSign(Buffer.from(JSON.stringify(all))).setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid }).sign(privateKey)
  }
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? '/', issuer.issuer)
    asked.push(url.pathname)
    const json = (status: number, body: unknown) => void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    if (isDown) return json(503, {})
    if (url.pathname === '/.well-known/openid-configuration') return json(200, { issuer: issuer.issuer, jwks_uri: `${issuer.issuer}/jwks` })
    if (url.pathname === '/jwks' || url.pathname === '/openid/v1/jwks') return json(200, { keys: keys.map(({ jwk }) => jwk) })
    const job = jobs.get(request.headers.authorization?.replace(/^Bearer /, '') ?? '')
    if (url.pathname === '/token' && typeof job === 'string') return json(200, { count: 1, value: job })
    if (url.pathname === '/token' && job)
      return json(200, {
        count: 1,
        value: await token({ ...(job as Record<string, unknown>), aud: url.searchParams.get('audience') ?? 'https://github.com/octo' }),
      })
    return json(404, {})
  }
  const server = createServer({ key: own.key, cert: own.chain }, (request, response) => void answer(request, response))
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))

  const issuer: FakeIssuer = {
    issuer: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ca: authority.certificate,
    asked,
    token,
    rotate(keep = false) {
      keys = [newKey(), ...(keep ? keys : [])]
    },
    tokenOfNext: (claims) => token(claims, [newKey()]),
    published: () => keys.map(({ jwk }) => jwk),
    actionsJob(claims) {
      const secret = randomUUID()
      jobs.set(secret, claims)
      return { ACTIONS_ID_TOKEN_REQUEST_URL: `${issuer.issuer}/token?api-version=2.0`, ACTIONS_ID_TOKEN_REQUEST_TOKEN: secret }
    },
    down(now) {
      isDown = now
    },
    async close() {
      const closed = new Promise((done) => server.close(done))
      server.closeAllConnections()
      await closed
    },
  }
  return issuer
}
