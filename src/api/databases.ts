import { z } from 'zod'
import { readCsr } from '../ca/csr.ts'
import type { PostgresDatabaseSpec } from '../catalog/postgres-database.ts'
import { InvalidDocuments, plan } from '../documents/plan.ts'
import { readDocuments } from '../documents/read.ts'
import { loadSnapshot } from '../documents/stored.ts'
import { ChaperoneError } from '../errors.ts'
import { hostAndPort } from '../gateways/postgres/database/upstream.ts'
import type { SetupAsk } from '../gateways/postgres/setup/setup.ts'
import { setupSteps } from '../gateways/postgres/setup/steps.ts'
import { type DatabaseUser, usersInRoles } from '../gateways/postgres/setup/users.ts'
import { newId } from '../ids.ts'
import type { Resource } from '../policy/types.ts'
import { actorOf, applierOf } from './caller.ts'
import type { DatabaseCheck, DatabaseChecked, DatabaseLook, DatabaseSetupSteps, DatabaseSigned } from './databases-contract.ts'
import type { ServerWish } from './mcp-contract.ts'
import { serverWish } from './mcp-scan.ts'
import type { ApiParts } from './parts.ts'
import { type Route, signedIn } from './route.ts'
import { csrText, duration, ttlText } from './words.ts'

/** A certificate that somebody copies by hand: long enough not to be a nuisance, short enough to be practised. */
const SERVER_CERTIFICATE_LIFE = '90d'
const LIFE = { shortestMs: 60_000, longestMs: 398 * 24 * 3_600_000 }
const userText = z.string().min(1).max(63)
const MOST_USERS = 20
const usersAsked = z.strictObject({ read: z.array(userText).max(MOST_USERS), write: z.array(userText).max(MOST_USERS) })

const stepsAsked = usersAsked.extend({
  schemas: z.array(userText).max(50),
  owner: userText.optional(),
  from: z
    .string()
    .regex(/^[\w.:/-]{1,80}$/)
    .optional(),
})

