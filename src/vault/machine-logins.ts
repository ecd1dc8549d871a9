import type { ClientCredentials, IdentityAuth } from '../catalog/upstream-auth.ts'
import { ChaperoneError } from '../errors.ts'
import { makeLru } from '../identity/lru.ts'
import type { ChainLink } from '../identity/types.ts'
import type { Assertions } from './assertions.ts'
import { type Challenge, readChallenge } from './challenge.ts'
import type { ClientProof } from './client-assertion.ts'
import { aboutMachine } from './credential-notes.ts'
import type { Prover } from './dpop.ts'
import type { LoginContext, LoginServer, UpstreamLogin } from './logins.ts'
import { bindingOf, discoverLogin, type Login, loginAt } from './oauth-discovery.ts'
import { masked } from './oauth-grant.ts'
import { type Grant, requestGrant, scopeOf } from './token-endpoint.ts'

export interface MachineParts {
  readonly assertions: Assertions
  /** SPIFFE ID and name of an identity, as it is now. */
  readonly identify: (identity: string) => { readonly spiffe: string; readonly name: string } | undefined
}

type IdentityProvider = NonNullable<NonNullable<IdentityAuth['exchange']>['identity_provider']>

/** A token is used no longer than this before its end, so that it does not end on its way. */
const MARGIN_MS = 30_000
/** One a server and caller; the oldest gives way. */
const MOST_KEPT = 10_000
/** A server that turns down what it was just given is not helped by more of it. */
const BACKOFF_MS = 5_000
/** Challenges that are remembered, one a server. */
const MOST_HEARD = 1_000

interface Kept {
  readonly spec: string
  readonly got: number
  /** One key for all tokens of this server and caller: what the servers said of proofs is said of it. */
  readonly prover: Promise<Prover>
  readonly grant: Promise<Grant>
}

