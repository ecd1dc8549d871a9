import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Resources } from '../../access/types.ts'
import type { AuditLog } from '../../audit/record.ts'
import { type AgentOauthSpec, isLoopbackRedirect, isRedirect, jwksSchema, type OauthClientSpec } from '../../catalog/oauth-client.ts'
import type { Clock } from '../../clock.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { compileGlob } from '../../encoding/glob.ts'
import { parseStrict } from '../../encoding/strict-json.ts'
import { ChaperoneError, type ReasonCode } from '../../errors.ts'
import { makeLru } from '../../identity/lru.ts'
import type { Database, Store, Write } from '../../store/store.ts'
import type { OauthClientTable } from '../../store/tables-identity.ts'
import type { Outgoing } from '../../vault/outbound.ts'
import { type Holder, uriOf } from './holder.ts'

/** What is believed of a client, as RFC 7591 names it. */
export interface ClientMetadata {
  readonly client_id: string
  readonly client_name: string
  readonly redirect_uris: readonly string[]
  readonly application_type: 'native' | 'web'
  readonly grant_types: readonly string[]
  readonly response_types: readonly string[]
  readonly token_endpoint_auth_method: 'none' | 'private_key_jwt' | 'tls_client_auth'
  readonly tls_client_auth_san_uri?: string
  readonly jwks?: unknown
  readonly jwks_uri?: string
  readonly client_uri?: string
}

interface ClientsParts {
  readonly store: Store
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly resources: Pick<Resources, 'list'>
  readonly outgoing: Outgoing
  /** globs of host names from which metadata documents are fetched */
  readonly hosts: readonly string[]
  readonly trustDomain: string
}

export interface Clients {
  /** Undefined when it is unknown. `holder`: whose certificate was shown; an agent is a client by that alone. Throws `upstream_unavailable`, `upstream_timeout`, `malformed` for a document that cannot be had or believed. */
  find(clientId: string, holder?: Holder): Promise<ClientMetadata | undefined>
  /** Whether an administrator has named it, or the host that its document lies at: anybody else may be whoever he likes. */
  named(clientId: string): boolean
  /** The agent that a client is when it comes by itself. */
  agentOf(clientId: string): string | undefined
  /** A client that registers itself (RFC 7591), with what it says. Throws `malformed`. */
  register(said: Readonly<Record<string, unknown>>): Promise<void>
  /** A person has agreed to it: it is no stranger's any more, and stays. */
  agreedTo(clientId: string): Promise<void>
  /** Forgets who registered and was never used, or not for long. */
  sweep(): Promise<void>
}

export const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
/** Of a client that is an agent. */
const BY_ITSELF = ['client_credentials', TOKEN_EXCHANGE]

const FRESH = { shortestMs: 5 * 60_000, longestMs: 24 * 3_600_000 }
/** While its host cannot be reached, what it published last counts for so long beyond its time: else every client of it would lose its sign-in at once. */
const STALE_MS = 3_600_000
/** What could not be had is not asked for again for so long: a stranger names the address. */
const FAILED_MS = 60_000
const OUT_OF_REACH: ReadonlySet<ReasonCode> = new Set(['upstream_unavailable', 'upstream_timeout'])
const MOST_BYTES = 32 * 1024
const FETCH_MS = 5_000
/** Clients whose documents were fetched; with more, those seen longest ago are forgotten, and fetched again when they come. */
const MOST_FETCHED = 2_000
/** Clients that registered themselves. They cannot be asked again who they are, so none makes room for another: when it is full, it is full. */
const MOST_REGISTERED = 2_000
/** Whoever registers goes on to a person at once; who comes back signs in again within a day. */
const KEPT = { unusedMs: 3_600_000, usedMs: 30 * 24 * 3_600_000 }

/** What we read of a document; the rest may be whatever it likes. */
const documentSchema = z.object({
  client_id: z.string(),
  client_name: z.string().min(1).max(200),
  redirect_uris: z.array(z.string().max(512)).min(1).max(50),
  client_uri: z
    .url({ protocol: /^https$/ })
    .max(512)
    .optional()
    .catch(undefined),
  token_endpoint_auth_method: z.enum(['none', 'private_key_jwt']).default('none'),
  jwks: jwksSchema.optional(),
  jwks_uri: z
    .url({ protocol: /^https$/ })
    .max(512)
    .optional(),
  client_secret: z.never().optional(),
  client_secret_expires_at: z.never().optional(),
})

