import type { Assertions } from '../vault/assertions.ts'
import type { WebRoom } from './http.ts'

/** What an upstream needs to verify the identities that Chaperone mints for it. Public, and the same for everybody. */
export function publishedKeys(assertions: Assertions, failed: (error: unknown) => void): WebRoom {
  const keys = `${assertions.path}/jwks.json`
  /** OpenID Connect Discovery appends, RFC 8414 inserts: readers do the one or the other. */
  const metadata: ReadonlySet<string> = new Set([
    `${assertions.path}/.well-known/openid-configuration`,
    `/.well-known/openid-configuration${assertions.path}`,
    `/.well-known/oauth-authorization-server${assertions.path}`,
  ])
  return {
    has: (path) => path === keys || metadata.has(path),
    async handle(request, response) {
      const { issuer } = assertions
      if (request.method !== 'GET' && request.method !== 'HEAD') return void response.writeHead(405, { allow: 'GET, HEAD' }).end()
      try {
        const isKeys = (request.url ?? '').split('?', 1)[0] === keys
        const document = isKeys
          ? await assertions.keys()
          : {
              issuer,
              jwks_uri: `${issuer}/jwks.json`,
              // No endpoint: nobody asks for a token here, and what is minted goes to its audience alone.
              response_types_supported: [],
              subject_types_supported: ['public'],
              id_token_signing_alg_values_supported: ['ES256'],
              claims_supported: ['iss', 'sub', 'aud', 'exp', 'iat', 'nbf', 'jti', 'act', 'preferred_username'],
            }
        const body = JSON.stringify(document)
        response.writeHead(200, {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
          // Less than a rotated key is still believed.
          'cache-control': 'public, max-age=300',
        })
        response.end(request.method === 'HEAD' ? undefined : body)
      } catch (error) {
        failed(error)
        response.writeHead(503, { 'cache-control': 'no-store' }).end()
      }
    },
  }
}
