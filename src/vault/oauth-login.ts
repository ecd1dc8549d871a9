import { createHash, randomBytes } from 'node:crypto'
import {
  exchangeAuthorization,
  IssuerMismatchError,
  type OAuthClientInformationMixed,
  OAuthError,
  registerClient,
  startAuthorization,
  validateAuthorizationResponseIssuer,
} from '@modelcontextprotocol/client'
import { ChaperoneError } from '../errors.ts'
import { type Challenge, readChallenge, scopesOf } from './challenge.ts'
import { aboutLogin } from './credential-notes.ts'
import { type By, connectBack, type LoginContext, type LoginServer, type UpstreamLogins } from './logins.ts'
import { bindingOf, discoverLogin, type Login } from './oauth-discovery.ts'
import { grantOf, masked } from './oauth-grant.ts'
import { revoke } from './oauth-revoke.ts'
import type { HeldLogin, LoginKey } from './oauth-rows.ts'
import type { Outbound } from './outbound.ts'

const FLOW_MS = 10 * 60_000

const hashOf = (state: string) => createHash('sha256').update(state).digest('hex')

/** Beginning, finishing and removing a login: what a person does with a browser. */
export function loginFlows(context: LoginContext): Pick<UpstreamLogins, 'begin' | 'began' | 'finish' | 'remove'> {
  const { rows, clock, audit, heard } = context

  const record = (server: LoginServer, by: By, what: string, facts: Record<string, unknown>) =>
    audit.append({ ...by, type: 'upstream.login', data: { what, server: { id: server.id, name: server.name }, ...facts } })

  /** The server's own challenge says best what it wants; one that nobody has met yet is met now. */
  const challengeOf = async (server: LoginServer, key: LoginKey, outbound: Outbound): Promise<Challenge | undefined> => {
    const { status, headers } = await outbound.head(server.spec.url!, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      // Opens no session, and does nothing where it is answered.
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }),
    })
    return heard.get(key) ?? (status === 401 ? readChallenge(headers.get('www-authenticate') ?? undefined) : undefined)
  }

  /** A client that was registered beforehand, else our metadata document, else dynamic registration (2026-07-28, client registration). */
  const clientAt = async (server: LoginServer, key: LoginKey, login: Login, redirect: string, scope: string | undefined, outbound: Outbound) => {
    const oauth = server.spec.auth!.oauth!
    if (oauth.client_id !== undefined) return { client_id: oauth.client_id }
    const { metadata, issuer } = login
    if (metadata?.client_id_metadata_document_supported === true && context.clientDocument !== undefined) return { client_id: context.clientDocument }
    const before = (await rows.read(key))?.held
    if (before && !before.over && before.issuer === issuer && stillUsable(before.client, redirect, clock.now())) return before.client
    if (metadata && metadata.registration_endpoint === undefined) {
      throw new ChaperoneError('upstream_unavailable', `The authorization server ${issuer} registers no clients by itself.`, {
        fix: `Register one there by hand and name it in the document: auth: { oauth: { client_id: ... } }.`,
      })
    }
    return await registerClient(issuer, {
      ...(metadata ? { metadata } : {}),
      clientMetadata: {
        client_name: 'Chaperone',
        redirect_uris: [redirect],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        // A redirect to the person's own machine is what makes a client native (RFC 8252, SEP-837).
        application_type: redirect.startsWith('https:') ? 'web' : 'native',
        ...authMethod(metadata?.token_endpoint_auth_methods_supported),
      },
      ...(scope === undefined ? {} : { scope }),
      fetchFn: outbound.fetch,
    })
  }

  return {
    async begin(server, { subject, identity, redirect, by }) {
      checkRedirect(redirect, context.places)
      const key = { resource: server.id, subject }
      const outbound = context.outbound(server)
      const challenge = await challengeOf(server, key, outbound)
      const login = await discoverLogin(server.name, server.spec.url!, challenge, outbound)
      const before = (await rows.read(key))?.held
      assertSameIssuer(server, login, before)
      const scope = scopeFor(server, login, challenge, before?.wanted === undefined ? undefined : [before.scope, before.wanted])
      try {
        const binding = bindingOf(server.spec.auth?.oauth?.dpop, login)
        const client = await clientAt(server, key, login, redirect, scope, outbound)
        const proofKey = binding === 'none' ? undefined : await context.provers.makeKey()
        const state = randomBytes(32).toString('base64url')
        const { authorizationUrl, codeVerifier } = await startAuthorization(login.issuer, {
          ...(login.metadata ? { metadata: login.metadata } : {}),
          clientInformation: client,
          redirectUrl: redirect,
          state,
          ...(scope === undefined ? {} : { scope }),
          ...(login.resource === undefined ? {} : { resource: login.resource }),
        })
        // The code is bound to the key as well (RFC 9449 section 10).
        if (proofKey) authorizationUrl.searchParams.set('dpop_jkt', (await context.provers.of(proofKey)).thumbprint)
        checkOpenable(server.name, authorizationUrl, outbound)
        const expiresAt = clock.now() + FLOW_MS
        await record(server, by, 'begun', { subject, issuer: login.issuer, scope })
        const { issuer, metadata, resource } = login
        const at = { url: server.spec.url!, issuer, metadata, resource, depth: outbound.depth, client, scope }
        await rows.begin(key, identity, hashOf(state), { ...at, verifier: codeVerifier, redirect, binding, key: proofKey }, expiresAt)
        return { url: authorizationUrl.href, expiresAt }
      } catch (error) {
        throw failedAt(login.issuer, error)
      }
    },

    began: (state, identity) => rows.began(hashOf(state), identity),

    async finish(server, { state, code, iss, error }, { identity, by }) {
      const taken = await rows.take(hashOf(state), identity)
      // A document that was changed meanwhile may name another server, or want another kind of login: this one is not for it.
      const everybody = server.spec.auth?.oauth?.for === 'everybody'
      if (taken?.key.resource !== server.id || taken.flow.url !== server.spec.url || everybody !== (taken.key.subject === '*'))
        throw noFlow(server.name)
      const { key, flow } = taken
      const { verifier, redirect, binding, key: proofKey, ...at } = flow
      try {
        validateAuthorizationResponseIssuer({
          iss,
          expectedIssuer: flow.metadata?.issuer,
          issParameterSupported: flow.metadata?.authorization_response_iss_parameter_supported === true,
        })
        if (code === undefined)
          throw new ChaperoneError('upstream_unavailable', `${flow.issuer} gave no login${error === undefined ? '' : `: ${shown(error)}`}.`)
        const tokens = await exchangeAuthorization(flow.issuer, {
          ...(flow.metadata ? { metadata: flow.metadata } : {}),
          clientInformation: await context.withSecret(server, flow.client),
          authorizationCode: code,
          ...(iss === undefined ? {} : { iss }),
          codeVerifier: verifier,
          redirectUri: redirect,
          ...(flow.resource === undefined ? {} : { resource: flow.resource }),
          fetchFn: await context.tokenFetch(server, flow),
        })
        const grant = grantOf(tokens, { asked: flow.scope, now: clock.now(), key: proofKey, binding })
        audit.addSecrets(masked(grant))
        await record(server, by, 'finished', { subject: key.subject, issuer: flow.issuer, scope: grant.granted ?? flow.scope })
        await rows.put(key, { ...at, ...grant }, async (trx) => context.notes?.set(trx, aboutLogin(key), identity))
      } catch (thrown) {
        await record(server, by, 'failed', { subject: key.subject, issuer: flow.issuer })
        throw failedAt(flow.issuer, thrown)
      }
      heard.delete(key)
      context.changed(key)
      const scope = flow.scope
      return { issuer: flow.issuer, ...(scope === undefined ? {} : { scope }) }
    },

    async remove(server, { subject, by }) {
      const key = { resource: server.id, subject }
      const row = await rows.read(key)
      if (!row) throw new ChaperoneError('not_found', `Nobody is logged in at the MCP server ${server.name}.`)
      await record(server, by, 'removed', { subject, issuer: row.held.issuer })
      await rows.remove(key)
      context.changed(key)
      heard.delete(key)
      // It is gone here whatever becomes of that.
      return { revoked: await revoke(context, server, row.held).catch(() => false) }
    },
  }
}

