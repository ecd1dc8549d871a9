import type { McpServerSpec } from '../catalog/mcp-server.ts'
import type { SecretSpec } from '../catalog/secret.ts'
import { secretUsers } from '../documents/secret-users.ts'
import { aboutLogin, aboutMachine, aboutSecret, type CredentialNote } from '../vault/credential-notes.ts'
import type { ApiParts } from './parts.ts'
import { type Route, signedIn } from './route.ts'
import type { UpstreamCredentialRow, UpstreamCredentials } from './upstream-credentials-contract.ts'

/** A secret that nobody changed for so long is one that somebody may have copied long ago. */
const OLD_MS = 90 * 24 * 3_600_000
/** What was not used for so long is probably used by nobody. */
const IDLE_MS = 30 * 24 * 3_600_000

const DAY_MS = 24 * 3_600_000

export function upstreamCredentialRoutes(parts: ApiParts): readonly Route[] {
  return [
    signedIn({
      method: 'GET',
      path: '/v1/upstream-credentials',
      who: { by: 'verbs', anyOf: ['secrets'] },
      summary: () => 'list upstream credentials',
      handle: async (): Promise<UpstreamCredentials> => ({ credentials: await credentialsOf(parts) }),
    }),
  ]
}

async function credentialsOf({ vault, references, logins, notes, state, store, clock }: ApiParts): Promise<readonly UpstreamCredentialRow[]> {
  const current = state.current()
  const now = clock.now()
  const noted = await notes.all()
  const nameOf = (id: string | undefined) => (id === undefined ? undefined : (current.identity(id)?.name ?? id))
  const users = secretUsers(current)
  const usersOf = (name: string): readonly string[] => users.get(name) ?? []
  const facts = (note: CredentialNote | undefined, setAt: number | undefined) => {
    const setBy = nameOf(note?.setBy)
    return {
      ...(setBy === undefined ? {} : { setBy }),
      ...(setAt === undefined ? {} : { setAt }),
      ...(note?.usedAt === undefined ? {} : { usedAt: note.usedAt }),
    }
  }
  const rows: UpstreamCredentialRow[] = []

  for (const { name, updatedAt } of await vault.list()) {
    const note = noted.get(aboutSecret(name))
    const users = usersOf(name)
    const old = now - updatedAt > OLD_MS
    const hints = [
      ...(users.length === 0 ? [`no document names it: chaperone secret delete ${name}`] : idle(note, updatedAt, now)),
      ...(old ? [`unchanged for ${Math.floor((now - updatedAt) / DAY_MS)} days; make a new one and: chaperone secret set ${name}`] : []),
    ]
    rows.push({ kind: 'sealed', name, usedBy: users, ...facts(note, updatedAt), hints })
  }

  const elsewhere = current.list('secret')
  const troubles = await Promise.all(elsewhere.map(({ resource }) => references.trouble(resource.name)))
  for (const [i, { resource, spec }] of elsewhere.entries()) {
    const note = noted.get(aboutSecret(resource.name))
    const users = usersOf(resource.name)
    const applied = await store.db.selectFrom('documents').select(['applied_by', 'updated_at']).where('id', '=', resource.id).executeTakeFirst()
    const trouble = troubles[i]
    const hints = [
      ...(trouble ? [[trouble.message, trouble.fix].filter(Boolean).join(' ')] : []),
      ...(users.length === 0 ? [`no document names it: chaperone delete secret ${resource.name}`] : idle(note, applied?.updated_at ?? now, now)),
    ]
    rows.push({
      kind: 'elsewhere',
      name: resource.name,
      from: placeOf(spec as SecretSpec),
      usedBy: users,
      ...facts({ setBy: applied?.applied_by ?? undefined, setAt: undefined, usedAt: note?.usedAt }, applied?.updated_at),
      hints,
    })
  }

  const servers = new Map(current.list('mcp').map(({ resource, spec }) => [resource.id, { name: resource.name, spec: spec as McpServerSpec }]))
  for (const { key, issuer, expiresAt, obtainedAt, over, bound, fits } of await logins.list()) {
    const server = servers.get(key.resource)
    const note = noted.get(aboutLogin(key))
    const name = server ? `mcp/${server.name}` : `mcp/${key.resource}`
    const of = key.subject === '*' ? undefined : nameOf(key.subject)
    const wanted = server?.spec.auth?.oauth !== undefined
    const ended = over || (expiresAt !== undefined && expiresAt <= now)
    const changed = wanted && !(fits(server.spec) && (server.spec.auth!.oauth!.for === 'everybody') === (key.subject === '*'))
    const again = `log in again: chaperone mcp login ${server?.name}`
    const hints = [
      ...(wanted ? [] : ['its server is gone, or wants no login any more']),
      ...(wanted && changed ? [`it was given for what the document said before; ${again}`] : wanted && ended ? [`it is over; ${again}`] : []),
      ...(wanted && !changed && !ended ? idle(note, note?.setAt ?? obtainedAt, now) : []),
      ...(of !== undefined && current.identity(key.subject)?.state !== 'active' ? ['whose it is, is disabled or gone'] : []),
    ]
    rows.push({
      kind: 'login',
      name,
      ...(of === undefined ? {} : { of }),
      from: issuer,
      usedBy: server ? [name] : [],
      ...facts(note, note?.setAt ?? obtainedAt),
      ...(expiresAt === undefined ? {} : { expiresAt }),
      ...(ended || changed ? { over: true as const } : {}),
      ...(bound ? { bound: true as const } : {}),
      hints,
    })
  }

  for (const [id, { name, spec }] of servers) {
    const { client_credentials: client, identity } = spec.auth ?? {}
    if (!client && !identity) continue
    const from = client
      ? client.authorization_server
      : identity!.exchange
        ? identity!.exchange.authorization_server
        : `audience ${identity!.audience}`
    rows.push({
      kind: client ? 'client' : 'minted',
      name: `mcp/${name}`,
      ...(from === undefined ? {} : { from }),
      usedBy: [`mcp/${name}`],
      ...facts(noted.get(aboutMachine(id)), undefined),
      hints: [],
    })
  }

  for (const { resource, spec } of current.list('postgres')) {
    if ((spec as { auth?: unknown }).auth !== 'certificate') continue
    rows.push({ kind: 'certificate', name: `postgres/${resource.name}`, usedBy: [`postgres/${resource.name}`], hints: [] })
  }
  return rows
}

const idle = (note: CredentialNote | undefined, since: number, now: number): string[] => {
  const last = note?.usedAt ?? since
  return now - last > IDLE_MS ? [`not used for ${Math.floor((now - last) / DAY_MS)} days`] : []
}

/** Where it is, never what: a command's arguments may hold an address or a path that is nobody's business. */
const placeOf = ({ from }: SecretSpec): string =>
  'file' in from ? `file ${from.file}` : 'env' in from ? `env ${from.env}` : `command ${from.command[0] ?? ''}`