const registrationSchema = z.object({
  client_id: z.string(),
  // Shown as what it calls itself; nobody vouches for it.
  client_name: z.string().min(1).max(100).default('A client without a name'),
  redirect_uris: z.array(z.string().max(512).refine(isRedirect, 'https, or http on this computer')).min(1).max(20),
  token_endpoint_auth_method: z.enum(['none', 'private_key_jwt']),
  jwks: jwksSchema.optional(),
  jwks_uri: z
    .url({ protocol: /^https$/ })
    .max(512)
    .optional(),
})

export function openClients({ store, audit, clock, resources, outgoing, hosts, trustDomain }: ClientsParts): Clients {
  const trusted = hosts.map(compileGlob)
  const chosen = hosts.filter((host) => host !== '*').map(compileGlob)
  const failed = makeLru<{ readonly until: number; readonly error: ChaperoneError }>(256)
  const under = new Map<string, Promise<ClientMetadata>>()

  const documents = () => resources.list('oauth-client').map(({ spec }) => spec as OauthClientSpec)
  const written = (clientId: string, holder: Holder | undefined): ClientMetadata | undefined => {
    const spec = documents().find((one) => one.client_id === clientId)
    if (spec) return ofDocument(spec)
    return holder && isItself(clientId, holder) ? byCertificate(clientId, uriOf(holder, trustDomain)) : ofAgent(clientId)
  }
  const agents = () => resources.list('agent').map(({ resource, spec }) => ({ name: resource.name, spec: spec as { oauth?: AgentOauthSpec } }))
  const ofAgent = (clientId: string): ClientMetadata | undefined => {
    const oauth = agents().find(({ name }) => name === clientId)?.spec.oauth
    return oauth && byItself({ client_id: clientId, client_name: clientId, ...oauth })
  }

  return {
    async find(clientId, holder) {
      const known = written(clientId, holder)
      if (known) return known
      const row = await store.db.selectFrom('oauth_clients').selectAll().where('client_id', '=', clientId).executeTakeFirst()
      if (row?.source === 'registered') return (row.fresh_until ?? 0) > clock.now() ? (JSON.parse(row.metadata) as ClientMetadata) : undefined
      const url = documentUrl(clientId)
      if (!url) return undefined
      // Looked at each time: who is no longer trusted is not let in by what was once fetched.
      if (!trusted.some((matches) => matches(url.hostname))) return undefined
      if (row && (row.fresh_until ?? 0) > clock.now()) return JSON.parse(row.metadata) as ClientMetadata
      const last = row && (row.fresh_until ?? 0) + STALE_MS > clock.now() ? (JSON.parse(row.metadata) as ClientMetadata) : undefined
      try {
        return await asked(url, clientId, row)
      } catch (error) {
        if (last && error instanceof ChaperoneError && OUT_OF_REACH.has(error.code)) return last
        // It has answered, with something else: what it said before is taken back, whatever happens to it next.
        if (last) await store.write((trx) => trx.updateTable('oauth_clients').set({ fresh_until: 0 }).where('client_id', '=', clientId).execute())
        throw error
      }
    },

    named(clientId) {
      const host = documentUrl(clientId)?.hostname
      return documents().some((one) => one.client_id === clientId) || (host !== undefined && chosen.some((matches) => matches(host)))
    },

    agentOf(clientId) {
      return documents().find((one) => one.client_id === clientId)?.agent ?? (ofAgent(clientId) ? clientId : undefined)
    },

    async register(said) {
      const parsed = registrationSchema.safeParse(said)
      const issue = parsed.error?.issues[0]
      if (!parsed.success)
        throw new ChaperoneError('malformed', 'A client cannot be registered like this.', { detail: `${issue?.path.join('.')}: ${issue?.message}` })
      const metadata = forPeople(parsed.data)
      await assertRoom(store.db)
      await tell(metadata, 'registered', false)
      await store.write(async (trx) => {
        // Once more where nobody can come between.
        await assertRoom(trx)
        const now = clock.now()
        const values = { source: 'registered' as const, metadata: canonicalJson(metadata), created_at: now, updated_at: now }
        await trx
          .insertInto('oauth_clients')
          .values({ client_id: metadata.client_id, ...values, fresh_until: now + KEPT.unusedMs })
          .execute()
      })
    },

    async agreedTo(clientId) {
      await store.write((trx) =>
        trx
          .updateTable('oauth_clients')
          .set({ updated_at: clock.now(), fresh_until: clock.now() + KEPT.usedMs })
          .where('client_id', '=', clientId)
          .where('source', '=', 'registered')
          .execute(),
      )
    },

    async sweep() {
      await store.write((trx) => trx.deleteFrom('oauth_clients').where('source', '=', 'registered').where('fresh_until', '<=', clock.now()).execute())
    },
  }

  /** By one at a time, and not again at once where that failed. */
  async function asked(url: URL, clientId: string, row: OauthClientTable | undefined): Promise<ClientMetadata> {
    const before = failed.get(clientId)
    if (before && before.until > clock.now()) throw before.error
    const already = under.get(clientId)
    if (already) return already
    const mine = fetched(url, clientId, row).finally(() => under.delete(clientId))
    under.set(clientId, mine)
    return mine
  }

  async function fetched(url: URL, clientId: string, row: OauthClientTable | undefined): Promise<ClientMetadata> {
    try {
      const answer = await outgoing.fetch({ url, headers: { accept: 'application/json' }, maxBytes: MOST_BYTES, timeoutMs: FETCH_MS })
      if (answer.status >= 500) throw new ChaperoneError('upstream_unavailable', `${url.origin} answered with status ${answer.status}.`)
      // A redirect is one of the answers that are none: where it leads nobody has looked.
      if (answer.status !== 200) throw unbelieved(clientId, `it was answered with ${answer.status}`)
      const metadata = readDocument(clientId, await answer.text())
      await keep(metadata, clock.now() + freshFor(answer.headers), row)
      return metadata
    } catch (thrown) {
      const error = thrown instanceof ChaperoneError ? thrown : unbelieved(clientId, String(thrown))
      failed.set(clientId, { until: clock.now() + FAILED_MS, error })
      throw error
    }
  }

  async function assertRoom(db: Database | Write): Promise<void> {
    const { count } = await db
      .selectFrom('oauth_clients')
      .select((row) => row.fn.countAll<number>().as('count'))
      .where('source', '=', 'registered')
      .where('fresh_until', '>', clock.now())
      .executeTakeFirstOrThrow()
    if (Number(count) >= MOST_REGISTERED) throw new ChaperoneError('too_many', 'Too many clients have registered themselves.')
  }

  async function tell(
    { client_id, client_name, redirect_uris }: ClientMetadata,
    source: OauthClientTable['source'],
    changed: boolean,
  ): Promise<void> {
    await audit.append({ type: 'client.registered', data: { client: client_id, name: client_name, source, redirects: redirect_uris, changed } })
  }

  async function keep(metadata: ClientMetadata, freshUntil: number, before: OauthClientTable | undefined): Promise<void> {
    const now = clock.now()
    const text = canonicalJson(metadata)
    if (before?.metadata !== text) await tell(metadata, 'fetched', before !== undefined)
    await store.write(async (trx) => {
      const values = { source: 'fetched' as const, metadata: text, updated_at: now, fresh_until: freshUntil }
      await trx
        .insertInto('oauth_clients')
        .values({ client_id: metadata.client_id, created_at: now, ...values })
        .onConflict((conflict) => conflict.column('client_id').doUpdateSet(values))
        .execute()
      const surplus = await trx
        .selectFrom('oauth_clients')
        .select('client_id')
        .where('source', '=', 'fetched')
        .orderBy('updated_at', 'desc')
        .offset(MOST_FETCHED)
        .limit(100)
        .execute()
      const ids = surplus.map((one) => one.client_id)
      if (ids.length > 0) await trx.deleteFrom('oauth_clients').where('client_id', 'in', ids).execute()
    })
  }
}