/** Fixed by the document; else what the server asks for, with what an earlier login asked for when it must have more (SEP-2350). */
function scopeFor(
  { spec }: LoginServer,
  login: Login,
  challenge: Challenge | undefined,
  stepUp: readonly (string | undefined)[] | undefined,
): string | undefined {
  const fixed = spec.auth!.oauth!.scopes
  if (fixed) return fixed.join(' ')
  const asked = scopesOf(challenge?.scope)
  const base = asked.length > 0 ? asked : login.scopes
  const all = scopesOf([...(stepUp ?? []), ...base].filter((one) => one !== undefined).join(' '))
  if (all.length === 0) return undefined
  // Without it such a server gives no refresh token, and somebody would have to log in every hour.
  const offline = login.metadata?.scopes_supported?.includes('offline_access') === true && !all.includes('offline_access')
  return [...all, ...(offline ? ['offline_access'] : [])].join(' ')
}

/**
 * A client that was registered by hand belongs to the authorization server that it was registered at (2026-07-28, SEP-2352):
 * an MCP server that names another one by now would have its secret, and the person's code, brought there.
 */
function assertSameIssuer({ name, spec }: LoginServer, { issuer }: Login, before: HeldLogin | undefined): void {
  const registered = spec.auth!.oauth!.client_id
  if (registered === undefined || before === undefined || before.client.client_id !== registered || before.issuer === issuer) return
  throw new ChaperoneError(
    'upstream_unavailable',
    `The MCP server ${name} wants the login at ${issuer} by now; the last one was at ${before.issuer}.`,
    {
      fix: `If it has moved, name the client that is registered there in its document, or forget the old login first: chaperone mcp logout ${name}`,
    },
  )
}

