import { createHash } from 'node:crypto'
import type { AccessRequest, RequestState, Requests } from '../../access/requests/types.ts'
import type { ExactCall, Parked } from '../../access/types.ts'

interface Row {
  readonly id: string
  readonly digest: string
  readonly call: ExactCall
  state: RequestState
  reason?: string
}

/**
 * Requests about exact calls in memory: one question for each digest, answered by the test, used up once. What decides and
 * stores them is tested in access/; here it is about what a gateway binds, shows and waits for.
 */
export function memoryRequests() {
  const rows: Row[] = []
  const waiting = new Set<() => void>()
  const requests: Pick<Requests, 'decided' | 'rights'> = {
    rights: 0,
    decided(id, { ms, signal }) {
      const row = rows.find((one) => one.id === id)!
      const { promise, resolve } = Promise.withResolvers<AccessRequest>()
      const look = (over: boolean) => {
        if (row.state === 'pending' && !over) return
        waiting.delete(wake)
        clearTimeout(timer)
        resolve({ id, state: row.state } as AccessRequest)
      }
      const wake = () => look(false)
      const timer = setTimeout(() => look(true), Math.min(ms, 2 ** 31 - 1))
      signal?.addEventListener('abort', () => look(true), { once: true })
      waiting.add(wake)
      look(signal?.aborted ?? false)
      return promise
    },
  }
  const answer = (row: Row, state: RequestState, reason?: string) => {
    row.state = state
    if (reason !== undefined) row.reason = reason
    for (const wake of [...waiting]) wake()
  }
  return {
    requests,
    rows,
    approve: (row: Row) => answer(row, 'approved'),
    deny: (row: Row, reason: string) => answer(row, 'denied', reason),
    get waiting() {
      return waiting.size
    },
    /** What the guard does with the call: the question that it waits for, or what was answered. `use` takes the approval, once. */
    answered(who: string, call: ExactCall): { readonly parked: Parked } | { readonly use: () => boolean } | { readonly denied: string } {
      const digest = createHash('sha256').update(`${who} ${call.bound}`).digest('hex')
      let row = rows.findLast((one) => one.digest === digest && one.state !== 'used' && one.state !== 'expired')
      if (!row) {
        row = { id: `req_${rows.length + 1}`, digest, call, state: 'pending' }
        rows.push(row)
      }
      const found = row
      if (found.state === 'denied') return { denied: found.reason ?? '' }
      if (found.state === 'approved') {
        return {
          use() {
            if (found.state !== 'approved') return false
            found.state = 'used'
            return true
          },
        }
      }
      return {
        parked: { request: found.id, url: `https://chaperone.test/requests/${found.id}`, expiresAt: Date.now() + 3_600_000, approvers: 'dana' },
      }
    },
  }
}
