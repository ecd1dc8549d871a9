import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, errors, jwtVerify } from 'jose'
import { z } from 'zod'
import type { Resources } from '../../access/types.ts'
import type { AuditLog } from '../../audit/record.ts'
import type { DirectorySpec } from '../../catalog/directory.ts'
import type { OauthClientSpec } from '../../catalog/oauth-client.ts'
import type { ProfileSpec } from '../../catalog/profile.ts'
import type { Clock } from '../../clock.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import { consentWords } from '../../identity/delegation/consent.ts'
import { listDelegations, makeDelegation } from '../../identity/delegation/delegations.ts'
import { createIdentity, findIdentity } from '../../identity/directory.ts'
import type { IssuerKeys } from '../../identity/joining/method.ts'
import { useProof } from '../../identity/joining/used-proofs.ts'
import type { ChainLink } from '../../identity/types.ts'
import type { Store } from '../../store/store.ts'
import { subjectKey } from '../directory/accounts.ts'
import { usualAgent } from './agents.ts'
import { type Grants, LONGEST_GRANT_MS } from './grants.ts'
import type { GrantHandler } from './provider.ts'
import { kindsOf, readResource } from './resources.ts'
import { shareOf } from './share.ts'

/** RFC 8725 section 3.11: an ID token of the same issuer, which many applications get to see, is none. */
const TYP = 'oauth-id-jag+jwt'
const ALGORITHMS = ['ES256', 'RS256', 'PS256', 'EdDSA', 'Ed25519']
const TOLERANCE_S = 10
/** It is used at once; one that is good for hours would be a key that lies about. */
const LONGEST_LIFE_S = 10 * 60
const LARGEST = 16 * 1024

const claimsSchema = z.object({
  iss: z.string().max(512),
  sub: z.string().min(1).max(512),
  aud: z.string(),
  client_id: z.string(),
  resource: z.string().max(2048),
  jti: z.string().min(1).max(512),
  iat: z.number(),
  exp: z.number(),
  scope: z.string().max(1024).optional(),
})

export interface AssertionParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly resources: Resources
  readonly grants: Grants
  readonly keys: IssuerKeys
  readonly places: { readonly web: string }
}

/**
 * The company says in the person's place that a client may act for him (Identity Assertion Authorization Grant, RFC 7523): only of a
 * client whose document names the directory, which proves with its key that it is that client, for a person who is known by issuer
 * and subject.
 */
