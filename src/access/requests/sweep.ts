import type { AuditLog, Draft } from '../../audit/record.ts'
import type { Clock } from '../../clock.ts'
import { ChaperoneError } from '../../errors.ts'
import type { Store } from '../../store/store.ts'
import type { RequestTable } from '../../store/tables-requests.ts'
import type { StateKeeper } from '../state.ts'
import type { Book } from './book.ts'
import { type Commit, endsRights } from './commit.ts'
import { TIMES } from './machine.ts'
import { outdatedOf } from './outdated.ts'
import type { AccessRequest, RequestEvent } from './types.ts'

/** An outcome is on its way to the row for moments; one that has not come by now will not. */
const SETTLE_MS = 30_000

interface SweepParts {
  readonly store: Store
  readonly book: Book
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly commit: Commit
  readonly state: Pick<StateKeeper, 'current'>
  readonly nodeId: string
  /** Whether this node still holds this permit. */
  readonly has: (permit: string) => boolean
}

/** What time alone does to requests, and what nobody is left to do. Once a cluster: the first of the live nodes does it, and a row changes once whoever tries. */
export function makeSweep({ store, book, audit, clock, commit, state, nodeId, has }: SweepParts) {
  const change = async (
    request: AccessRequest,
    type: RequestEvent['type'],
    set: Partial<RequestTable>,
    draft: Pick<Draft, 'type' | 'data' | 'permit'>,
  ): Promise<void> => {
    await audit.append({
      ...draft,
      request: request.id,
      data: { request: request.id, kind: request.kind, askedBy: request.identityId, ...draft.data },
    })
    try {
      // A grant that is over leaves every node's state: a clock that is set back must not bring it to life again (rule 4).
      await commit(type, (trx) => book.change(trx, request, set), { rights: endsRights(request, set.state) })
    } catch (error) {
      // Somebody answered in this very moment, and that holds.
      if (!(error instanceof ChaperoneError) || error.code !== 'conflict') throw error
      await audit.append({ type: 'request.ended', request: request.id, data: { request: request.id, state: 'overtaken' } })
    }
  }

  const expire = async (now: number) => {
    const due = await book.where((rows) =>
      rows.where((row) =>
        row.or([
          row.and([row('state', '=', 'pending'), row('expires_at', '<=', now)]),
          row.and([row('state', '=', 'approved'), row('kind', '=', 'call'), row('expires_at', '<=', now)]),
          row.and([row('state', '=', 'approved'), row('kind', '=', 'access'), row('ends_at', '<=', now)]),
        ]),
      ),
    )
    for (const request of due)
      await change(request, 'expired', { state: 'expired' }, { type: 'request.ended', data: { state: 'expired', was: request.state } })
  }

  const escalate = async (now: number) => {
    const waiting = await book.where((rows) =>
      rows.where('state', '=', 'pending').where('escalated_at', 'is', null).where('needs', 'like', '%escalate%'),
    )
    for (const request of waiting) {
      // It is one mark for all needs: with the first of them, the stand-ins of the others would count before their time.
      const after = Math.max(...request.needs.flatMap(({ escalate }) => (escalate ? [escalate.afterMs] : [])))
      if (now < request.createdAt + after) continue
      await change(request, 'escalated', { escalated_at: now }, { type: 'request.escalated', data: { afterMs: after } })
    }
  }

  const remind = async (now: number) => {
    const due = await book.where((rows) => rows.where('review_due', '<=', now).where('reviewed_by', 'is', null))
    for (const request of due) {
      const set = { review_due: now + TIMES.overdueEveryMs }
      await change(request, 'review_overdue', set, { type: 'request.review_overdue', data: { due: request.reviewDue } })
    }
  }

  let lookedAt = -1

  /** Questions that a change of rights has left behind, and whose node is not there to see it. */
  const takeBack = async () => {
    const epoch = await store.epoch()
    if (epoch === lookedAt) return
    const pending = await book.where((rows) => rows.where('state', '=', 'pending').where('kind', '=', 'call'))
    // What was asked under rules that this node has not read yet is left for the next round.
    const current = state.current()
    if ((await store.epoch()) !== current.epoch) return
    const whyOver = await outdatedOf(store, current, pending, clock.now())
    for (const request of pending) {
      const reason = whyOver(request)
      if (reason !== undefined)
        await change(request, 'withdrawn', { state: 'withdrawn', outcome: reason }, { type: 'request.ended', data: { state: 'withdrawn', reason } })
    }
    lookedAt = current.epoch
  }

  /** Calls that were sent by who cannot say any more what came of them. */
  const lose = async (nodes: readonly string[], since: number) => {
    const running = await book.where((rows) => rows.where('state', '=', 'used').where('outcome', 'is', null).where('updated_at', '<=', since))
    for (const request of running) {
      const { nodeId: node, permit } = request
      const here = node === nodeId
      if (here ? permit !== undefined && has(permit) : node !== undefined && nodes.includes(node)) continue
      await change(
        request,
        'unknown',
        { state: 'unknown', outcome: 'unknown' },
        {
          type: 'request.ended',
          ...(permit === undefined ? {} : { permit }),
          data: { state: 'unknown' },
        },
      )
    }
  }

  const liveNodes = async (): Promise<readonly string[]> => {
    const rows = await store.db
      .selectFrom('leases')
      .select('node_id')
      .where('expires_at', '>', await store.now())
      .orderBy('node_id')
      .execute()
    return rows.map((row) => row.node_id)
  }

  return {
    /** At the start nothing runs here: what this node had sent before it ended is over, and nobody knows how. */
    async begin(): Promise<void> {
      await lose(await liveNodes(), Number.MAX_SAFE_INTEGER)
    },
    /** Every few seconds. */
    async round(): Promise<void> {
      const nodes = await liveNodes()
      if (nodes.length > 0 && nodes[0] !== nodeId) return
      const now = clock.now()
      await expire(now)
      await takeBack()
      await escalate(now)
      await remind(now)
      await lose(nodes, (await store.now()) - SETTLE_MS)
      await book.erase(now)
    },
  }
}

export type Sweep = ReturnType<typeof makeSweep>
