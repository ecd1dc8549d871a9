import { decodeJwt, decodeProtectedHeader, errors } from 'jose'
import { z } from 'zod'
import type { Resources } from '../../access/types.ts'
import type { AuditLog } from '../../audit/record.ts'
import type { DirectorySpec } from '../../catalog/directory.ts'
import type { OauthClientSpec } from '../../catalog/oauth-client.ts'
import type { ProfileSpec } from '../../catalog/profile.ts'
import type { Clock } from '../../clock.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import { actFor } from '../../identity/delegation/act-for.ts'
import { listDelegations } from '../../identity/delegation/delegations.ts'
import { makeOwnAgent } from '../../identity/delegation/own-agent.ts'
import { shareOf } from '../../identity/delegation/share.ts'
import { findIdentity } from '../../identity/directory.ts'
import { TOLERANCE_S, verifyWith } from '../../identity/joining/issuer-keys.ts'
import type { IssuerKeys } from '../../identity/joining/method.ts'
import { useProof } from '../../identity/joining/used-proofs.ts'
import type { Sessions } from '../../identity/types.ts'
import type { Store } from '../../store/store.ts'
import { subjectKey } from '../directory/accounts.ts'
import { usualAgent } from './agents.ts'
import { type Grants, LONGEST_GRANT_MS } from './grants.ts'
import type { GrantHandler } from './provider.ts'
import { canonical, DEFAULT_SCOPE, kindsOf, readResource, resourceUrl } from './resources.ts'

/** RFC 8725 section 3.11: an ID token of the same issuer, which many applications get to see, is none. */
const TYP = 'oauth-id-jag+jwt'
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

interface AssertionParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly resources: Resources
  readonly grants: Grants
  readonly sessions: Pick<Sessions, 'start' | 'end' | 'endDelegations'>
  readonly keys: IssuerKeys
  readonly places: { readonly web: string; readonly data: string }
}

/**
 * The company says in the person's place that a client may act for him (Identity Assertion Authorization Grant, RFC 7523): only of a
 * client whose document names the directory, which proves with its key that it is that client, for a person who is known by issuer
 * and subject.
 */
export function assertionGrant(parts: AssertionParts): GrantHandler {
  const { store, audit, clock, resources, grants, places } = parts

  return async ({ clientId, parameters, holder }) => {
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
    const payload = await verifyWith(keys, assertion, { issuer, audience: `https://${places.web}`, typ: TYP, now: clock.now() }).catch(
      (error: unknown) => refuse(error instanceof errors.JOSEError ? error.message : 'it cannot be verified', error),
    )
    const parsed = claimsSchema.safeParse(payload)
    if (!parsed.success) return refuse(`its claim ${parsed.error.issues[0]?.path.join('.')} is not as it must be`)
    const claims = parsed.data
    if (claims.client_id !== clientId) return refuse('it is for another client')
    // By our clock too: one that says it was made tomorrow lives until then.
    const madeAt = Math.min(claims.iat, clock.now() / 1000 + TOLERANCE_S)
    if (claims.exp - madeAt > LONGEST_LIFE_S) return refuse('it lives too long')
    const resource = readResource(places.web, canonical(places, claims.resource))
    if (!resource) return refuse('its resource is none of ours')
    const { resource: wanted } = parameters
    if (wanted !== undefined && canonical(places, String(wanted)) !== canonical(places, claims.resource))
      return refuse('another resource is asked for than it is for')

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
      mostMs: LONGEST_GRANT_MS,
    })
    const name = await usualAgent(store, person, { id: clientId, name: client.client_name })
    const known = await findIdentity(store.db, { name })
    if (known && (known.kind !== 'agent' || known.ownerId !== person.id || known.state !== 'active')) return refuse(`${name} is disabled`)
    const by = { actor: { id: person.id, name: person.name, kind: person.kind } }
    const to = known ?? (await makeOwnAgent(parts, { by, owner: person, name, why: 'its directory speaks for a client' }))
    const before = (await listDelegations(store.db, { fromId: person.id, toId: to.id, now: clock.now() })).find(
      (one) => one.how === 'consent' && one.client === clientId && canonicalJson(one.limits) === canonicalJson(limits),
    )
    const scope = readOnly ? 'mcp:read' : DEFAULT_SCOPE
    const minted = await actFor(
      parts,
      {
        ...{ agreed: { directory: directory.name }, from: person, to, how: 'consent', limits, forMs },
        client: { id: clientId, name: client.client_name },
        ...(before ? { standing: before } : {}),
      },
      ({ chain }) =>
        grants.mintOnce(chain, clientId, { audience: resourceUrl(places.web, resource.server), scope, ...(holder === undefined ? {} : { holder }) }),
    )
    return { minted, scope }
  }
}