/** A registration of before, for the same redirect, that does not end while it is used. */
function stillUsable(client: OAuthClientInformationMixed, redirect: string, now: number): boolean {
  const ends = client.client_secret_expires_at ?? 0
  return 'redirect_uris' in client && client.redirect_uris.includes(redirect) && (ends === 0 || ends * 1000 > now + FLOW_MS)
}

/** The strongest that both can; a native client keeps no secret, but some servers give it one all the same (RFC 7591). */
function authMethod(supported: readonly string[] | undefined): { token_endpoint_auth_method?: string } {
  const known = ['none', 'client_secret_basic', 'client_secret_post'].find((method) => supported?.includes(method))
  return known === undefined ? {} : { token_endpoint_auth_method: known }
}

/** Only the machine of the person who logs in, or our own page: nobody else is to get the code. */
function checkRedirect(redirect: string, places: LoginContext['places']): void {
  if (places && redirect === connectBack(places.web)) return
  if (!/^http:\/\/(127\.0\.0\.1|\[::1\]|localhost):\d{1,5}\/callback$/.test(redirect))
    throw new ChaperoneError('usage', 'The redirect of a login is http://127.0.0.1:PORT/callback.')
}

/** What a browser is sent to (CVE-2025-6514: a crafted address ran a command). The URL class has left no space or quote in it. */
function checkOpenable(name: string, url: URL, { depth }: Outbound): void {
  const local = url.protocol === 'http:' && depth === 'loopback' && /^(localhost|127\.0\.0\.1|\[::1\])$/.test(url.hostname)
  if ((url.protocol !== 'https:' && !local) || url.username !== '' || url.password !== '')
    throw new ChaperoneError('upstream_unavailable', `The MCP server ${name} sends the browser to an address that is not https.`)
}

const noFlow = (name: string) =>
  new ChaperoneError('not_found', 'There is no such login: it was used already, it took longer than ten minutes, or somebody else began it.', {
    fix: `Begin again: chaperone mcp login ${name}`,
  })

/** An error code as RFC 6749 section 4.1.2.1 allows it; a description of an attacker's making is not repeated. */
const shown = (error: string) => (/^[\x20\x21\x23-\x5b\x5d-\x7e]{1,64}$/.test(error) ? error : 'an error')

function failedAt(issuer: string, error: unknown): ChaperoneError {
  if (error instanceof ChaperoneError) return error
  const why =
    error instanceof IssuerMismatchError
      ? 'the answer names another authorization server, or none'
      : error instanceof OAuthError
        ? `it said ${shown(error.code)}`
        : 'its answer is not valid'
  // Not its text, which may repeat what was sent: codes and secrets.
  return new ChaperoneError('upstream_unavailable', `The login at ${issuer} failed: ${why}.`, {
    detail: error instanceof Error ? error.name : 'unknown',
  })
}
