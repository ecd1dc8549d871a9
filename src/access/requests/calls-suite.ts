import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { makeLock } from '../../identity/locks.ts'
import type { StoreLocation } from '../../store/open.ts'
import type { Write } from '../../store/store.ts'
import { admitAsking } from '../park.ts'
import { Refusal } from '../types.ts'
import { asking, callOf, MINUTE, openHouse, refusedAs } from './house.fixture.ts'
import type { CallWish } from './types.ts'

/** One exact call: asked, answered, run once; on either store. */
export function callsSuite(name: string, place: (t: TestContext) => Promise<StoreLocation>, options: { readonly skip?: string } = {}): void {
  describe(`an exact call over ${name}`, { skip: options.skip ?? false }, () => {
    const opened = async (t: TestContext) => {
      const house = await openHouse(t, await place(t))
      const node = await house.startNode()
      const bot = house.sessionOf('boris', 'bot')
      const attempt = (tool = 'write_file', args: object = {}, session = bot) =>
        node.guard.admit(session, callOf(house.files, tool, args), asking(tool, args))
      const parked = async (...given: Parameters<typeof attempt>) => {
        const refusal = await attempt(...given).then(
          () => assert.fail('it was let through'),
          (error: unknown) => error,
        )
        assert.ok(refusal instanceof Refusal && refusal.parked, String(refusal))
        return refusal.parked
      }
      const approve = async (id: string, as = 'dana', verdict: 'approve' | 'deny' = 'approve') => {
        const session = house.sessionOf(as)
        const { seen } = await node.requests.show(session, id)
        return node.requests.decide(session, id, { verdict, seen, how: 'cli' })
      }
      return { house, node, bot, attempt, parked, approve }
    }

    test('rule 12: a call that a rule asks about waits, runs once after the yes, and not a second time', async (t) => {
      const { house, attempt, parked, approve, node } = await opened(t)
      const first = await parked()
      assert.match(first.url, new RegExp(`/requests/${first.request}$`))
      assert.equal(first.approvers, 'a holder of lead')
      assert.equal((await parked()).request, first.request, 'the same call is the same question')
      assert.equal((await approve(first.request)).state, 'approved')
      const permit = await attempt()
      assert.equal(permit.decision.verdict, 'ask')
      const intent = house.records.find((record) => record.type === 'action.intent')
      assert.deepEqual([intent?.id, intent?.request], [permit.id, first.request])
      node.guard.settle(permit, { status: 'ok' })
      assert.notEqual((await parked()).request, first.request, 'a second time is a second question')
      assert.deepEqual(house.troubles, [])
    })

    test('rule 12: another argument, tool or identity needs its own yes', async (t) => {
      const { house, parked, approve, attempt } = await opened(t)
      await approve((await parked('write_file', { path: 'a' })).request)
      await parked('write_file', { path: 'b' })
      await parked('two_leads', { path: 'a' })
      await parked('write_file', { path: 'a' }, house.sessionOf('boris', 'danabot'))
      await attempt('write_file', { path: 'a' })
    })

    test('rule 12: a yes of somebody who may not say it any more, when the call comes, is none', async (t) => {
      const { house, node, parked, approve, attempt } = await opened(t)
      const lost: readonly ((trx: Write) => Promise<unknown>)[] = [
        (trx) => trx.updateTable('identities').set({ state: 'disabled' }).where('id', '=', house.ids.dana!).execute(),
        (trx) => trx.updateTable('identities').set({ state: 'active', roles: '[]' }).where('id', '=', house.ids.dana!).execute(),
        (trx) => makeLock(trx, { kind: 'identity', target: house.ids.dana!, reason: 'lost laptop', now: house.clock.now() }),
      ]
      const { roles } = await house.store.db.selectFrom('identities').select('roles').where('id', '=', house.ids.dana!).executeTakeFirstOrThrow()
      for (const [i, change] of lost.entries()) {
        const args = { path: String(i) }
        const { request } = await parked('write_file', args)
        await house.reduce((trx) => trx.updateTable('identities').set({ state: 'active', roles }).where('id', '=', house.ids.dana!).execute())
        await approve(request)
        await house.reduce(change)
        const again = await parked('write_file', args)
        assert.notEqual(again.request, request, 'it is asked anew')
        assert.equal((await node.requests.decided(request, { ms: 0 })).state, 'revoked')
        await assert.rejects(attempt('write_file', args), refusedAs('approval_required'))
      }
    })

    test('rule 12: to confirm what the own agent asks for takes a factor of its own, given after the question', async (t) => {
      const { house, node, bot, parked } = await opened(t)
      const boris = house.sessionOf('boris')
      const confirm = async (id: string) =>
        node.requests.decide(boris, id, { verdict: 'approve', seen: (await node.requests.show(boris, id)).seen, how: 'cli' })
      const after = () => {
        house.clock.advance(1_000)
        boris.factorAt = house.clock.now()
        house.clock.advance(1_000)
      }
      after()
      const [one, two] = [await parked('mine', { n: 1 }, bot), await parked('mine', { n: 2 }, bot)]
      await assert.rejects(confirm(one.request), refusedAs('factor_required'), 'the code was given for something else')
      after()
      const said = await Promise.allSettled([confirm(one.request), confirm(two.request)])
      assert.deepEqual(
        said.map((each) => (each.status === 'fulfilled' ? each.value.state : refusedAs('factor_required')(each.reason))),
        ['approved', true],
        'one code is one yes, also when both come at once',
      )
      after()
      assert.equal((await confirm(two.request)).state, 'approved')
    })

    test('rule 12: fifty retries of an approved call run once', async (t) => {
      const { house, parked, approve, attempt } = await opened(t)
      await approve((await parked()).request)
      const tries = await Promise.allSettled(Array.from({ length: 50 }, () => attempt()))
      assert.equal(tries.filter((one) => one.status === 'fulfilled').length, 1)
      for (const one of tries)
        if (one.status === 'rejected') assert.ok(['approval_used', 'approval_required'].includes(one.reason.code), one.reason.code)
      assert.equal(house.records.filter((record) => record.type === 'action.intent').length, 1)
    })

    test('rule 12: a further round goes on under the approval of its call, once, and as the same call', async (t) => {
      const { house, bot, parked, approve, attempt, node } = await opened(t)
      await approve((await parked('write_file', { path: 'a' })).request)
      const first = await attempt('write_file', { path: 'a' })
      node.guard.settle(first, { status: 'ok' })
      const round = (continues: string, args: object = { path: 'a' }) =>
        node.guard.admit(bot, callOf(house.files, 'write_file', args), { asking: { ...asking('write_file', args).asking!, continues } })
      await assert.rejects(round(first.id, { path: 'b' }), refusedAs('approval_unavailable'))
      await assert.rejects(round('per_none'), refusedAs('approval_unavailable'))
      const tries = await Promise.allSettled(Array.from({ length: 20 }, () => round(first.id)))
      const [second, ...others] = tries.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
      assert.equal(others.length, 0)
      node.guard.review()
      assert.equal(second!.signal.aborted, false)
      node.guard.settle(second!, { status: 'ok' })
      node.guard.settle(await round(second!.id), { status: 'ok' })
      await assert.rejects(round(first.id), refusedAs('approval_unavailable'))
    })

    test('rule 12: what only follows an approved call up uses nothing, and is for its own chain and rules alone', async (t) => {
      const { house, bot, parked, approve, attempt, node } = await opened(t)
      await approve((await parked()).request)
      const ran = await attempt()
      node.guard.settle(ran, { status: 'ok' })
      const follow = (session = bot, tool = 'write_file', follows = ran.id) =>
        node.guard.admit(session, callOf(house.files, tool), { asking: { ...asking(tool).asking!, follows } })
      for (let i = 0; i < 3; i++) node.guard.settle(await follow(), { status: 'ok' })
      await assert.rejects(follow(house.sessionOf('bot')), refusedAs('approval_unavailable'))
      await assert.rejects(follow(house.sessionOf('boris', 'danabot')), refusedAs('approval_unavailable'))
      await assert.rejects(follow(bot, 'two_leads'), refusedAs('approval_unavailable'))
      await parked()
    })

    test('fifty that ask at once make one question', async (t) => {
      const { house, parked } = await opened(t)
      const all = await Promise.all(Array.from({ length: 50 }, () => parked()))
      assert.equal(new Set(all.map((one) => one.request)).size, 1)
      assert.equal((await house.store.db.selectFrom('requests').select('id').execute()).length, 1)
    })

    test('two nodes that are asked the same at once make one question', async (t) => {
      const { house, bot, parked } = await opened(t)
      const other = await house.startNode('nod_2')
      const call = callOf(house.files, 'write_file')
      const there = other.guard.admit(bot, call, asking('write_file')).catch((error: Refusal) => error.parked!)
      const [a, b] = await Promise.all([parked(), there])
      assert.equal(a.request, 'request' in b ? b.request : '')
    })

    test('a no is an answer until its time is over; then it may be asked again', async (t) => {
      const { house, parked, approve, attempt } = await opened(t)
      const { request } = await parked()
      await approve(request, 'dana', 'deny')
      await assert.rejects(attempt(), refusedAs('approval_denied'))
      house.clock.advance(61 * MINUTE)
      assert.notEqual((await parked()).request, request)
    })

    test('rule 4: an approval that is not used in time is over', async (t) => {
      const { house, node, parked, approve, attempt } = await opened(t)
      const { request } = await parked()
      await approve(request)
      house.clock.advance(15 * MINUTE + 1)
      assert.notEqual((await parked()).request, request)
      await node.sweep.round()
      assert.equal((await node.requests.parts.book.find(request))?.state, 'expired')
      await assert.rejects(attempt(), refusedAs('approval_required'))
    })

    test('rule 3: what cannot be recorded uses no approval up', async (t) => {
      const { house, parked, approve, attempt } = await opened(t)
      await approve((await parked()).request)
      house.hooks.beforeAppend = async () => {
        throw new Error('the disk is full')
      }
      await assert.rejects(attempt())
      house.hooks.beforeAppend = async () => {}
      await attempt()
    })

    test('what became of it stands in the request; a permit that nobody holds any more is unknown', async (t) => {
      const { house, node, parked, approve, attempt } = await opened(t)
      const changed = Promise.withResolvers<void>()
      node.requests.watch(({ request }) => request.outcome !== undefined && changed.resolve())
      const { request } = await parked()
      await approve(request)
      node.guard.settle(await attempt(), { status: 'ok', facts: { rows: 1 } })
      await changed.promise
      assert.equal((await node.requests.parts.book.find(request))?.outcome, 'ok')
      const second = (await parked()).request
      await approve(second)
      await attempt()
      node.stop()
      const again = await house.startNode()
      await again.sweep.begin()
      const lost = await again.requests.parts.book.find(second)
      assert.deepEqual([lost?.state, lost?.outcome], ['unknown', 'unknown'])
      await parked()
    })

    test('parked calls and approvals outlive the process', async (t) => {
      const { house, node, bot, parked, approve } = await opened(t)
      const { request } = await parked()
      node.stop()
      const again = await house.startNode()
      await again.sweep.begin()
      const call = callOf(house.files, 'write_file')
      const same = await again.guard.admit(bot, call, asking('write_file')).catch((error: Refusal) => error.parked)
      assert.ok(same && 'request' in same && same.request === request)
      await approve(request)
      await again.guard.admit(bot, call, asking('write_file'))
    })

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

    test('where nobody can be asked it is refused, and says why', async (t) => {
      const { house, node, bot } = await opened(t)
      const call = callOf(house.files, 'write_file')
      await assert.rejects(node.guard.admit(bot, call), refusedAs('approval_unavailable'))
      const why = { asking: { ...asking('write_file').asking!, cannot: 'A transaction is open.' } }
      await assert.rejects(node.guard.admit(bot, call, why), (error: Refusal) => /A transaction is open/.test(error.message))
      assert.equal((await house.store.db.selectFrom('requests').select('id').execute()).length, 0)
    })

    test('a confirmation is asked of the person behind an agent; who acts by himself is told that there is none', async (t) => {
      const { house, attempt, parked, approve } = await opened(t)
      const { request } = await parked('mine')
      await assert.rejects(approve(request, 'dana'), refusedAs('not_found'))
      await approve(request, 'boris')
      assert.equal(house.records.find((record) => record.type === 'request.decided')?.data?.confirmation, true)
      await attempt('mine')
      await assert.rejects(attempt('mine', {}, house.sessionOf('boris')), refusedAs('approval_unavailable'))
    })

    test('rule 11: an identity has so many questions waiting, and no more', async (t) => {
      const { attempt, parked } = await opened(t)
      for (let i = 0; i < 25; i++) await parked('write_file', { i })
      await assert.rejects(attempt('write_file', { i: 25 }), refusedAs('too_many'))
      await parked('write_file', { i: 3 })
    })

    test('rule 11: nor has a person with all of his agents, who could bury what others ask', async (t) => {
      const { house, parked, attempt } = await opened(t)
      const { request } = await parked('write_file', { i: 0 })
      const [row] = await house.store.db.selectFrom('requests').selectAll().where('id', '=', request).execute()
      const more = Array.from({ length: 99 }, (_, i) => ({ ...row!, id: `req_${i}`, digest: `${i}`, identity_id: house.ids.sub! }))
      await house.store.write((trx) => trx.insertInto('requests').values(more).execute())
      await assert.rejects(attempt('write_file', { i: 1 }), refusedAs('too_many'))
      await parked('write_file', { i: 1 }, house.sessionOf('boris', 'danabot'))
    })

    test('rule 12: the name of what runs cannot be turned around or hidden in the heading of its approver', async (t) => {
      const { house, node, bot } = await opened(t)
      const call = { ...callOf(house.files, 'anybody'), summary: 'call tfel\u202eread_\u200b\u0007' }
      const refusal = await node.guard.admit(bot, call, asking('anybody')).catch((error: unknown) => error)
      const row = await node.requests.parts.book.find((refusal as Refusal).parked!.request)
      const { summary, message } = row!.body as CallWish
      assert.equal(summary, 'call tfel\\u{202e}read_\\u{200b}\\u{7}')
      assert.doesNotMatch(message, /[\p{Cc}\p{Cf}]/u)
    })

    test('rule 5: what is shown holds no secret, and is cut visibly', async (t) => {
      const { house, node, parked } = await opened(t)
      const key = 'AKIAIOSFODNN7EXAMPLE'
      const { request } = await parked('write_file', { key: `aws_access_key_id=${key}`, text: 'ä'.repeat(50_000) })
      const { body } = (await node.requests.parts.book.find(request))!
      const [shown] = (body as { shown: { text: string; cut?: { size: number } }[] }).shown
      assert.ok(!JSON.stringify(body).includes(key))
      assert.ok(shown!.cut && shown!.cut.size > 100_000 && Buffer.byteLength(shown!.text) <= 65_536)
      assert.ok(!shown!.text.includes('\ufffd'))
      assert.ok(house.records.length > 0)
    })
  })
}

async function until(done: () => boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (done()) return
    await new Promise((turn) => setTimeout(turn, 5))
  }
  assert.fail('it never came')
}
