import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { ProofChecker } from './proofs.ts'

/** What the fake does differently from a well-behaved server; a test changes it while it runs. */
export interface Knobs {
  accessLife: number | undefined
  rotate: boolean
  iss: 'right' | 'none' | 'wrong'
  advertiseIss: boolean
  registration: boolean
  clientDocuments: boolean
  methods: string[]
  scopes: string[]
  /** scopes that the resource names in its 401 challenge */
  challengeScope: string | undefined
  /** scopes without which `tools/call` is answered 403 */
  needs: string[]
  refreshError: string | undefined
  refreshStatus: number
  /** held back until it resolves */
  beforeToken: Promise<void> | undefined
  challenge: boolean
  /** where token endpoint and resource send whoever asks (307) */
  away: string | undefined
  /** tokens that are bound to a key (RFC 9449): advertised and given; what the resource says of it is up to `resourceMetadata` */
  bound: boolean
  /** the resource knows of no keys, whatever its authorization server knows */
  bearerResource: boolean
  /** what it gives whoever shows a proof, where it binds tokens */
  boundType: string
  /** changes what is published */
  resourceMetadata: (document: Record<string, unknown>) => unknown
  serverMetadata: (document: Record<string, unknown>) => unknown
}

export interface Seen {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: URLSearchParams
  readonly text: string
}

export interface FakeOAuth {
  readonly knobs: Knobs
  /** of the MCP server */
  readonly url: string
  readonly issuer: string
  /** every request, of both servers */
  readonly seen: Seen[]
  /** what the last answers of the token endpoint held */
  readonly tokens: { access: string; refresh: string }[]
  /** who checks proofs, where tokens are bound */
  readonly proofs: { readonly login: ProofChecker; readonly mcp: ProofChecker }
  /** Ends every access token, as a server may at any time. */
  endAccess(): void
  /** What the browser would come back with when the person says yes. */
  approve(url: string): URLSearchParams
  of(path: string): Seen[]
  close(): Promise<void>
}

/** Grants without a browser. What they hold is looked at by the test. */
const MACHINE: ReadonlySet<string> = new Set([
  'client_credentials',
  'urn:ietf:params:oauth:grant-type:jwt-bearer',
  'urn:ietf:params:oauth:grant-type:token-exchange',
])

interface Tls {
  readonly key: string
  readonly cert: string
}

