/** A Chaperone for W7, on a directory and ports that outlive it: killed and started again, it is the same one. */
import { canonicalJson } from '../src/encoding/canonical-json.ts'
import { createIdentity } from '../src/identity/directory.ts'
import { newId } from '../src/ids.ts'
import { startServer } from '../src/server/start.ts'
import { freshKey } from './identity.ts'

export interface ParkingOrder {
  readonly dataDir: string
  /** of the process before this one */
  readonly ports?: { readonly data: string; readonly web: string; readonly postgres: string }
  /** the first time: who and what there is */
  readonly first?: {
    readonly agents: number
    readonly documents: readonly { readonly kind: string; readonly name: string; readonly spec: unknown }[]
  }
}

export interface Credentials {
  readonly cert: string
  readonly key: string
}

export interface ParkingSaid {
  readonly ports: NonNullable<ParkingOrder['ports']>
  readonly ca: string
  readonly people?: { readonly approver: Credentials; readonly agents: readonly Credentials[] }
}

const HOUR = 3_600_000

process.once('message', (order: ParkingOrder) => {
  run(order).catch((error) => {
    console.error(error)
    process.exit(1)
  })
})

async function run({ dataDir, ports, first }: ParkingOrder): Promise<void> {
  const running = await startServer({
    dataDir,
    listen: ports?.data ?? '127.0.0.1:0',
    webListen: ports?.web ?? '127.0.0.1:0',
    postgresListen: ports?.postgres ?? '127.0.0.1:0',
    logLevel: 'error',
  })
  const { parts, addresses } = running
  process.on('SIGTERM', () => {
    running.stop().finally(() => process.exit(0))
  })
  const said: ParkingSaid = { ports: addresses, ca: await parts.ca.bundle('server'), ...(first ? { people: await prepare(first) } : {}) }
  process.send?.(said)

  async function prepare({ agents, documents }: NonNullable<ParkingOrder['first']>): Promise<ParkingSaid['people']> {
    const now = Date.now()
    const { result, epoch } = await parts.store.reduce(async (trx) => {
      for (const { kind, name, spec } of documents) {
        const id = newId('res')
        await trx
          .insertInto('documents')
          .values({ id, kind, name, labels: '{}', spec: canonicalJson(spec), digest: id, owner: null, applied_by: null, updated_at: now })
          .execute()
      }
      const owner = await createIdentity(trx, { kind: 'user', name: 'bench-owner', roles: [], source: 'document', now })
      const approver = await createIdentity(trx, { kind: 'user', name: 'bench-approver', roles: ['bench-lead'], source: 'document', now })
      const each = []
      for (let i = 0; i < agents; i++)
        each.push(
          await createIdentity(trx, { kind: 'agent', name: `bench-agent-${i}`, ownerId: owner.id, roles: ['bench'], source: 'document', now }),
        )
      return { approver, agents: each }
    })
    await parts.raised(epoch)
    const shown = async (kind: 'user' | 'agent', { id, name }: { readonly id: string; readonly name: string }): Promise<Credentials> => {
      const chain = [{ identity: id }]
      // A person's session with a second factor of this moment: what a yes needs.
      const session = await parts.sessions.start({
        identityId: id,
        chain,
        how: kind === 'user' ? 'login' : 'issue',
        lifeMs: 12 * HOUR,
        factorGiven: kind === 'user',
      })
      const key = freshKey()
      const claims = { v: 1 as const, identity: id, credential: newId('crd'), session: session.id }
      const { certificate } = await parts.ca.issueIdentity({ spki: key.spki, kind, name, claims, notAfter: now + 6 * HOUR })
      return { cert: certificate, key: key.pem }
    }
    return { approver: await shown('user', result.approver), agents: await Promise.all(result.agents.map((agent) => shown('agent', agent))) }
  }
}

// Nobody is left to measure.
process.on('disconnect', () => process.exit())
