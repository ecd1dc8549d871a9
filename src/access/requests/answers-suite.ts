import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import { makeLock } from '../../identity/locks.ts'
import type { StoreLocation } from '../../store/open.ts'
import { openAccess } from './access.fixture.ts'
import { asking, callOf, MINUTE, refusedAs, START, type TestSession } from './house.fixture.ts'
import type { RequestEvent } from './types.ts'

/** Who answers, with what, and whose yes counts; on either store. */
export function answersSuite(name: string, place: (t: TestContext) => Promise<StoreLocation>, options: { readonly skip?: string } = {}): void {
  describe(`the answer about a role over ${name}`, { skip: options.skip ?? false }, () => {
    const opened = async (t: TestContext) => openAccess(t, await place(t))

    test('rules answer by themselves: yes up to a time, no over another, a human between', async (t) => {
      const { house, ask, use } = await opened(t)
      const boris = house.sessionOf('boris')
      assert.equal((await ask({ role: 'viewer', forMs: 2 * 60 * MINUTE }, boris)).state, 'denied')
      assert.equal((await ask({ role: 'viewer', forMs: 45 * MINUTE }, boris)).state, 'pending')
      const yes = await ask({ role: 'viewer', forMs: 30 * MINUTE }, boris)
      assert.deepEqual([yes.state, yes.decidedBy], ['approved', undefined])
      await use('view', boris)
      const by = house.records.filter((record) => record.type === 'request.decided').map((record) => record.data?.by)
      assert.deepEqual(by, ['automatic: worker request 2', 'automatic: worker request 2'])
    })

    test('break-glass: at once, loud, and looked at by somebody else afterwards', async (t) => {
      const { house, node, ask, use } = await opened(t)
      const events: RequestEvent['type'][] = []
      node.requests.watch(({ type }) => events.push(type))
      const boris = house.sessionOf('boris')
      await assert.rejects(ask({ breakGlass: true }, boris), refusedAs('usage'), 'this role cannot be taken')
      const { id, state, reviewDue } = await ask({ role: 'fixer', breakGlass: true }, boris)
      assert.deepEqual([state, reviewDue], ['approved', START + 24 * 60 * MINUTE])
      await use('fix', boris)
      await assert.rejects(node.requests.review(boris, id, 'all well'), refusedAs('approval_refused'))
      await assert.rejects(node.requests.review(house.sessionOf('boris', 'bot'), id, 'all well'), ChaperoneError)
      for (let day = 1; day <= 2; day++) {
        house.clock.advance(24 * 60 * MINUTE + 1)
        await node.sweep.round()
        await node.sweep.round()
      }
      const { reviewedBy } = await node.requests.review(house.sessionOf('dana'), id, 'the disk was full, fine')
      assert.equal(reviewedBy, house.ids.dana)
      await assert.rejects(node.requests.review(house.sessionOf('dana'), id, 'again'), refusedAs('conflict'))
      house.clock.advance(48 * 60 * MINUTE)
      await node.sweep.round()
      assert.deepEqual(events, ['broke_glass', 'expired', 'review_overdue', 'review_overdue', 'reviewed'])
    })

    test('nobody answers in time: others may as well; then it is over', async (t) => {
      const { house, node, ask, decide } = await opened(t)
      const boris = house.sessionOf('boris')
      const { id } = await ask({}, boris)
      await assert.rejects(decide(id, 'erin'), refusedAs('not_found'))
      house.clock.advance(10 * MINUTE)
      await node.sweep.round()
      await decide(id, 'erin')
      const late = await ask({}, boris)
      house.clock.advance(24 * 60 * MINUTE)
      await assert.rejects(decide(late.id), refusedAs('conflict'))
      await node.sweep.round()
      assert.equal((await node.requests.parts.book.find(late.id))?.state, 'expired')
    })

    test('rule 12: the stand-ins of one rule count when its own time is over, not when that of another is', async (t) => {
      const { house, node, ask, decide } = await opened(t)
      const { id, needs } = await ask()
      const erin = { users: ['erin'] }
      const later = { approvers: { users: ['ann'] }, link: needs[0]!.link, escalate: { afterMs: 120 * MINUTE, approvers: erin } }
      const both = JSON.stringify([...needs, later])
      await house.store.write((trx) => trx.updateTable('requests').set({ needs: both }).where('id', '=', id).execute())
      house.clock.advance(11 * MINUTE)
      await node.sweep.round()
      await assert.rejects(decide(id, 'erin'), refusedAs('not_found'))
      house.clock.advance(110 * MINUTE)
      await node.sweep.round()
      const erinNow = Object.assign(house.sessionOf('erin'), { factorAt: house.clock.now() })
      assert.equal((await decide(id, erinNow)).state, 'approved')
    })

    test('rule 12: a yes needs a person’s own sign-in, and a factor of the last five minutes', async (t) => {
      const { house, ask, decide } = await opened(t)
      const boris = house.sessionOf('boris')
      const { id } = await ask({}, boris)
      const { factorAt, ...without } = house.sessionOf('dana')
      await assert.rejects(decide(id, without as TestSession), refusedAs('factor_required'))
      const stale = house.sessionOf('dana')
      house.clock.advance(5 * MINUTE + 1)
      await assert.rejects(decide(id, stale), refusedAs('factor_required'))
      const future = { ...house.sessionOf('dana'), factorAt: house.clock.now() + 1 } as TestSession
      await assert.rejects(decide(id, future), refusedAs('factor_required'), 'a factor of the future is none')
      const dana = house.sessionOf('dana')
      const bearer = { ...dana, principal: { ...dana.principal, proof: 'bearer' } } as TestSession
      await assert.rejects(decide(id, bearer), refusedAs('approval_refused'))
      assert.equal(house.records.filter((record) => record.type === 'request.voted').length, 0)
      assert.ok(house.records.some((record) => record.type === 'action.refused' && record.decision?.reason === 'factor_required'))
      await decide(id)
    })

    test('rule 12: what was shown is what is decided', async (t) => {
      const { house, node, ask } = await opened(t)
      const { id } = await ask({}, house.sessionOf('boris'))
      const other = await ask({ forMs: MINUTE }, house.sessionOf('boris'))
      const dana = house.sessionOf('dana')
      const { seen } = await node.requests.show(dana, other.id)
      await assert.rejects(node.requests.decide(dana, id, { verdict: 'approve', seen, how: 'cli' }), refusedAs('conflict'))
    })

    const saying = (tools: readonly string[]) => canonicalJson({ allow: [{ tool: 'files', tools }] })

    test('rule 12: a role that says something else than what was shown is not given', async (t) => {
      const { house, node, ask } = await opened(t)
      const { id } = await ask()
      const dana = house.sessionOf('dana')
      const { seen, says } = await node.requests.show(dana, id)
      assert.deepEqual(says, { allow: [{ tool: 'files', tools: ['delete_file'] }] })
      const rewritten = (tools: readonly string[]) =>
        house.reduce((trx) =>
          trx
            .updateTable('documents')
            .set({ spec: saying(tools) })
            .where('name', '=', 'deleter')
            .execute(),
        )
      await rewritten(['delete_file', 'view'])
      const conflict = (error: unknown) => refusedAs('conflict')(error) && /role deleter has changed/.test((error as Error).message)
      const decide = (shown: string) => node.requests.decide(dana, id, { verdict: 'approve', seen: shown, how: 'cli' })
      await assert.rejects(decide(seen), conflict)
      // In the very moment between his look and his yes.
      house.hooks.beforeAppend = async ({ type }) => {
        if (type === 'request.decided') house.hooks.beforeAppend = async () => {}
        if (type === 'request.decided') await rewritten(['delete_file', 'fix'])
      }
      await assert.rejects(decide((await node.requests.show(dana, id)).seen), conflict)
      assert.equal((await node.requests.show(dana, id)).state, 'pending')
      assert.equal((await decide((await node.requests.show(dana, id)).seen)).state, 'approved')
    })

    test('rule 12: a yes to what a role said before is no yes to what it says now, and can be given anew', async (t) => {
      const { house, node, ask, decide } = await opened(t)
      const { id, needs } = await ask()
      const both = JSON.stringify([{ ...needs[0]!, approvers: { role: 'lead', count: 2 } }])
      await house.store.write((trx) => trx.updateTable('requests').set({ needs: both }).where('id', '=', id).execute())
      assert.equal((await decide(id, 'dana')).state, 'pending')
      await house.reduce((trx) =>
        trx
          .updateTable('documents')
          .set({ spec: saying(['delete_file', 'view']) })
          .where('name', '=', 'deleter')
          .execute(),
      )
      assert.equal((await decide(id, 'dave')).state, 'pending', 'dana has said yes to something else')
      assert.deepEqual(
        (await node.requests.show(house.sessionOf('dave'), id)).votes.filter(({ outdated }) => outdated).map(({ identityId }) => identityId),
        [house.ids.dana],
      )
      assert.equal((await decide(id, 'dana')).state, 'approved')
    })

    test('the record and the request say which factor each decision was given with', async (t) => {
      const { house, ask, decide } = await opened(t)
      for (const factorBy of ['totp', 'passkey'] as const) {
        const { id } = await ask()
        const { votes } = await decide(id, Object.assign(house.sessionOf('dana'), { factorBy }))
        assert.equal(votes[0]?.factor, factorBy)
        const said = house.records.filter(({ request, type }) => request === id && (type === 'request.voted' || type === 'request.decided'))
        assert.deepEqual(
          said.map(({ data }) => data?.factor),
          [factorBy, factorBy],
        )
      }
    })

    test('of two who answer at once, on two nodes, one does; nobody counts twice', async (t) => {
      const { house, node, ask } = await opened(t)
      const other = await house.startNode('nod_2')
      const boris = house.sessionOf('boris')
      for (let round = 0; round < 5; round++) {
        const { id } = await ask({ forMs: (round + 1) * MINUTE }, boris)
        const answers = [
          { node, as: 'dana', verdict: 'approve' },
          { node: other, as: 'dave', verdict: 'deny' },
          { node: other, as: 'dana', verdict: 'approve' },
        ] as const
        const said = await Promise.allSettled(
          answers.map(async ({ node, as, verdict }) => {
            const session = house.sessionOf(as)
            const { seen } = await node.requests.show(session, id)
            return node.requests.decide(session, id, { verdict, seen, how: 'cli' })
          }),
        )
        const done = said.flatMap((one) => (one.status === 'fulfilled' ? [one.value.state] : []))
        assert.equal(done.length, 1)
        assert.equal((await node.requests.parts.book.find(id))?.state, done[0])
        if (done[0] === 'approved') await node.requests.revoke(house.sessionOf('dave'), id, 'next')
      }
    })

    test('rule 12: a yes of somebody who is locked or disabled by now does not count', async (t) => {
      const { house, node, bot, decide } = await opened(t)
      const parked = async (n: number) => {
        const error = await node.guard.admit(bot, callOf(house.files, 'two_leads', { n }), asking('two_leads', { n })).catch((error) => error)
        return error.parked.request as string
      }
      const [first, second] = [await parked(1), await parked(2)]
      assert.equal((await decide(first, 'dana')).state, 'pending')
      await assert.rejects(decide(first, 'dana'), refusedAs('conflict'), 'nobody says yes twice')
      assert.equal((await decide(second, 'dana')).state, 'pending')
      await house.reduce((trx) => makeLock(trx, { kind: 'identity', target: house.ids.dana!, reason: 'lost laptop', now: START }))
      assert.equal((await decide(first, 'dave')).state, 'pending')
      await assert.rejects(decide(second, 'dana'), ChaperoneError)
    })
  })
}