/** An MCP server that wants OAuth, and its authorization server: metadata, registration, PKCE, rotation (RFC 9728, 8414, 7591, 7636). */
export async function fakeOAuth(
  options: { readonly tls?: Tls; readonly hosts?: { readonly mcp: string; readonly login: string } } = {},
): Promise<FakeOAuth> {
  const knobs: Knobs = {
    accessLife: 3600,
    rotate: true,
    iss: 'right',
    advertiseIss: true,
    registration: true,
    clientDocuments: false,
    methods: ['none', 'client_secret_basic'],
    scopes: ['read', 'write'],
    challengeScope: 'read',
    needs: [],
    refreshError: undefined,
    refreshStatus: 400,
    beforeToken: undefined,
    challenge: true,
    away: undefined,
    bound: false,
    boundType: 'DPoP',
    bearerResource: false,
    resourceMetadata: (document) => document,
    serverMetadata: (document) => document,
  }
  const seen: Seen[] = []
  const tokens: { access: string; refresh: string }[] = []
  const codes = new Map<string, { jkt: string | undefined; challenge: string; redirect: string; client: string; scope: string; resource: string }>()
  const access = new Map<string, { readonly scope: string; readonly jkt: string | undefined }>()
  const refresh = new Map<string, { scope: string; client: string; jkt: string | undefined }>()
  const proofs = { login: new ProofChecker(), mcp: new ProofChecker() }
  const json = (response: ServerResponse, status: number, value: unknown, headers: Record<string, string> = {}) =>
    void response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers }).end(JSON.stringify(value))

  const record = async (request: IncomingMessage): Promise<Seen> => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString('utf8')
    const path = new URL(request.url ?? '', 'http://x').pathname
    const one = { method: request.method ?? '', path, headers: request.headers, body: new URLSearchParams(text), text }
    seen.push(one)
    return one
  }

  const give = (response: ServerResponse, client: string, scope: string, jkt: string | undefined) => {
    const pair = { access: `access-${randomUUID()}`, refresh: `refresh-${randomUUID()}` }
    tokens.push(pair)
    access.set(pair.access, { scope, jkt })
    refresh.set(pair.refresh, { scope, client, jkt })
    const { accessLife } = knobs
    json(response, 200, {
      access_token: pair.access,
      token_type: jkt === undefined ? 'Bearer' : knobs.boundType,
      refresh_token: pair.refresh,
      scope,
      ...(accessLife === undefined ? {} : { expires_in: accessLife }),
    })
  }

  const login = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { path, headers, body, text } = await record(request)
    if (path === '/.well-known/oauth-authorization-server') {
      return json(
        response,
        200,
        knobs.serverMetadata({
          issuer,
          authorization_endpoint: `${issuer}/authorize`,
          token_endpoint: `${issuer}/token`,
          revocation_endpoint: `${issuer}/revoke`,
          response_types_supported: ['code'],
          code_challenge_methods_supported: ['S256'],
          token_endpoint_auth_methods_supported: knobs.methods,
          scopes_supported: [...knobs.scopes, 'offline_access'],
          authorization_response_iss_parameter_supported: knobs.advertiseIss,
          client_id_metadata_document_supported: knobs.clientDocuments,
          ...(knobs.bound ? { dpop_signing_alg_values_supported: ['RS256', 'ES256'] } : {}),
          ...(knobs.registration ? { registration_endpoint: `${issuer}/register` } : {}),
        }),
      )
    }
    if (path === '/register') {
      const asked = JSON.parse(text)
      const secret = asked.token_endpoint_auth_method === 'none' ? {} : { client_secret: `secret-${randomUUID()}` }
      return json(response, 201, { ...asked, client_id: `client-${randomUUID()}`, ...secret })
    }
    if (path === '/revoke') {
      refresh.delete(body.get('token') ?? '')
      return json(response, 200, {})
    }
    if (path !== '/token') return json(response, 404, {})
    await knobs.beforeToken
    if (knobs.away !== undefined) return void response.writeHead(307, { location: knobs.away }).end()
    let jkt: string | undefined
    if (knobs.bound && headers.dpop !== undefined) {
      const proven = await proofs.login.check(request, response, `${issuer}/token`)
      if ('error' in proven) return json(response, 400, proven)
      jkt = proven.jkt
    }
    if (body.get('grant_type') === 'refresh_token') {
      const old = body.get('refresh_token') ?? ''
      const known = refresh.get(old)
      if (knobs.refreshError !== undefined) return json(response, knobs.refreshStatus, { error: knobs.refreshError })
      if (!known || (known.jkt !== undefined && known.jkt !== jkt)) return json(response, 400, { error: 'invalid_grant' })
      if (knobs.rotate) refresh.delete(old)
      return give(response, known.client, known.scope, known.jkt)
    }
    if (MACHINE.has(body.get('grant_type') ?? '')) {
      if (knobs.refreshError !== undefined) return json(response, knobs.refreshStatus, { error: knobs.refreshError, error_description: text })
      return give(response, body.get('client_id') ?? '', body.get('scope') ?? '', jkt)
    }
    const code = codes.get(body.get('code') ?? '')
    codes.delete(body.get('code') ?? '')
    const challenge = createHash('sha256')
      .update(body.get('code_verifier') ?? '')
      .digest('base64url')
    if (!code || code.challenge !== challenge || code.redirect !== body.get('redirect_uri') || code.resource !== (body.get('resource') ?? ''))
      return json(response, 400, { error: 'invalid_grant' })
    if (knobs.bound && code.jkt !== undefined && code.jkt !== jkt) return json(response, 400, { error: 'invalid_grant' })
    give(response, code.client, code.scope, jkt)
  }

  const mcp = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { path, headers, text } = await record(request)
    if (path.startsWith('/.well-known/oauth-protected-resource')) {
      return json(response, 200, knobs.resourceMetadata({ resource: url, authorization_servers: [issuer], scopes_supported: knobs.scopes }))
    }
    if (knobs.away !== undefined) return void response.writeHead(307, { location: knobs.away }).end()
    const [scheme = '', token = ''] = (headers.authorization ?? '').split(' ')
    const known = access.get(token)
    // What is bound is no bearer token (RFC 9449 section 7.2), and the other way round.
    const scope = known && (known.jkt === undefined || knobs.bearerResource ? scheme === 'Bearer' : scheme === 'DPoP') ? known.scope : undefined
    const metadata = `resource_metadata="${new URL(url).origin}/.well-known/oauth-protected-resource/mcp"`
    const challengeOf = (more: string) =>
      knobs.challenge
        ? { 'www-authenticate': `${knobs.bound && !knobs.bearerResource ? 'DPoP algs="ES256 RS256", ' : 'Bearer '}${more}${metadata}` }
        : {}
    if (scope === undefined)
      return void response.writeHead(401, challengeOf(knobs.challengeScope === undefined ? '' : `scope="${knobs.challengeScope}", `)).end()
    if (known?.jkt !== undefined) {
      const proven = await proofs.mcp.check(request, response, url, { value: token, jkt: known.jkt })
      if ('error' in proven) return void response.writeHead(401, challengeOf(`error="${proven.error}", `)).end()
    }
    if (request.method === 'DELETE') return void response.writeHead(200).end()
    const message = JSON.parse(text)
    const lacks = knobs.needs.filter((one) => !scope.split(' ').includes(one))
    if (message.method === 'tools/call' && lacks.length > 0)
      return void response.writeHead(403, challengeOf(`error="insufficient_scope", scope="${knobs.needs.join(' ')}", `)).end()
    if (message.id === undefined) return void response.writeHead(202).end()
    const result =
      message.method === 'initialize'
        ? { protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 'fake', version: '1' } }
        : message.method === 'tools/list'
          ? { tools: [{ name: 'look', inputSchema: { type: 'object' } }] }
          : { content: [{ type: 'text', text: 'done' }] }
    json(response, 200, { jsonrpc: '2.0', id: message.id, result })
  }

  const { tls, hosts } = options
  const open = async (handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>): Promise<{ server: Server; port: number }> => {
    const take = (request: IncomingMessage, response: ServerResponse) => void handle(request, response).catch(() => response.destroy())
    const server = tls ? createSecureServer(tls, take) : createServer(take)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return { server, port: (server.address() as AddressInfo).port }
  }
  const scheme = tls ? 'https' : 'http'
  const two = await Promise.all([open(login), open(mcp)])
  const issuer = `${scheme}://${hosts?.login ?? '127.0.0.1'}:${two[0].port}`
  const url = `${scheme}://${hosts?.mcp ?? '127.0.0.1'}:${two[1].port}/mcp`

  return {
    knobs,
    url,
    issuer,
    seen,
    tokens,
    proofs,
    endAccess: () => access.clear(),
    approve(authorization) {
      const asked = new URL(authorization).searchParams
      const code = `code-${randomUUID()}`
      codes.set(code, {
        jkt: asked.get('dpop_jkt') ?? undefined,
        challenge: asked.get('code_challenge') ?? '',
        redirect: asked.get('redirect_uri') ?? '',
        client: asked.get('client_id') ?? '',
        scope: asked.get('scope') ?? '',
        resource: asked.get('resource') ?? '',
      })
      const iss = knobs.iss === 'right' ? issuer : `${issuer}/`
      return new URLSearchParams({ code, state: asked.get('state') ?? '', ...(knobs.iss === 'none' ? {} : { iss }) })
    },
    of: (path) => seen.filter((one) => one.path === path),
    async close() {
      for (const { server } of two) {
        server.closeAllConnections()
        await new Promise((resolve) => server.close(resolve))
      }
    },
  }
}
