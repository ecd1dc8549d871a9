import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { systemClock } from '../clock.ts'
import type { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import { openStore, type StoreLocation } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import type { AuditLog, Draft } from './record.ts'
import { type AuditOptions, openAudit } from './writer.ts'

/** What the tests of the record share: a store of either kind, a log over it, and records as gateways write them. */
export type Place = (t: TestContext) => Promise<StoreLocation>

export const sqlitePlace: Place = async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'chaperone-audit-'))
  t.after(() => rm(dataDir, { recursive: true, force: true }))
  return { dataDir }
}

export interface Room {
  readonly location: StoreLocation
  readonly store: Store
  readonly publicKey: KeyObject
  /** What was told to nobody in particular. */
  readonly troubles: ChaperoneError[]
  /** Opens the log; closed with the test. Nothing ticks by itself unless `checkpointEveryMs` says so. */
  open(options?: Partial<AuditOptions>): Promise<AuditLog>
}

export async function openRoom(t: TestContext, place: Place): Promise<Room> {
  const location = await place(t)
  const store = await openStore(location, { clock: systemClock })
  t.after(() => store.close())
  const pair = generateKeyPairSync('ed25519')
  const id = newId('key')
  await store.db
    .insertInto('keys')
    .values({
      ...{ id, purpose: 'checkpoints', algorithm: 'ed25519', wrapped: randomBytes(1), state: 'active', created_at: 1, retire_at: null },
      public_key: pair.publicKey.export({ format: 'der', type: 'spki' }),
    })
    .execute()
  const troubles: ChaperoneError[] = []
  const common = { nodeId: newId('nod'), trustDomain: 'example.org', clock: systemClock, checkpointEveryMs: 3_600_000 }
  return {
    location,
    store,
    publicKey: pair.publicKey,
    troubles,
    async open(options) {
      const keyring = { signer: async () => ({ id, ...pair }) }
      const audit = await openAudit(store, { ...common, keyring, onTrouble: (error) => troubles.push(error), ...options })
      t.after(() => audit.close())
      return audit
    },
  }
}

const ids = { person: newId('usr'), agent: newId('agt'), session: newId('ses'), resource: newId('res'), delegation: newId('dlg') }

/** An intent as the Postgres gateway writes it. */
export function intent(id = newId('per'), statement = 'SELECT id, name FROM public.customers WHERE region = $1'): Draft & { id: string } {
  const person = { id: ids.person, name: 'boris', kind: 'user' }
  const agent = { id: ids.agent, name: 'boris/claude-code', kind: 'agent' }
  return {
    type: 'action.intent',
    id,
    actor: agent,
    chain: [person, { ...agent, delegation: ids.delegation }],
    session: ids.session,
    purpose: 'look into the orders',
    action: {
      kind: 'postgres',
      operation: 'select',
      effects: ['read'],
      summary: 'SELECT public.customers',
      resource: { id: ids.resource, name: 'topsecret', kind: 'postgres' },
    },
    decision: {
      verdict: 'allow',
      reason: 'allowed',
      link: agent.name,
      obligations: { max_rows: 1000 },
      rule: { document: 'analyst', kind: 'role', section: 'allow', index: 0, digest: 'a'.repeat(64) },
    },
    bodies: [{ name: 'statement', bytes: statement }],
  }
}

export const outcome = (permit: string): Draft => ({ type: 'action.outcome', permit, session: ids.session, outcome: { status: 'ok', rows: 50 } })

/** Intents and their outcomes, `count` records in all. */
export async function fill(audit: AuditLog, count: number): Promise<void> {
  const appends: Promise<unknown>[] = []
  for (let i = 0; i < count; i += 2) {
    const draft = intent()
    appends.push(audit.append(draft))
    if (i + 1 < count) appends.push(audit.append(outcome(draft.id)))
  }
  await Promise.all(appends)
}