export function assertionGrant(parts: AssertionParts): GrantHandler {
  const { store, audit, clock, resources, grants, places } = parts

  return async ({ clientId, parameters }) => {
    const refuse = async (why: string, cause?: unknown): Promise<never> => {
      await audit.append({ type: 'delegation.refused', data: { how: 'consent', client: clientId.slice(0, 512), by: 'directory', why } })
      throw new ChaperoneError('delegation_refused', 'The assertion proves nothing here.', { detail: why, cause })
    }
    const client = resources
      .list('oauth-client')
      .map(({ spec }) => spec as OauthClientSpec)
      .find((one) => one.client_id === clientId)
    if (!client?.directories?.length) return refuse('no directory speaks for this client')
    const { assertion } = parameters
    if (typeof assertion !== 'string' || assertion.length > LARGEST) return refuse('there is no assertion')

    let issuer: string
    let kid: string | undefined
    try {
      const header = decodeProtectedHeader(assertion)
      if (header.typ !== TYP) return await refuse(`its typ is ${String(header.typ).slice(0, 80)}`)
      kid = typeof header.kid === 'string' ? header.kid : undefined
      issuer = String(decodeJwt(assertion).iss)
    } catch (error) {
      if (error instanceof ChaperoneError) throw error
      return refuse('it is no signed token', error)
    }
    const directory = client.directories
      .flatMap((name) => {
        const spec = resources.find('directory', name)?.spec as DirectorySpec | undefined
        return spec ? [{ name, spec }] : []
      })
      .find(({ spec }) => spec.issuer === issuer)
    if (!directory) return refuse(`its issuer ${issuer.slice(0, 200)} does not speak for this client`)

    const keys = await parts.keys.of({ issuer, jwks: directory.spec.jwks, ca: directory.spec.ca, allowPrivate: directory.spec.allow_private }, kid)
    const verified = await jwtVerify(assertion, createLocalJWKSet({ keys: keys as { kty: string }[] }), {
      issuer,
      audience: `https://${places.web}`,
      algorithms: ALGORITHMS,
      typ: TYP,
      currentDate: new Date(clock.now()),
      clockTolerance: TOLERANCE_S,
    }).catch((error: unknown) => refuse(error instanceof errors.JOSEError ? error.message : 'it cannot be verified', error))
    const parsed = claimsSchema.safeParse(verified.payload)
    if (!parsed.success) return refuse(`its claim ${parsed.error.issues[0]?.path.join('.')} is not as it must be`)
    const claims = parsed.data
    if (claims.client_id !== clientId) return refuse('it is for another client')
    if (claims.exp - claims.iat > LONGEST_LIFE_S) return refuse('it lives too long')
    const resource = readResource(places.web, claims.resource)
    if (!resource) return refuse('its resource is none of ours')
    const { resource: wanted } = parameters
    if (wanted !== undefined && wanted !== claims.resource) return refuse('another resource is asked for than it is for')

    const account = await store.db
      .selectFrom('accounts')
      .select('identity_id')
      .where('directory', '=', directory.name)
      .where('subject', '=', subjectKey(issuer, claims.sub))
      .where('active', '=', 1)
      .where('deleted_at', 'is', null)
      .executeTakeFirst()
    const person = account && (await findIdentity(store.db, { id: account.identity_id }))
    if (person?.kind !== 'user' || person.state !== 'active') return refuse('its subject is nobody here')
    // Last: what is refused for another reason has not been used up.
    const once = { key: claims.jti, until: (claims.exp + TOLERANCE_S) * 1000 }
    if (!(await store.write((trx) => useProof(trx, `id-jag ${issuer}`, once)))) return refuse('it was used before')

    const readOnly = claims.scope !== undefined && !claims.scope.split(' ').includes('mcp')
    const profile = client.profile === undefined ? undefined : (resources.find('profile', client.profile)?.spec as ProfileSpec | undefined)
    if (client.profile !== undefined && !profile) return refuse('its profile is gone')
    const { limits, forMs } = shareOf(profile, {
      limits: {
        ...(resource.server === undefined ? {} : { resources: kindsOf(resource.server) }),
        ...(readOnly ? { effects: ['read'] as const } : {}),
      },
      forMs: LONGEST_GRANT_MS,
    })
    const name = await usualAgent(store, person, { id: clientId, name: client.client_name })
    const known = await findIdentity(store.db, { name })
    if (known && (known.kind !== 'agent' || known.ownerId !== person.id || known.state !== 'active')) return refuse(`${name} is disabled`)
    const by = { actor: { id: person.id, name: person.name, kind: person.kind } }
    if (!known)
      await audit.append({
        ...by,
        type: 'identity.changed',
        data: { op: 'create', kind: 'agent', name, owner: person.name, why: 'its directory speaks for a client' },
      })
    const agent =
      known ??
      (await store.write((trx) =>
        createIdentity(trx, { kind: 'agent', name, ownerId: person.id, roles: 'inherit', source: 'client', now: clock.now() }),
      ))
    const now = clock.now()
    const before = (await listDelegations(store.db, { fromId: person.id, toId: agent.id, now })).find(
      (one) => one.how === 'consent' && one.client === clientId && canonicalJson(one.limits) === canonicalJson(limits),
    )
    const words = consentWords({ from: person.name, to: name, limits, how: 'consent', client: { name: client.client_name }, forMs }).join(' ')
    if (!before)
      await audit.append({
        ...by,
        type: 'delegation.made',
        data: { from: person.id, to: agent.id, how: 'consent', client: clientId, by: directory.name, limits, words, expiresAt: now + forMs },
      })
    const delegation =
      before ??
      (await store.write((trx) =>
        makeDelegation(trx, { fromId: person.id, toId: agent.id, limits, expiresAt: now + forMs, how: 'consent', client: clientId, words, now }),
      ))
    const chain: readonly ChainLink[] = [{ identity: person.id }, { identity: agent.id, delegation: delegation.id }]
    const minted = await grants.mintOnce(chain, clientId, { audience: claims.resource })
    return { minted, scope: readOnly ? 'mcp:read' : 'mcp' }
  }
}