/** A person's own certificate is not for tools: what he runs has one of its own. */
export const isItself = (clientId: string, { session: { principal } }: Holder): boolean => principal.kind === 'agent' && principal.name === clientId

const byCertificate = (name: string, uri: string): ClientMetadata => ({
  client_id: name,
  client_name: name,
  redirect_uris: [],
  application_type: 'web',
  grant_types: BY_ITSELF,
  response_types: [],
  token_endpoint_auth_method: 'tls_client_auth',
  tls_client_auth_san_uri: uri,
})

const byItself = ({ jwks, jwks_uri, ...given }: Pick<ClientMetadata, 'client_id' | 'client_name'> & AgentOauthSpec): ClientMetadata => ({
  ...given,
  ...(jwks === undefined ? {} : { jwks }),
  ...(jwks_uri === undefined ? {} : { jwks_uri }),
  redirect_uris: [],
  application_type: 'web',
  grant_types: BY_ITSELF,
  response_types: [],
  token_endpoint_auth_method: 'private_key_jwt',
})

function ofDocument(spec: OauthClientSpec): ClientMetadata {
  const { agent, client_id, client_name, redirect_uris, jwks, jwks_uri, client_uri, token_endpoint_auth_method, directories } = spec
  const keys = { ...(jwks === undefined ? {} : { jwks }), ...(jwks_uri === undefined ? {} : { jwks_uri }) }
  const more = [...(agent === undefined ? [] : BY_ITSELF), ...(directories?.length ? [JWT_BEARER] : [])]
  if (redirect_uris.length === 0) return { ...byItself({ client_id, client_name, ...keys }), grant_types: more }
  const signs = jwks !== undefined || jwks_uri !== undefined
  const method = more.length > 0 ? 'private_key_jwt' : (token_endpoint_auth_method ?? (signs ? 'private_key_jwt' : 'none'))
  const made = forPeople({ client_id, client_name, redirect_uris, client_uri, token_endpoint_auth_method: method, ...keys })
  return { ...made, grant_types: [...made.grant_types, ...more] }
}

