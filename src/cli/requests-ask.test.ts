import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Api } from '../client/api.ts'
import { ChaperoneError } from '../errors.ts'
import { untilDecided } from './decision.ts'

test('an agent that waits for longer than its certificate lives is told of the decision', async () => {
  const id = 'req_1'
  let renewals = 0
  const open = <T>(work: (api: Pick<Api, 'call' | 'events'>) => Promise<T>): Promise<T> => {
    const openedAt = renewals
    const api = {
      async *events() {
        yield { type: 'snapshot', requests: [] }
        renewals++
        yield { type: 'request.approved', request: { id } }
      },
      async call() {
        if (openedAt < renewals) throw new ChaperoneError('credential_expired', 'The certificate is past its end.')
        return { id, state: renewals === 0 ? 'pending' : 'approved' }
      },
    }
    return work(api as unknown as Pick<Api, 'call' | 'events'>)
  }
  assert.equal((await untilDecided(open, id, new AbortController().signal))?.state, 'approved')
})
