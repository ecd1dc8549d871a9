import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'

/**
 * An identity provider of a company: oidc-provider itself, in a process of its own, over TLS. Its people are in the order that it is
 * given on standard input, with the certificate; who signs in is named by the header `x-as` of the browser, as a password form would.
 * `POST /disable/ID` disables one: he is let in no more, and his refresh tokens are refused.
 * Prints its issuer when it listens.
 */
interface Company {
  readonly key: string
  readonly cert: string
  readonly redirect: string
  readonly people: Record<string, Record<string, unknown>>
  /** where it says that somebody has signed out */
  readonly logout?: string
}

// biome-ignore lint/suspicious/noExplicitAny: it has no types of its own
const { Provider }: any = await import('oidc-provider')

const chunks: Buffer[] = []
for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
const company = JSON.parse(Buffer.concat(chunks).toString()) as Company

const disabled = new Set<string>()
const server = createServer({ key: company.key, cert: company.cert })
server.listen(0, '127.0.0.1', () => {
  const issuer = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: 'chaperone',
        client_secret: 'the-secret-of-the-application',
        redirect_uris: [company.redirect],
        token_endpoint_auth_method: 'client_secret_post',
        grant_types: ['authorization_code', 'refresh_token'],
        ...(company.logout === undefined ? {} : { backchannel_logout_uri: company.logout, backchannel_logout_session_required: true }),
      },
    ],
    claims: { openid: ['sub', 'amr'], profile: ['preferred_username'], email: ['email', 'email_verified'], groups: ['groups'] },
    scopes: ['openid', 'profile', 'email', 'groups'],
    // Its own refuses addresses of this computer, where everything of a test lies.
    fetch: (url: string, { dispatcher: _, ...options }: RequestInit & { dispatcher?: unknown }) => fetch(url, options),
    pkce: { required: () => true },
    features: { devInteractions: { enabled: false }, backchannelLogout: { enabled: company.logout !== undefined } },
    issueRefreshToken: async () => true,
    interactions: { url: (_: unknown, { uid }: { uid: string }) => `/interaction/${uid}` },
    // Thin ID tokens, as Okta and Keycloak make them: the rest is at the userinfo endpoint.
    conformIdTokenClaims: true,
    findAccount: (_: unknown, id: string) =>
      disabled.has(id) ? undefined : { accountId: id, claims: async () => ({ sub: id, ...company.people[id] }) },
    // biome-ignore lint/suspicious/noExplicitAny: the same
    loadExistingGrant: async ({ oidc }: any) => {
      const grant = new provider.Grant({ accountId: oidc.session!.accountId!, clientId: oidc.client!.clientId })
      grant.addOIDCScope('openid profile email groups')
      await grant.save()
      return grant
    },
  })
  const answer = provider.callback()
  for (const event of ['backchannel.success', 'backchannel.error'])
    provider.on(event, (_: unknown, failed: unknown) =>
      process.stderr.write(`${event} ${failed instanceof Error ? `${failed.message} ${failed.cause}` : ''}\n`),
    )
  server.on('request', (request, response) => {
    const left = /^\/disable\/(.+)$/.exec(request.url ?? '')?.[1]
    if (left !== undefined && request.method === 'POST') {
      disabled.add(left)
      return void response.end()
    }
    if (!request.url?.startsWith('/interaction/')) return void answer(request, response)
    const accountId = String(request.headers['x-as'])
    provider
      .interactionFinished(request, response, { login: { accountId, amr: ['pwd', 'otp'] } }, { mergeWithLastSubmission: false })
      .catch((error: unknown) => {
        response.writeHead(500).end(String(error))
      })
  })
  process.stdout.write(`${issuer}\n`)
})
