/** A Chaperone as a process of its own, with one agent, its credentials, the roles of the workload and what they reach. */
import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { canonicalJson } from '../src/encoding/canonical-json.ts'
import { createIdentity } from '../src/identity/directory.ts'
import { newId } from '../src/ids.ts'
import { startServer } from '../src/server/start.ts'
import { freshKey } from './identity.ts'

export interface ChaperoneOrder {
  readonly documents: readonly { readonly kind: string; readonly name: string; readonly spec: unknown }[]
  readonly roles: readonly string[]
  /** agents beside the first, with the same roles */
  readonly more?: number
  /** the store; default: SQLite in a temporary directory */
  readonly store?: string
  /** for the database that this PostgreSQL serves: a server certificate for it */
  readonly databaseServer?: string
}

export interface ChaperoneSaid {
  readonly data: string
  readonly web: string
  readonly postgres: string
  readonly ca: string
  readonly identityCa: string
  readonly server: { readonly cert: string; readonly key: string }
  readonly agent: { readonly cert: string; readonly key: string; readonly token: string }
  /** the same agent in a second session: one session holds no more than 256 connections */
  readonly again: { readonly cert: string; readonly key: string }
  /** tokens of the other agents */
  readonly others: readonly string[]
  readonly database?: { readonly cert: string; readonly key: string; readonly clientCa: string }
}

export interface MeasuresSaid {
  readonly connections: number
  /** SQL texts since the start: known from before, or parsed */
  readonly known: number
  readonly parsed: number
}

const HOUR = 3_600_000

process.once('message', (order: ChaperoneOrder) => {
  run(order).catch((error) => {
    console.error(error)
    process.exit(1)
  })
})