/** Tokens that nobody logs in for: Chaperone's own (client credentials), or the caller's identity, minted. Kept in memory alone. */
export function machineLogins(context: LoginContext, { assertions, identify }: MachineParts) {
  const { clock, audit } = context
  const kept = new Map<string, Kept>()
  const heard = makeLru<Challenge>(MOST_HEARD)

  const proofOf = async (spec: Partial<Pick<ClientCredentials, 'client_id' | 'client_secret' | 'private_key' | 'key_id'>>) => {
    if (spec.client_id === undefined) return undefined
    const secret = spec.client_secret && (await context.reveal(spec.client_secret.secret))
    const privateKey = spec.private_key && (await context.reveal(spec.private_key.secret))
    audit.addSecrets([secret, privateKey].filter((one) => one !== undefined))
    return { clientId: spec.client_id, secret, privateKey, keyId: spec.key_id } satisfies ClientProof
  }

  /** The server's own word on where its tokens come from; the document's, where it says so. */
  const grantAt = async (
    server: LoginServer,
    spec: Omit<ClientCredentials, 'client_id'> & { readonly client_id?: string | undefined },
    prover: Promise<Prover>,
    grant: (login: Login) => Promise<Readonly<Record<string, string>>>,
  ): Promise<Grant> => {
    const outbound = context.outbound(server)
    const challenge = heard.get(server.id)
    const login =
      spec.authorization_server === undefined
        ? await discoverLogin(server.name, server.spec.url!, challenge, outbound, { pkce: false })
        : await loginAt(server.name, server.spec.url!, spec.authorization_server, outbound)
    const client = await proofOf(spec)
    const scope = scopeOf(spec.scopes, challenge?.scope, login)
    const binding = bindingOf(spec.dpop, login)
    const asked = { login, scope, client, binding, prover: binding === 'none' ? undefined : await prover }
    return await requestGrant({ ...asked, grant: await grant(login), fetch: outbound.fetch, now: clock.now() })
  }

  const minted = async (server: LoginServer, { audience }: IdentityAuth, chain: readonly ChainLink[]) => {
    const links = chain.map(({ identity }) => identify(identity))
    const [first] = links
    if (!first || links.some((link) => link === undefined)) throw new ChaperoneError('identity_disabled', 'The identity is not there any more.')
    const actors = links.slice(1).map((link) => link!.spiffe)
    const made = await assertions.mint({ subject: first.spiffe, actors, audience, username: first.name })
    audit.addSecrets([made.token])
    // Before it is used (rule 3): whoever holds it speaks for this chain.
    await record(server, 'minted', { subject: chain[0]!.identity, audience, token: made.id, actors: chain.slice(1).map(({ identity }) => identity) })
    return made
  }

  /** An Identity Assertion JWT Authorization Grant: the company's word for ours, for this authorization server and resource alone. */
  const idJag = async (server: LoginServer, provider: IdentityProvider, token: string, { issuer, resource }: Login): Promise<string> => {
    const { access } = await requestGrant({
      login: { issuer: new URL(provider.token_endpoint).origin, metadata: undefined, resource, scopes: [], binding: 'none' },
      endpoint: provider.token_endpoint,
      kind: 'n_a',
      grant: {
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        requested_token_type: 'urn:ietf:params:oauth:token-type:id-jag',
        subject_token: token,
        // What is minted has what an ID token must have, and its audience is the client that shows it.
        subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
        audience: issuer,
      },
      scope: undefined,
      client: await proofOf(provider),
      fetch: context.outbound(server).fetch,
      now: clock.now(),
    })
    return access
  }

  const obtain = async (server: LoginServer, chain: readonly ChainLink[], prover: Promise<Prover>): Promise<Grant> => {
    context.notes?.used(aboutMachine(server.id))
    const { client_credentials: own, identity } = server.spec.auth!
    if (own) {
      const grant = await grantAt(server, own, prover, async () => ({ grant_type: 'client_credentials' }))
      audit.addSecrets(masked({ access: grant.access, refresh: undefined }))
      await record(server, 'granted', { subject: '*', client: own.client_id })
      return grant
    }
    const { exchange } = identity!
    if (!exchange) {
      const { token, expiresAt } = await minted(server, identity!, chain)
      return { access: token, expiresAt, prover: undefined }
    }
    const grant = await grantAt(server, exchange, prover, async (login): Promise<Readonly<Record<string, string>>> => {
      const { token: own } = await minted(server, identity!, chain)
      const token = exchange.identity_provider ? await idJag(server, exchange.identity_provider, own, login) : own
      return exchange.by === 'jwt-bearer'
        ? { grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion: token }
        : {
            grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
            subject_token: token,
            subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
          }
    })
    audit.addSecrets(masked({ access: grant.access, refresh: undefined }))
    return grant
  }

  const record = (server: LoginServer, what: string, facts: Record<string, unknown>) =>
    audit.append({ type: 'upstream.login', data: { what, server: { id: server.id, name: server.name }, ...facts } })

  const keyOf = (server: LoginServer, chain: readonly ChainLink[]): string =>
    // Everything that the token says of the caller: another agent of the same person has another one.
    server.spec.auth?.client_credentials
      ? server.id
      : `${server.id} ${chain.map(({ identity, delegation }) => `${identity}/${delegation ?? ''}`).join(' ')}`

  const grantFor = async (server: LoginServer, chain: readonly ChainLink[]): Promise<{ readonly kept: Kept; readonly grant: Grant }> => {
    const key = keyOf(server, chain)
    const spec = JSON.stringify([server.spec.url, server.spec.auth])
    const known = kept.get(key)
    if (known?.spec === spec) {
      const grant = await known.grant
      if (grant.expiresAt - MARGIN_MS > clock.now()) return { kept: known, grant }
    }
    // Somebody else was faster while this one waited: there is one request at a time.
    const newer = kept.get(key)
    if (newer && newer !== known && newer.spec === spec) return { kept: newer, grant: await newer.grant }
    const prover = (known?.spec === spec ? known : undefined)?.prover ?? context.provers.fresh()
    const next: Kept = { spec, got: clock.now(), prover, grant: obtain(server, chain, prover) }
    kept.delete(key)
    if (kept.size >= MOST_KEPT) kept.delete(kept.keys().next().value!)
    kept.set(key, next)
    next.grant.catch(() => {
      if (kept.get(key) === next) kept.delete(key)
    })
    return { kept: next, grant: await next.grant }
  }

  return {
    of(server: LoginServer, chain: readonly ChainLink[]): UpstreamLogin {
      return {
        async token() {
          // The first request goes without one where the server itself must say where tokens come from.
          if (discovers(server) && heard.get(server.id) === undefined) return undefined
          const { access, prover } = (await grantFor(server, chain)).grant
          return { value: access, prover }
        },

        async refused(status, header, used) {
          const challenge = readChallenge(header)
          if (status === 403) return false
          heard.set(server.id, challenge ?? {})
          if (used === undefined) {
            await grantFor(server, chain)
            return true
          }
          const now = await grantFor(server, chain)
          if (now.grant.access !== used) return true
          // Turned down although it is not over: the server may have new keys, or have forgotten us.
          if (clock.now() - now.kept.got <= BACKOFF_MS) return false
          kept.delete(keyOf(server, chain))
          await grantFor(server, chain)
          return true
        },
      }
    },
  }
}

const discovers = ({ spec: { auth } }: LoginServer): boolean =>
  auth?.client_credentials
    ? auth.client_credentials.authorization_server === undefined
    : auth?.identity?.exchange !== undefined && auth.identity.exchange.authorization_server === undefined
