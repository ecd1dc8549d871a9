import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { Store } from '../store/store.ts'
import { intent, openRoom, type Place } from './fixtures.ts'
import type { AuditLog, Claim } from './record.ts'
import { openLogForReading, verifyLog } from './verify.ts'

const used = (error: unknown) => error instanceof ChaperoneError && error.code === 'approval_used'
const HOUR = 3_600_000

async function approvedCall(
  store: Store,
  more: { readonly state?: 'pending' | 'approved' | 'used'; readonly expires_at?: number } = {},
): Promise<Claim> {
  const id = newId('req')
  const nothing = { session_id: null, purpose: null, needs: null, starts_at: null, ends_at: null, role: null, resource_id: null, permit: null }
  const undone = { node_id: null, outcome: null, escalated_at: null, review_due: null, reviewed_by: null, reviewed_at: null }
  const now = await store.now()
  await store.db
    .insertInto('requests')
    .values({
      ...nothing,
      ...undone,
      ...{
        id,
        kind: 'call',
        identity_id: newId('agt'),
        chain: '[]',
        body: '{}',
        reason: '',
        state: 'approved',
        decided_by: 'usr_1',
        decided_at: now,
      },
      ...{ created_at: now, updated_at: now, expires_at: now + HOUR, below: 0, digest: 'd1', ...more },
    })
    .execute()
  return { request: id, digest: 'd1', permit: newId('per') }
}

const rowOf = (store: Store, { request }: Claim) => store.db.selectFrom('requests').selectAll().where('id', '=', request).executeTakeFirstOrThrow()
const leaves = async (store: Store) => (await store.db.selectFrom('audit_leaves').select('id').execute()).map(({ id }) => id)

/** An approval and the intent that uses it up, on either store. */
export function claimSuite(name: string, place: Place, options: { readonly skip?: string } = {}): void {
  describe(`the use of an approval over ${name}`, { skip: options.skip ?? false }, () => {
    test('rule 12: the intent is durable and the approval used, both by one answer', async (t) => {
      const { store, open } = await openRoom(t, place)
      const audit = await open()
      const claim = await approvedCall(store)
      const before = await rowOf(store, claim)
      const draft = { ...intent(), id: claim.permit, request: claim.request }
      await audit.claim(draft, claim)
      const row = await rowOf(store, claim)
      assert.deepEqual([row.state, row.permit], ['used', claim.permit])
      assert.ok(row.node_id)
      assert.ok(row.updated_at > before.updated_at)
      assert.deepEqual(await leaves(store), [claim.permit])
    })

    test('rule 12: of fifty that use it at once one does, and of the others nothing is recorded', async (t) => {
      const { store, open } = await openRoom(t, place)
      const audit = await open()
      const claim = await approvedCall(store)
      const tries = await Promise.allSettled(
        Array.from({ length: 50 }, () => {
          const permit = newId('per')
          return audit.claim({ ...intent(), id: permit }, { ...claim, permit })
        }),
      )
      const done = tries.flatMap((one) => (one.status === 'fulfilled' ? [one.value.id] : []))
      assert.equal(done.length, 1)
      assert.ok(tries.every((one) => one.status === 'fulfilled' || used(one.reason)))
      assert.deepEqual(await leaves(store), done)
      assert.equal((await rowOf(store, claim)).permit, done[0])
    })

    test('rule 12: a further round follows the permit of the round before, once, and only of what was used', async (t) => {
      const { store, open } = await openRoom(t, place)
      const audit = await open()
      const first = await approvedCall(store)
      const next = (continues: string) => ({ ...first, permit: newId('per'), continues })
      const take = (claim: Claim) => audit.claim({ ...intent(), id: claim.permit }, claim)
      await assert.rejects(take(next(first.permit)), used, 'nothing has run yet')
      await take(first)
      await store.db.updateTable('requests').set({ outcome: 'ok' }).where('id', '=', first.request).execute()
      const tries = Array.from({ length: 20 }, () => next(first.permit))
      const done = (await Promise.allSettled(tries.map(take))).flatMap((one, i) => (one.status === 'fulfilled' ? [tries[i]!] : []))
      assert.equal(done.length, 1)
      const row = await rowOf(store, first)
      assert.deepEqual([row.state, row.permit, row.outcome], ['used', done[0]!.permit, null])
      await assert.rejects(take({ ...next(done[0]!.permit), digest: 'd2' }), used, 'another call is none of its rounds')
      await take(next(done[0]!.permit))
      assert.equal((await leaves(store)).length, 3)
    })

    test('two logs of two nodes: one of them has it', async (t) => {
      const { store, open } = await openRoom(t, place)
      const logs: AuditLog[] = [await open(), await open({ nodeId: newId('nod') })]
      const claim = await approvedCall(store)
      const tries = await Promise.allSettled(logs.map((audit) => audit.claim(intent(), claim)))
      assert.deepEqual(tries.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
    })

    test('what is not approved, is over, or was approved of another call, is not there to be used', async (t) => {
      const { store, open } = await openRoom(t, place)
      const audit = await open()
      const now = await store.now()
      for (const claim of [
        await approvedCall(store, { state: 'pending' }),
        await approvedCall(store, { state: 'used' }),
        await approvedCall(store, { expires_at: now - 1 }),
        { ...(await approvedCall(store)), digest: 'd2' },
        { request: 'req_none', digest: 'd1', permit: 'per_1' },
      ]) {
        await assert.rejects(audit.claim(intent(), claim), used)
      }
      assert.deepEqual(await leaves(store), [])
    })

    test('who is in the same batch is recorded, in order, and the log verifies', async (t) => {
      const room = await openRoom(t, place)
      const audit = await room.open()
      const [good, lost] = [await approvedCall(room.store), await approvedCall(room.store, { state: 'used' })]
      const tries = [audit.append(intent()), audit.claim(intent(), lost), audit.append(intent()), audit.claim(intent(), good), audit.append(intent())]
      const said = await Promise.allSettled(tries)
      assert.deepEqual(
        said.map((one) => (one.status === 'fulfilled' ? one.value.seq : 'refused')),
        [1, 'refused', 2, 3, 4],
      )
      await audit.checkpoint()
      const log = await openLogForReading(room.store)
      assert.deepEqual((await verifyLog(log)).problems, [])
      await log.close()
    })
  })
}
