/** A node of Chaperone for W6: the first one makes who and what the workload needs; others join its store. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { canonicalJson } from '../src/encoding/canonical-json.ts'
import { createIdentity } from '../src/identity/directory.ts'
import { newId } from '../src/ids.ts'
import { startServer } from '../src/server/start.ts'
import { watchGoodbyes } from './goodbyes.ts'
import { freshKey } from './identity.ts'

export interface NodeOrder {
  readonly store?: string
  /** of the first node: this one joins it */
  readonly rootKey?: string
  readonly documents?: readonly { readonly kind: string; readonly name: string; readonly spec: unknown }[]
  /** of the agents that are locked: one session holds no more than 256 connections, and one of two agents 512 requests over MCP */
  readonly sessions?: number
}

export interface Shown {
  readonly cert: string
  readonly key: string
}

export interface NodeSaid {
  readonly data: string
  readonly postgres: string
  readonly rootKey: string
  readonly ca: string
  readonly sessions: readonly Shown[]
  readonly operator: Shown
  readonly database: { readonly cert: string; readonly key: string; readonly clientCa: string }
}

/** When the node ended what was under way at a moment, in microseconds of `micros`. */
export interface NodeEnds {
  readonly calls: readonly number[]
  readonly statements: readonly number[]
}

const HOUR = 3_600_000
const goodbyes = watchGoodbyes()

process.once('message', (order: NodeOrder) => {
  run(order).catch((error) => {
    console.error(error)
    process.exit(1)
  })
  process.on('message', ({ endsSince }: { readonly endsSince: number }) => process.send?.(goodbyes.since(endsSince) satisfies NodeEnds))
})

async function run(order: NodeOrder): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'chaperone-bench-'))
  const dataDir = join(dir, 'data')
  const rootKey = order.rootKey ?? `${dataDir}.root-key`
  const running = await startServer({
    dataDir,
    ...(order.rootKey === undefined ? {} : { rootKey }),
    ...(order.store === undefined ? {} : { store: order.store }),
    listen: '127.0.0.1:0',
    webListen: '127.0.0.1:0',
    postgresListen: '127.0.0.1:0',
    logLevel: 'error',
  })
  process.on('SIGTERM', () => {
    running
      .stop()
      .then(() => rm(dir, { recursive: true, force: true }))
      .finally(() => process.exit(0))
  })
  const { data, postgres } = running.addresses
  process.send?.(order.rootKey === undefined ? { data, postgres, rootKey, ...(await prepare()) } : { data, postgres })

  async function prepare(): Promise<Omit<NodeSaid, 'data' | 'postgres' | 'rootKey'>> {
    const { parts } = running
    const now = Date.now()
    const ids = new Map<string, string>()
    const { result, epoch } = await parts.store.reduce(async (trx) => {
      for (const { kind, name, spec } of order.documents ?? []) {
        const id = newId('res')
        ids.set(kind, id)
        await trx
          .insertInto('documents')
          .values({ id, kind, name, labels: '{}', spec: canonicalJson(spec), digest: id, owner: null, applied_by: null, updated_at: now })
          .execute()
      }
      const agent = async (owner: string, roles: readonly string[], ...names: readonly string[]) => {
        const { id } = await createIdentity(trx, { kind: 'user', name: owner, roles: [], source: 'document', now })
        return Promise.all(names.map((name) => createIdentity(trx, { kind: 'agent', name, ownerId: id, roles: [...roles], source: 'document', now })))
      }
      const [operator] = await agent('bench-boss', ['admin'], 'bench-operator')
      return { agents: await agent('bench-owner', ['bench'], 'bench-agent-1', 'bench-agent-2'), operator: operator! }
    })
    await parts.raised(epoch)
    const shown = async ({ id, name }: { readonly id: string; readonly name: string }): Promise<Shown> => {
      const session = await parts.sessions.start({ identityId: id, chain: [{ identity: id }], how: 'issue', lifeMs: 12 * HOUR })
      const key = freshKey()
      const claims = { v: 1 as const, identity: id, credential: newId('crd'), session: session.id }
      const { certificate } = await parts.ca.issueIdentity({ spki: key.spki, kind: 'agent', name, claims, notAfter: now + 6 * HOUR })
      return { cert: certificate, key: key.pem }
    }
    const serverKey = freshKey()
    const database = ids.get('postgres')!
    const { certificate } = await parts.ca.issueDatabaseServer({
      spki: serverKey.spki,
      resourceId: database,
      names: ['localhost', '127.0.0.1'],
      notAfter: now + 6 * HOUR,
    })
    return {
      ca: await parts.ca.bundle('server'),
      sessions: await Promise.all(Array.from({ length: order.sessions ?? 1 }, (_, i) => shown(result.agents[i % result.agents.length]!))),
      operator: await shown(result.operator),
      database: { cert: certificate, key: serverKey.pem, clientCa: await parts.ca.bundle(`database:${database}`) },
    }
  }
}

// Nobody is left to measure.
process.on('disconnect', () => process.exit())