/** A PostgreSQL server before it is added, what its administrator has to do, and whether it is done. */
export function databaseRoutes(parts: ApiParts): readonly Route[] {
  const { documents, store, state, ca, audit, clock, databases } = parts

  return [
    signedIn<ServerWish>({
      method: 'POST',
      path: '/v1/databases/look',
      who: { by: 'verbs', anyOf: ['apply'] },
      body: z.strictObject(serverWish),
      summary: ({ body }) => `look at the database server ${body.name}`,
      async handle({ body: { name, labels, spec }, session, permit }): Promise<DatabaseLook> {
        const text = JSON.stringify({ kind: 'postgres', name, ...(labels ? { labels } : {}), spec }, null, 2)
        const read = readDocuments([{ path: 'db add', text }], documents.kinds)
        const [document] = read.documents
        if (!document || read.problems.some(({ level }) => level === 'error')) throw new InvalidDocuments(read.problems)
        const snapshot = await loadSnapshot(store.db)
        const { warnings } = plan(documents, snapshot, { documents: [document] }, applierOf(parts, session), clock.now())
        const known = snapshot.documents.find((one) => one.kind === 'postgres' && one.name === document.name)
        const resource: Resource = { kind: 'postgres', id: known?.id ?? newId('res', clock.now()), name: document.name, labels: document.labels }
        const wished = document.spec as unknown as PostgresDatabaseSpec
        const { findings } = await databases.look({ permit: permit!, resource, spec: wished, applied: known !== undefined })
        return { findings, warnings }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/databases/:name/setup',
      who: { by: 'verbs', anyOf: ['apply', 'ca'] },
      summary: ({ params }) => `how to set up the database server ${params.name}`,
      async handle({ params, query, permit }): Promise<DatabaseSetupSteps> {
        const { resource, spec } = named(params.name)
        const asked = stepsAsked.safeParse({
          read: query.getAll('read'),
          write: query.getAll('write'),
          schemas: query.getAll('schema'),
          owner: query.get('owner') ?? undefined,
          from: query.get('from') ?? undefined,
        })
        if (!asked.success) throw new ChaperoneError('usage', 'A name in the query is empty or too long, or there are too many.')
        const { read, write, schemas, owner, from = await reachedFrom({ permit: permit!, resource, spec }) } = asked.data
        const users = await usersFor(resource, { read, write })
        const steps = setupSteps({ name: resource.name, spec, users, schemas: schemas.length > 0 ? schemas : ['public'], owner, from })
        return { steps, users }
      },
    }),
    signedIn<DatabaseCheck>({
      method: 'POST',
      path: '/v1/databases/:name/check',
      who: { by: 'verbs', anyOf: ['apply', 'ca'] },
      body: usersAsked,
      summary: ({ params }) => `check the database server ${params.name}`,
      async handle({ params, body, permit }): Promise<DatabaseChecked> {
        const { resource, spec } = named(params.name)
        const users = await usersFor(resource, body)
        return { parts: await databases.check({ permit: permit!, resource, spec, users }) }
      },
    }),
    signedIn<{ csr: string; names?: string[]; ttl?: string }>({
      method: 'POST',
      path: '/v1/databases/:name/server-certificate',
      who: { by: 'verbs', anyOf: ['ca'] },
      body: z.strictObject({ csr: csrText, names: z.array(z.string().min(1).max(253)).min(1).max(20).optional(), ttl: ttlText.optional() }),
      summary: ({ params, body }) => `sign the certificate of the database server ${params.name}${body.names ? ` for ${body.names.join(', ')}` : ''}`,
      async handle({ params, body, session }): Promise<DatabaseSigned> {
        const { resource, spec } = named(params.name)
        const { spki } = readCsr(body.csr)
        // Names are what an administrator says, never what the request says.
        const names = body.names ?? [spec.tls.name ?? hostAndPort(spec.address).host]
        const notAfter = clock.now() + duration(body.ttl ?? SERVER_CERTIFICATE_LIFE, LIFE, 'The certificate of a server')
        await audit.append({
          ...actorOf(session),
          type: 'credential.issued',
          data: { purpose: `database:${resource.id}`, use: 'server', names, notAfter },
        })
        const { certificate } = await ca.issueDatabaseServer({ spki, resourceId: resource.id, names, notAfter })
        return { certificate, names, notAfter }
      },
    }),
  ]

  function named(name: string | undefined): { readonly resource: Resource; readonly spec: PostgresDatabaseSpec } {
    const found = state.current().find('postgres', name ?? '') as { resource: Resource; spec: PostgresDatabaseSpec } | undefined
    if (!found)
      throw new ChaperoneError('not_found', `There is no database server ${name}.`, {
        fix: 'Apply its document first; `chaperone db add` writes one.',
      })
    return found
  }

  /** Those that were named; else those that roles name; else one to read with. */
  async function usersFor(resource: Resource, { read, write }: DatabaseCheck): Promise<readonly DatabaseUser[]> {
    const given = [
      ...read.filter((name) => !write.includes(name)).map((name) => ({ name, reads: true })),
      ...write.map((name) => ({ name, reads: false })),
    ]
    if (given.length > 0) return given
    const { documents: stored } = await loadSnapshot(store.db)
    const found = usersInRoles(stored, resource).slice(0, MOST_USERS)
    return found.length > 0 ? found : [{ name: `${resource.name.replace(/[^a-z0-9_]/g, '_').slice(0, 60)}_ro`, reads: true }]
  }

  /** What stands in pg_hba.conf for us. A server that cannot be reached yet is no reason to say nothing. */
  async function reachedFrom(ask: SetupAsk): Promise<string> {
    try {
      const { from } = await databases.look({ ...ask, applied: true })
      const address = from.replace(/^::ffff:/, '')
      return `${address}/${address.includes(':') ? 128 : 32}`
    } catch (error) {
      if (!(error instanceof ChaperoneError)) throw error
      return 'ADDRESS-OF-CHAPERONE/32'
    }
  }
}
