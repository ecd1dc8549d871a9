import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Draft } from '../audit/record.ts'
import { manualClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { mcpVocabulary } from '../gateways/mcp/rules.ts'
import { createIdentity } from '../identity/directory.ts'
import { openSessions } from '../identity/sessions.ts'
import type { LiveSession } from '../identity/types.ts'
import { newId } from '../ids.ts'
import { openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { administer, chaperoneResource, chaperoneVocabulary } from './administration.ts'
import { makeGuard } from './guard.ts'
import { keepState } from './state.ts'

export const START = Date.UTC(2026, 10, 22, 12)
const chaperone = chaperoneResource('test.internal')
export const apply = administer(chaperone, 'apply', 'apply 1 document')
export const lockVerb = administer(chaperone, 'lock', 'lock')

export const document = (kind: string, name: string, labels: object, spec: object) => ({
  id: newId('res'),
  kind,
  name,
  labels: JSON.stringify(labels),
  spec: JSON.stringify(spec),
  digest: name,
  owner: null,
  applied_by: null,
  updated_at: START,
})

export const refusedAs = (expected: string) => (error: unknown) => error instanceof ChaperoneError && error.code === expected

/** A guard over a real store, in which dana holds `ops`; what stands in the record is a list, and what comes before it the test's. */
export async function guardPlace(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'chaperone-guard-'))
  const clock = manualClock(START)
  const store = await openStore({ dataDir: dir }, { clock })
  t.after(async () => {
    await store.close()
    rmSync(dir, { recursive: true })
  })
  const person = await store.write(async (trx) => {
    const role = (name: string, spec: object) => document('role', name, {}, spec)
    await trx
      .insertInto('documents')
      .values([
        role('ops', { allow: [{ chaperone: 'any', verbs: ['apply'] }] }),
        role('asker', { ask: [{ chaperone: 'any', verbs: ['lock'] }] }),
        role('office', { when: { hours: '08:00-13:00', zone: 'UTC' }, allow: [{ chaperone: 'any', verbs: ['lock'] }] }),
      ])
      .execute()
    return createIdentity(trx, { kind: 'user', name: 'dana', roles: ['ops'], source: 'document', now: START })
  })
  const state = await keepState(store.db, [chaperoneVocabulary, mcpVocabulary], await store.epoch())
  const records: Draft[] = []
  const lost: unknown[] = []
  const hooks: { beforeAppend: (draft: Draft) => Promise<void>; leaseError?: ChaperoneError } = { beforeAppend: async () => {} }
  const sessions = openSessions({ store, clock, audit: { append: async () => ({ id: '', seq: 0 }) }, raised: async () => {}, mayAct: async () => {} })
  const guard = makeGuard({
    state,
    audit: {
      append: async (draft: Draft) => {
        await hooks.beforeAppend(draft)
        return { id: 'rec', seq: records.push(draft) }
      },
      claim: async () => assert.fail('no approval is used here'),
    },
    clock,
    lease: {
      ensure: async () => {
        if (hooks.leaseError) throw hooks.leaseError
      },
    },
    outcomeLost: (error) => lost.push(error),
  })

  async function sessionOf(identityId: string): Promise<LiveSession> {
    const chain = [{ identity: identityId }]
    const { id } = await sessions.start({ identityId, chain, how: 'issue', lifeMs: 3_600_000 })
    return sessions.open({
      identityId,
      kind: 'user',
      name: 'dana',
      credentialId: 'crd_1',
      sessionId: id,
      chain,
      notAfter: START + 3_600_000,
      proof: 'mtls',
    })
  }

  /** Changes the store, raises the epoch and reviews, as the lease's listener does. */
  async function reduce(change: Parameters<Store['reduce']>[0]): Promise<void> {
    const { epoch } = await store.reduce(change)
    await state.refresh(epoch)
    guard.review()
  }

  const types = () => records.map((record) => record.type)
  return { clock, store, person, state, sessions, guard, records, lost, hooks, sessionOf, reduce, types }
}

export type GuardPlace = Awaited<ReturnType<typeof guardPlace>>