async function run(order: ChaperoneOrder): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-bench-'))
  const running = await startServer({
    dataDir: join(dir, 'data'),
    listen: '127.0.0.1:0',
    webListen: '127.0.0.1:0',
    postgresListen: '127.0.0.1:0',
    logLevel: 'error',
    ...(order.store === undefined ? {} : { store: order.store }),
  })
  const { parts } = running
  const now = Date.now()
  const ids = new Map<string, string>()
  const { result: agent, epoch } = await parts.store.reduce(async (trx) => {
    for (const { kind, name, spec } of order.documents) {
      const id = newId('res')
      ids.set(`${kind}/${name}`, id)
      await trx
        .insertInto('documents')
        .values({ id, kind, name, labels: '{}', spec: canonicalJson(spec), digest: id, owner: null, applied_by: null, updated_at: now })
        .execute()
    }
    const owner = await createIdentity(trx, { kind: 'user', name: 'bench-owner', roles: [], source: 'document', now })
    return createIdentity(trx, { kind: 'agent', name: 'bench-agent', ownerId: owner.id, roles: order.roles, source: 'document', now })
  })
  await parts.raised(epoch)
  const chain = [{ identity: agent.id }]
  const session = await parts.sessions.start({ identityId: agent.id, chain, how: 'issue', lifeMs: 12 * HOUR })
  const claims = { v: 1 as const, identity: agent.id, credential: newId('crd'), session: session.id }
  const key = freshKey()
  const issued = await parts.ca.issueIdentity({ spki: key.spki, kind: 'agent', name: agent.name, claims, notAfter: now + 6 * HOUR })
  const { token } = await parts.tokens.mint({
    kind: 'agent',
    name: agent.name,
    claims,
    audience: `https://${running.trustDomain}`,
    notAfter: now + 14 * 60_000,
  })
  const others: string[] = []
  for (let i = 0; i < (order.more ?? 0); i++) others.push(await another(`bench-agent-${i + 2}`))
  const floorKey = freshKey()
  const floorServer = await parts.ca.issueServer({ spki: floorKey.spki, names: ['localhost', '127.0.0.1'], notAfter: now + 6 * HOUR })
  const database = order.databaseServer === undefined ? undefined : await databaseServer(ids.get(`postgres/${order.databaseServer}`)!)
  const said: ChaperoneSaid = {
    ...running.addresses,
    ca: await parts.ca.bundle('server'),
    identityCa: await parts.ca.bundle('identity'),
    server: { cert: floorServer.certificate, key: floorKey.pem },
    agent: { cert: issued.certificate, key: key.pem, token },
    again: await again(),
    others,
    ...(database ? { database } : {}),
  }
  process.send?.(said)

  async function again() {
    const next = await parts.sessions.start({ identityId: agent.id, chain, how: 'issue', lifeMs: 12 * HOUR })
    const fresh = { ...claims, credential: newId('crd'), session: next.id }
    const { certificate } = await parts.ca.issueIdentity({ spki: key.spki, kind: 'agent', name: agent.name, claims: fresh, notAfter: now + 6 * HOUR })
    return { cert: certificate, key: key.pem }
  }

  async function another(name: string): Promise<string> {
    const { result, epoch } = await parts.store.reduce((trx) =>
      createIdentity(trx, { kind: 'agent', name, ownerId: agent.ownerId ?? agent.id, roles: order.roles, source: 'document', now }),
    )
    await parts.raised(epoch)
    const its = await parts.sessions.start({ identityId: result.id, chain: [{ identity: result.id }], how: 'issue', lifeMs: 12 * HOUR })
    const minted = await parts.tokens.mint({
      kind: 'agent',
      name,
      claims: { v: 1, identity: result.id, credential: newId('crd'), session: its.id },
      audience: `https://${running.trustDomain}`,
      notAfter: now + 14 * 60_000,
    })
    return minted.token
  }

  async function databaseServer(resourceId: string) {
    const serverKey = freshKey()
    const certificate = await parts.ca.issueDatabaseServer({
      spki: serverKey.spki,
      resourceId,
      names: ['localhost', '127.0.0.1'],
      notAfter: now + 6 * HOUR,
    })
    return { cert: certificate.certificate, key: serverKey.pem, clientCa: await parts.ca.bundle(`database:${resourceId}`) }
  }

  process.on('message', async (order: { issue: number } | { measures: true }) => {
    process.send?.('measures' in order ? await measures() : await issueMany(order.issue))
  })

  async function measures(): Promise<MeasuresSaid> {
    const metrics = await parts.metrics.text()
    const read = (name: string) =>
      Number(
        metrics
          .split('\n')
          .find((line) => line.startsWith(`chaperone_${name} `))
          ?.split(' ')
          .at(-1) ?? 0,
      )
    return { connections: read('connections'), known: read('sql_texts_total{how="known"}'), parsed: read('sql_texts_total{how="parsed"}') }
  }

  /** W9: certificates, each with a key made beforehand, recorded like any other. */
  async function issueMany(count: number) {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const spki = publicKey.export({ type: 'spki', format: 'der' })
    const times: number[] = []
    let left = count
    const begin = performance.now()
    const worker = async () => {
      while (left-- > 0) {
        const before = performance.now()
        const credential = newId('crd')
        await parts.audit.append({ type: 'credential.issued', actor: { id: agent.id, name: agent.name }, session: session.id, credential })
        await parts.ca.issueIdentity({ spki, kind: 'agent', name: agent.name, claims: { ...claims, credential }, notAfter: Date.now() + 180_000 })
        times.push(performance.now() - before)
      }
    }
    await Promise.all(Array.from({ length: 16 }, worker))
    times.sort((a, b) => a - b)
    return {
      rps: count / ((performance.now() - begin) / 1000),
      p50: times[times.length >> 1],
      p99: times[Math.floor(times.length * 0.99)],
      failed: 0,
    }
  }

  process.on('SIGTERM', () => {
    running
      .stop()
      .then(() => rm(dir, { recursive: true, force: true }))
      .finally(() => process.exit(0))
  })
}

// Nobody is left to measure.
process.on('disconnect', () => process.exit())
