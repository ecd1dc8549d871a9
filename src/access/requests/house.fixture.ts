import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { createMasker } from '../../audit/mask.ts'
import type { Claim, Draft } from '../../audit/record.ts'
import { type Clock, steadyClock } from '../../clock.ts'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError, type ReasonCode } from '../../errors.ts'
import { makeDelegation } from '../../identity/delegation/delegations.ts'
import { createIdentity } from '../../identity/directory.ts'
import type { ChainLink, Factor, LiveSession } from '../../identity/types.ts'
import { newId } from '../../ids.ts'
import type { Action } from '../../policy/types.ts'
import { toolVocabulary } from '../../policy/vocabulary.fixture.ts'
import { openStore, type StoreLocation } from '../../store/open.ts'
import type { Write } from '../../store/store.ts'
import { chaperoneResource, chaperoneVocabulary } from '../administration.ts'
import { makeGuard } from '../guard.ts'
import { keepState } from '../state.ts'
import type { Admission, ExactCall } from '../types.ts'
import { openRequests } from './requests.ts'

export const START = Date.UTC(2026, 10, 23, 9)
export const MINUTE = 60_000

/** A clock that a test moves forward, which wakes whoever is due, or sets to another time, which wakes nobody. */
export interface SetClock extends Clock {
  advance(ms: number): void
  set(to: number): void
}

export function setClock(start = START): SetClock {
  let now = start
  const waiting = new Set<{ readonly at: number; readonly wake: () => void }>()
  return {
    now: () => now,
    at(at, wake) {
      const entry = { at, wake }
      waiting.add(entry)
      return () => waiting.delete(entry)
    },
    advance(ms) {
      now += ms
      for (const entry of [...waiting].filter(({ at }) => at <= now)) {
        waiting.delete(entry)
        entry.wake()
      }
    },
    set(to) {
      now = to
    },
  }
}

export const ROLES = {
  worker: {
    allow: [{ tool: 'files', tools: ['read_file'] }],
    ask: [
      { tool: 'files', tools: ['write_file'], approvers: { role: 'lead' } },
      { tool: 'files', tools: ['two_leads'], approvers: { role: 'lead', count: 2 } },
      { tool: 'files', tools: ['both'], approvers: { all: [{ role: 'lead' }, { users: ['erin', 'dana'] }] } },
      { tool: 'files', tools: ['mine'], approvers: 'owner' },
      { tool: 'files', tools: ['anybody'] },
    ],
    request: [
      {
        role: 'deleter',
        max: '1h',
        reason: 'optional',
        approvers: { role: 'lead' },
        start_in: '1d',
        escalate: { after: '10m', approvers: { users: ['erin'] } },
      },
      { role: 'fixer', max: '30m', approvers: { role: 'lead' }, break_glass: true },
      { role: 'viewer', max: '2h', automatic: [{ approve: { up_to: '30m' } }, { refuse: { over: '1h' } }], approvers: { role: 'lead' } },
      { role: 'boss', max: '1h', approvers: { role: 'lead' } },
      { role: 'one', resources: 'named', max: '1h', approvers: { role: 'lead' } },
    ],
  },
  deleter: { allow: [{ tool: 'files', tools: ['delete_file'] }] },
  fixer: { allow: [{ tool: 'files', tools: ['fix'] }] },
  viewer: { allow: [{ tool: 'files', tools: ['view'] }] },
  one: { allow: [{ tool: 'any', tools: ['once'] }] },
  boss: { allow: [{ chaperone: 'any', verbs: ['lock'] }] },
  lead: {},
  approver: { allow: [{ chaperone: 'any', verbs: ['approve'] }] },
  locker: { allow: [{ chaperone: 'any', verbs: ['lock'] }] },
  auditor: { allow: [{ chaperone: 'any', verbs: ['audit.read'] }] },
  applier: { allow: [{ chaperone: 'any', verbs: ['apply'] }] },
} as const

