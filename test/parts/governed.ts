import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import type { Credential, Invitation } from '../../src/api/contract.ts'
import { type Held, issuerOf, type Keeper, keepCredential } from '../../src/client/credential.ts'
import { type DatabaseDoor, openDatabaseDoor } from '../../src/client/database.ts'
import { makeKeyPair } from '../../src/client/key-pair.ts'
import { profileOf } from '../../src/client/profile.ts'
import { join as joinAs } from '../../src/client/sign-in.ts'
import { freePort } from '../../src/demo/free-port.ts'
import { enrol, type Person } from '../../src/demo/person.ts'
import { type Postgres, startPostgres } from '../../src/demo/postgres.ts'
import type { ServerOptionsInput } from '../../src/server/options.ts'
import { type RunningServer, startServer } from '../../src/server/start.ts'

interface Test {
  after(work: () => Promise<void>): void
}

/** A whole Chaperone in this process, with dana as its administrator, signed in for real. Gone with the test. */
export async function governed(t: Test, options: Partial<ServerOptionsInput> = {}) {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-governed-'))
  const server = await startServer({
    dataDir: join(dir, 'data'),
    listen: '127.0.0.1:0',
    webListen: '127.0.0.1:0',
    postgresListen: '127.0.0.1:0',
    admin: 'dana',
    logLevel: 'silent',
    ...options,
  })
  t.after(() => server.stop())
  t.after(() => rm(dir, { recursive: true, force: true, maxRetries: 10 }))
  const dana = await enrol('dana', server.invitation!.line, join(dir, 'dana'))
  t.after(async () => dana.api.close())
  return { dir, server, dana }
}

export const apply = (person: Person, text: string) => person.api.call('POST', '/v1/apply', { files: [{ path: 'test.yaml', text }] })

/** Another person, invited by dana. */
export async function invited(t: Test, dana: Person, name: string, dir: string): Promise<Person> {
  const { invitation } = await dana.api.call<Invitation>('POST', '/v1/invitations', { name })
  const person = await enrol(name, invitation, join(dir, name))
  t.after(async () => person.api.close())
  return person
}

/** A credential that dana issues; nobody renews it. */
export async function issued(dana: Person, name: string, ttl: string): Promise<Held> {
  const pair = makeKeyPair()
  const credential = await dana.api.call<Credential>('POST', '/v1/issue', { name, csr: pair.csr, ttl })
  return {
    key: pair.key,
    certificate: credential.certificate,
    notAfter: credential.notAfter,
    profile: profileOf(dana.profile.address, pair.key, credential),
  }
}

/** A credential that an agent made for itself with a join token of this person, who decides about nothing that it asks for. */
export async function joined(by: Person, name: string, ttl: string): Promise<Held> {
  const { invitation } = await by.api.call<Invitation>('POST', '/v1/invitations', { name })
  const profile = await joinAs(invitation, { ttl })
  return { key: profile.key, certificate: profile.certificate, notAfter: profile.notAfter, profile }
}

/** Holds on to one credential, as a thief does. */
export const unrenewed = (held: Held): Keeper => ({
  current: () => held,
  onRenew: () => {},
  signal: new AbortController().signal,
  close: async () => {},
})

/** What a client of the person runs with: `boris/<client>`, renewed by itself. */
export async function renewed(t: Test, person: Person, client: string): Promise<Keeper> {
  const issuer = issuerOf(person.profile, { client })
  const keeper = await keepCredential(issuer, { skewMs: issuer.skewMs })
  t.after(() => keeper.close())
  return keeper
}

export async function door(t: Test, keeper: Keeper, resource: string, database: string): Promise<DatabaseDoor> {
  const opened = await openDatabaseDoor({ resource, database, keeper, at: { port: 0 } })
  t.after(() => opened.close())
  return opened
}

export async function connect(t: Test, { host, port, password }: DatabaseDoor, user: string, database: string): Promise<pg.Client> {
  const client = new pg.Client({ host, port, user, database, password, ssl: false })
  client.on('error', () => {})
  t.after(() => client.end().catch(() => {}))
  await client.connect()
  return client
}

/** A real PostgreSQL that trusts the authority which Chaperone has for it; `resource` must have been applied with `port`. */
export async function governedDatabase(
  t: Test,
  server: RunningServer,
  resource: string,
  options: { readonly port: number; readonly dir: string; readonly user: string },
): Promise<Postgres> {
  const { ca, resources } = server.parts
  const resourceId = resources.find('postgres', resource)!.resource.id
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const { certificate } = await ca.issueDatabaseServer({ spki, resourceId, names: ['localhost'], notAfter: Date.now() + 3_600_000 })
  const postgres = await startPostgres({
    dir: join(options.dir, 'postgres'),
    port: options.port,
    tls: {
      cert: certificate,
      key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
      clientCa: await ca.bundle(`database:${resourceId}`),
    },
    hba: `hostssl all ${options.user} 127.0.0.1/32 cert\nhost all postgres 127.0.0.1/32 scram-sha-256\n`,
  })
  t.after(() => postgres.stop())
  await asOwner(
    postgres,
    `CREATE ROLE ${options.user} LOGIN`,
    "CREATE TABLE things (id int PRIMARY KEY, name text); INSERT INTO things VALUES (1, 'one'), (2, 'two')",
    `GRANT SELECT ON things TO ${options.user}`,
  )
  return postgres
}

/**
 * `things`: a governed database, read by whoever has a role that may act as `reader` on it, in a world of these documents. `nap`: with a
 * function of that name which counts as a read, and takes half a minute.
 */
export async function things(
  t: Test,
  { dir, server, dana }: Awaited<ReturnType<typeof governed>>,
  documents: string,
  options: { readonly nap?: true } = {},
): Promise<Postgres> {
  const port = await freePort()
  const functions = options.nap ? ', functions: { read: [public.nap] }' : ''
  const resource = `kind: postgres\nname: things\nspec: { address: "localhost:${port}", databases: [postgres]${functions} }\n`
  await apply(dana, `${resource}---\n${documents}`)
  const postgres = await governedDatabase(t, server, 'things', { port, dir, user: 'reader' })
  if (options.nap) await asOwner(postgres, "CREATE FUNCTION nap() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); RETURN 1; END'")
  return postgres
}

/** A role for {@link things}. */
export const READER = `kind: role
name: reader
spec:
  allow:
    - { postgres: things, databases: [postgres], as: reader, can: read }
`

/** What the administrator of the database server does. */
export async function asOwner({ superuserUrl }: Postgres, ...statements: readonly string[]): Promise<void> {
  const owner = new pg.Client({ connectionString: superuserUrl })
  await owner.connect()
  try {
    for (const statement of statements) await owner.query(statement)
  } finally {
    await owner.end()
  }
}
