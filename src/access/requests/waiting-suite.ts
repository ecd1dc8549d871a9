import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import { makeLock } from '../../identity/locks.ts'
import type { StoreLocation } from '../../store/open.ts'
import { admitAsking } from '../park.ts'
import { openCall, until } from './call.fixture.ts'
import { MINUTE, refusedAs } from './house.fixture.ts'
import type { AccessRequest } from './types.ts'

/** Who waits for the answer about a call, and what ends that; on either store. */
export function waitingSuite(name: string, place: (t: TestContext) => Promise<StoreLocation>, options: { readonly skip?: string } = {}): void {
  describe(`waiting for an answer over ${name}`, { skip: options.skip ?? false }, () => {
    const opened = async (t: TestContext) => openCall(t, await place(t))

    test('who waits for the answer is told when it comes, and looks at everything again', async (t) => {
      const { house, node, parked, approve, attempt } = await opened(t)
      const { request } = await parked()
      const told: string[] = []
      let attempts = 0
      const waiting = admitAsking(
        { requests: node.requests, clock: house.clock },
        () => {
          attempts++
          return attempt()
        },
        { ms: MINUTE, parked: (question) => void told.push(question.request) },
      )
      await until(() => told.length > 0)
      await approve(request)
      assert.ok((await waiting).id)
      assert.deepEqual([told, attempts], [[request], 2])
    })

    test('rule 6: who waits for an answer is refused when a lock comes, and not when his wait is over', async (t) => {
      const { house, node, attempt, parked } = await opened(t)
      await parked()
      const asked = house.records.length
      const told: string[] = []
      const waiting = admitAsking({ requests: node.requests, clock: house.clock }, (known) => attempt('write_file', {}, undefined, known), {
        ms: MINUTE,
        parked: (question) => void told.push(question.request),
      })
      const refused = assert.rejects(waiting, refusedAs('locked'))
      await until(() => told.length > 0)
      // A change that is about something else wakes as well, and is no second question.
      await house.reduce((trx) => trx.updateTable('documents').set({ digest: 'x' }).where('name', '=', 'viewer').execute())
      await house.reduce((trx) => makeLock(trx, { kind: 'resource', target: house.files.id, reason: 'incident 7', now: house.clock.now() }))
      await refused
      assert.deepEqual(
        house.records.slice(asked).map(({ type }) => type),
        ['action.asked', 'action.refused'],
      )
      assert.equal(told.length, 1)
    })

    test('who waits for an answer goes on when his role lets him, without one', async (t) => {
      const { house, node, attempt, parked } = await opened(t)
      await parked()
      const told: string[] = []
      const waiting = admitAsking({ requests: node.requests, clock: house.clock }, (known) => attempt('write_file', {}, undefined, known), {
        ms: MINUTE,
        parked: (question) => void told.push(question.request),
      })
      await until(() => told.length > 0)
      const spec = canonicalJson({ allow: [{ tool: 'files', tools: ['write_file'] }] })
      await house.reduce((trx) => trx.updateTable('documents').set({ spec }).where('name', '=', 'worker').execute())
      assert.equal((await waiting).decision.verdict, 'allow')
    })

    test('a question that nobody waits for any more is withdrawn, with the reason, and nobody can answer it', async (t) => {
      const { house, node, attempt, parked, approve } = await opened(t)
      const { request } = await parked()
      const told: string[] = []
      const ended: string[] = []
      node.requests.watch(({ type, request: { id, outcome } }) => void ended.push(`${type} ${id} ${outcome}`))
      const wait = () =>
        admitAsking({ requests: node.requests, clock: house.clock }, (known) => attempt('write_file', {}, undefined, known), {
          ms: MINUTE,
          parked: (question) => void told.push(question.request),
        })
      const both = [wait(), wait()]
      await until(() => told.length === 2)
      const spec = canonicalJson({ allow: [{ tool: 'files', tools: ['write_file'] }] })
      await house.reduce((trx) => trx.updateTable('documents').set({ spec }).where('name', '=', 'worker').execute())
      for (const permit of await Promise.all(both)) assert.equal(permit.decision.verdict, 'allow')
      const why = 'no longer needed: a role allows it'
      await until(() => ended.length > 0)
      assert.deepEqual(ended, [`withdrawn ${request} ${why}`])
      const record = house.records.find(({ type, data }) => type === 'request.ended' && data?.reason === why)
      assert.equal(record?.data?.state, 'withdrawn')
      await assert.rejects(approve(request), refusedAs('conflict'))
    })

    test('what was taken back by nobody is asked about again, and what somebody took back is not', async (t) => {
      const { house, attempt, parked } = await opened(t)
      const { request } = await parked()
      const waitFor = async (decidedBy?: string) => {
        let attempts = 0
        const decided = async () => ({ id: request, state: 'withdrawn', ...(decidedBy === undefined ? {} : { decidedBy }) }) as AccessRequest
        const tried = async () => {
          attempts++
          return attempts === 1 ? (await attempt()).id : 'let in'
        }
        const came = await admitAsking({ requests: { rights: 0, decided }, clock: house.clock }, tried, { ms: MINUTE }).catch((error) => error.code)
        return `${came} ${attempts}`
      }
      assert.equal(await waitFor(), 'let in 2')
      assert.equal(await waitFor('usr_dana'), 'approval_required 1')
    })

    test('a call that is another one by now is asked about again, and its old question is withdrawn', async (t) => {
      const { house, node, attempt, parked } = await opened(t)
      const { request } = await parked()
      const told: string[] = []
      const gone = new AbortController()
      const waiting = admitAsking({ requests: node.requests, clock: house.clock }, (known) => attempt('write_file', {}, undefined, known), {
        ms: MINUTE,
        signal: gone.signal,
        parked: (question) => void told.push(question.request),
      })
      const refused = assert.rejects(waiting, refusedAs('approval_required'))
      await until(() => told.length === 1)
      const withdrawn = node.requests.decided(request, { ms: MINUTE })
      await house.reduce((trx) => trx.updateTable('documents').set({ labels: '{"moved":"yes"}' }).where('id', '=', house.files.id).execute())
      const { state, outcome } = await withdrawn
      assert.deepEqual([state, outcome], ['withdrawn', `asked again as ${told[1]}`])
      gone.abort()
      await refused
    })

    test('whose session has ended while he waits hears that, and not that he may try again', async (t) => {
      const { house, node, attempt, parked } = await opened(t)
      await parked()
      const ended = new AbortController()
      const waiting = admitAsking({ requests: node.requests, clock: house.clock }, () => attempt(), { ms: MINUTE, signal: ended.signal })
      ended.abort(new ChaperoneError('session_ended', 'The session has ended.'))
      await assert.rejects(waiting, refusedAs('session_ended'))
    })

    test('who waits on one node hears what is decided on another', async (t) => {
      const { house, node, parked } = await opened(t)
      const other = await house.startNode('nod_2')
      const { request } = await parked()
      const waiting = node.requests.decided(request, { ms: MINUTE })
      const session = house.sessionOf('dana')
      const { seen } = await other.requests.show(session, request)
      await other.requests.decide(session, request, { verdict: 'approve', seen, how: 'cli' })
      let state = 'pending'
      void waiting.then((done) => {
        state = done.state
      })
      await until(() => {
        house.clock.advance(100)
        return state !== 'pending'
      })
      assert.equal(state, 'approved')
    })

    test('a client that is gone runs nothing; its approval stays for the same call', async (t) => {
      const { house, node, parked, approve, attempt } = await opened(t)
      const { request } = await parked()
      const gone = new AbortController()
      const waiting = admitAsking({ requests: node.requests, clock: house.clock }, attempt, { ms: MINUTE, signal: gone.signal })
      gone.abort()
      await assert.rejects(waiting, refusedAs('approval_required'))
      await approve(request)
      assert.equal(house.records.filter((record) => record.type === 'action.intent').length, 0)
      await attempt()
    })
  })
}