const documentRow = (kind: string, name: string, spec: object, labels: object = {}) => ({
  ...{ id: newId('res'), kind, name, labels: JSON.stringify(labels), spec: canonicalJson(spec), digest: name },
  ...{ owner: null, applied_by: null, updated_at: START },
})

/**
 * People, their agents, a resource, and the guard with requests over a real store. The record is a list; the claim does in one
 * transaction what the writer's thread does (audit/claim-suite.ts holds that to it).
 */
export async function openHouse(t: TestContext, location: StoreLocation, given: SetClock = setClock()) {
  // As server/parts.ts gives it to them.
  const clock = { ...steadyClock(given), advance: given.advance, set: given.set }
  const store = await openStore(location, { clock })
  t.after(() => store.close())
  const ids: Record<string, string> = {}
  const files = documentRow('tool', 'files', { address: 'one' }, { env: 'demo' })
  await store.write(async (trx) => {
    const person = async (name: string, roles: readonly string[]) => {
      ids[name] = (await createIdentity(trx, { kind: 'user', name, roles, source: 'document', now: START })).id
    }
    const agent = async (name: string, owner: string, roles: readonly string[] | 'inherit') => {
      ids[name] = (await createIdentity(trx, { kind: 'agent', name, ownerId: ids[owner]!, roles, source: 'document', now: START })).id
    }
    await person('boris', ['worker', 'lead', 'approver'])
    await person('dana', ['lead'])
    await person('dave', ['lead', 'locker'])
    await person('erin', [])
    await person('ann', ['approver'])
    await person('audrey', ['auditor'])
    await agent('bot', 'boris', ['worker', 'lead', 'approver'])
    await agent('sub', 'boris', ['worker'])
    await agent('danabot', 'dana', ['worker', 'lead', 'approver'])
    const given = async (from: string, to: string) => {
      ids[`${from}>${to}`] = (await makeDelegation(trx, { fromId: ids[from]!, toId: ids[to]!, now: START })).id
    }
    await given('boris', 'bot')
    await given('boris', 'danabot')
    await given('bot', 'sub')
    await trx
      .insertInto('documents')
      .values([files, ...Object.entries(ROLES).map(([name, spec]) => documentRow('role', name, spec))])
      .execute()
  })
  const records: Draft[] = []
  const troubles: unknown[] = []
  const hooks = { beforeAppend: async (_: Draft) => {} }
  const audit = {
    async append(draft: Draft) {
      await hooks.beforeAppend(draft)
      return { id: draft.id ?? 'rec', seq: records.push(draft) }
    },
    async claim(draft: Draft, { request, digest, permit, continues }: Claim, nodeId = 'nod_1') {
      await hooks.beforeAppend(draft)
      const { numUpdatedRows } = await store.write((trx) =>
        trx
          .updateTable('requests')
          .set(({ eb }) => ({ state: 'used', permit, node_id: nodeId, outcome: null, updated_at: eb('updated_at', '+', 1) }))
          .where('id', '=', request)
          .where('state', '=', continues === undefined ? 'approved' : 'used')
          .where('digest', '=', digest)
          .where((is) => (continues === undefined ? is('expires_at', '>', clock.now()) : is('permit', '=', continues)))
          .executeTakeFirstOrThrow(),
      )
      if (numUpdatedRows !== 1n) throw new ChaperoneError('approval_used', 'The approval of exactly this was used already, or is over.')
      return { id: draft.id ?? 'rec', seq: records.push(draft) }
    },
  }
  const nodes = new Set<Node>()

  /** A Chaperone process over the store. */
  const startNode = async (nodeId = 'nod_1') => {
    const state = await keepState(store.db, [chaperoneVocabulary, toolVocabulary], await store.epoch())
    const failed = (error: unknown) => troubles.push(error)
    await store.db
      .insertInto('leases')
      .values({ node_id: nodeId, expires_at: Number.MAX_SAFE_INTEGER, epoch_seen: 0, address: '' })
      .onConflict((is) => is.doNothing())
      .execute()
    const requests = openRequests({
      ...{ store, state, audit, clock, failed, masker: createMasker(), link: (id) => `https://chaperone.test/requests/${id}` },
      chaperone: chaperoneResource('test.internal'),
      raised,
    })
    const recording = { append: audit.append, claim: (draft: Draft, claim: Claim) => audit.claim(draft, claim, nodeId) }
    const guard = makeGuard({ state, audit: recording, clock, calls: requests.calls, lease: { ensure: async () => {} }, outcomeLost: failed })
    const sweep = requests.sweep({ nodeId, has: guard.has })
    const node = {
      state,
      requests,
      guard,
      sweep,
      stop() {
        requests.close()
        nodes.delete(node)
      },
    }
    nodes.add(node)
    t.after(() => node.stop())
    return node
  }

  async function raised(epoch: number): Promise<void> {
    for (const { state, guard, requests } of nodes) {
      await state.refresh(epoch)
      guard.review()
      requests.rightsChanged()
      guard.reviewQuestions()
    }
  }

  /** As `chaperone apply` and the lock commands change rights. */
  const reduce = async (change: (trx: Write) => Promise<unknown>): Promise<void> => {
    const { epoch } = await store.reduce(change)
    await raised(epoch)
  }

  const sessionOf = (...names: readonly [string, ...string[]]) => session(clock, ids, names)

  return { store, clock, ids, files, records, troubles, hooks, audit, startNode, reduce, sessionOf }
}