/** A client that sends people here. Loopback ports are free only for programs of the person's own computer (RFC 8252 section 7.3). */
function forPeople(
  given: Pick<ClientMetadata, 'client_id' | 'client_name' | 'redirect_uris' | 'token_endpoint_auth_method'> & {
    readonly jwks?: unknown
    readonly jwks_uri?: string | undefined
    readonly client_uri?: string | undefined
  },
): ClientMetadata {
  const { jwks, jwks_uri, client_uri, ...rest } = given
  return {
    ...rest,
    ...(jwks === undefined ? {} : { jwks }),
    ...(jwks_uri === undefined ? {} : { jwks_uri }),
    ...(client_uri === undefined ? {} : { client_uri }),
    application_type: given.redirect_uris.some(isLoopbackRedirect) ? 'native' : 'web',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  }
}

/** A client id that is the address of a metadata document (CIMD draft, section 3): https, a path, nothing that could be written in two ways. */
export function documentUrl(clientId: string): URL | undefined {
  if (!/^https:\/\/[\x21-\x7e]{1,500}$/.test(clientId) || /[#\\@]/.test(clientId)) return undefined
  const url = URL.parse(clientId)
  return url && url.href === clientId && url.pathname !== '/' ? url : undefined
}

/** Exported for tests. Throws `malformed`. */
export function readDocument(clientId: string, text: string): ClientMetadata {
  let json: unknown
  try {
    json = parseStrict(text, { maxBytes: MOST_BYTES }).value
  } catch {
    throw unbelieved(clientId, 'it is not JSON, or says something twice')
  }
  const parsed = documentSchema.safeParse(json)
  if (!parsed.success) throw unbelieved(clientId, `${parsed.error.issues[0]?.path.join('.')}: ${parsed.error.issues[0]?.message}`)
  const { client_secret: _secret, client_secret_expires_at: _expires, ...document } = parsed.data
  if (document.client_id !== clientId) throw unbelieved(clientId, 'it names another client_id')
  const redirects = document.redirect_uris.filter(isRedirect)
  // Of custom schemes nobody knows whose they are; a client that has nothing else cannot be answered.
  if (redirects.length === 0) throw unbelieved(clientId, 'none of its redirect_uris is https or on this computer')
  if (document.token_endpoint_auth_method === 'private_key_jwt' && (document.jwks === undefined) === (document.jwks_uri === undefined))
    throw unbelieved(clientId, 'private_key_jwt needs either jwks or jwks_uri')
  return forPeople({ ...document, redirect_uris: redirects })
}

function freshFor(headers: Headers): number {
  const seconds = Number(/(?:^|,)\s*max-age\s*=\s*(\d{1,9})/i.exec(headers.get('cache-control') ?? '')?.[1] ?? 0)
  return Math.min(Math.max(seconds * 1000, FRESH.shortestMs), FRESH.longestMs)
}

const unbelieved = (clientId: string, why: string) =>
  new ChaperoneError('malformed', 'The metadata document of this client cannot be used.', {
    detail: `${clientId.slice(0, 200)}: ${why}`,
    fix: 'In a closed network pin it: a document of kind oauth-client.',
  })

/** `Claude Code` -> `claude-code`: a segment of an agent's name. */
export function agentSegment(clientName: string, clientId: string): string {
  const name = clientName
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 40)
    .replace(/-+$/, '')
  return name === '' ? `client-${shortHash(clientId)}` : name
}

/** Tells clients apart that call themselves the same. */
export const shortHash = (clientId: string): string => createHash('sha256').update(clientId).digest('hex').slice(0, 6)