export type House = Awaited<ReturnType<typeof openHouse>>
export type Node = Awaited<ReturnType<House['startNode']>>

export interface TestSession extends LiveSession {
  over: ChaperoneError | undefined
  factorAt?: number
  factorBy?: Factor
  purpose?: string
}

function session(clock: Clock, ids: Readonly<Record<string, string>>, names: readonly string[]): TestSession {
  const chain: ChainLink[] = names.map((name, i) => {
    const delegation = i === 0 ? undefined : ids[`${names[i - 1]}>${name}`]
    return { identity: ids[name]!, ...(delegation === undefined ? {} : { delegation }) }
  })
  const identityId = ids[names.at(-1)!]!
  const made: TestSession = {
    id: newId('ses', clock.now()),
    principal: {
      ...{ identityId, kind: identityId.startsWith('usr_') ? 'user' : 'agent', name: names.at(-1)!, credentialId: 'crd_1' },
      ...{ sessionId: 'ses', chain, notAfter: START + 1e10, proof: 'mtls' },
    },
    ...{ startedAt: START, how: 'login', factorAt: clock.now(), provenUntil: START + 1e10, open: 0, over: undefined },
    assertLive() {
      if (made.over) throw made.over
    },
    connect: () => assert.fail('no connection is needed here'),
  }
  return made
}

export const callOf = (
  resource: { readonly id: string; readonly name: string; readonly labels: string },
  tool: string,
  args: object = {},
): Action => ({
  kind: 'tool',
  resource: { kind: 'tool', id: resource.id, name: resource.name, labels: JSON.parse(resource.labels) },
  operation: 'call',
  effects: ['write'],
  facts: { tool, args, lossy: new Set() },
  summary: `call ${tool}`,
})

/** As a gateway asks about a call. */
export const asking = (tool: string, args: object = {}): Admission => ({
  asking: {
    call: (): ExactCall => ({
      bound: canonicalJson({ tool, args }),
      shown: [{ title: 'Arguments', text: JSON.stringify(args), form: 'json' }],
    }),
  },
})

export const refusedAs = (code: ReasonCode) => (error: unknown) => {
  assert.ok(error instanceof ChaperoneError, String(error))
  assert.equal(error.code, code, `${error.message} ${error.detail ?? ''}`)
  return true
}
