import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { makeLock } from '../../identity/locks.ts'
import type { StoreLocation } from '../../store/open.ts'
import type { Write } from '../../store/store.ts'
import { RETRIES } from '../approvals.ts'
import type { Refusal } from '../types.ts'
import { openCall } from './call.fixture.ts'
import { asking, callOf, type House, MINUTE, refusedAs } from './house.fixture.ts'
import type { CallWish } from './types.ts'

/** One exact call: asked, answered, run once; on either store. */
export function callsSuite(name: string, place: (t: TestContext) => Promise<StoreLocation>, options: { readonly skip?: string } = {}): void {
  describe(`an exact call over ${name}`, { skip: options.skip ?? false }, () => {
    const opened = async (t: TestContext) => openCall(t, await place(t))

    test('rule 12: a call that a rule asks about waits, runs once after the yes, and not a second time', async (t) => {
      const { house, attempt, parked, approve, node } = await opened(t)
      const first = await parked()
      assert.match(first.url, new RegExp(`/requests/${first.request}$`))
      assert.equal(first.approvers, 'a holder of role lead')
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
      // Which of the two comes first is the store's business.
      const late = said[0].status === 'rejected' ? one : two
      assert.deepEqual(
        said.map((each) => (each.status === 'fulfilled' ? each.value.state : refusedAs('factor_required')(each.reason))).sort(),
        ['approved', true],
        'one code is one yes, also when both come at once',
      )
      after()
      assert.equal((await confirm(late.request)).state, 'approved')
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

    test('rule 11: nor does a person with all of his agents ask without end in a day', async (t) => {
      const { house, parked, attempt } = await opened(t)
      const { request } = await parked('write_file', { i: 0 })
      const [row] = await house.store.db.selectFrom('requests').selectAll().where('id', '=', request).execute()
      const more = Array.from({ length: 1_999 }, (_, i) => ({ ...row!, id: `req_${i}`, digest: `${i}`, state: 'denied' as const }))
      for (let i = 0; i < more.length; i += 400) {
        const some = more.slice(i, i + 400).map((one) => ({ ...one, identity_id: house.ids[i < 400 ? 'sub' : 'boris']! }))
        await house.store.write((trx) => trx.insertInto('requests').values(some).execute())
      }
      await assert.rejects(attempt('write_file', { i: 1 }), (error: unknown) => {
        return refusedAs('too_many')(error) && /One person and what acts for him have made 2000 requests in a day/.test((error as Error).message)
      })
      await parked('write_file', { i: 1 }, house.sessionOf('danabot'))
    })

    test('rule 11: what waits is asked for again so many times a minute, and a wait of its own is none of them', async (t) => {
      const { house, attempt, parked, approve } = await opened(t)
      const { request } = await parked()
      for (let i = 0; i < RETRIES.most; i++) await parked()
      const before = house.records.length
      await assert.rejects(attempt(), (error: unknown) => refusedAs('rate_limited')(error) && (error as Refusal).decision.retryAfter === 1)
      assert.deepEqual(
        house.records.slice(before).map(({ type, decision }) => [type, decision?.reason]),
        [['action.refused', 'rate_limited']],
      )
      await assert.rejects(attempt('write_file', {}, undefined, request), refusedAs('approval_required'), 'who waits and looks again asks nobody')
      await parked('write_file', { another: true })
      await approve(request)
      await attempt()
    })

    const VALUES = { pin: '4711' }
    const shownIn = async (house: House, id: string) => {
      const { body } = await house.store.db.selectFrom('requests').select('body').where('id', '=', id).executeTakeFirstOrThrow()
      return { whole: body.includes('4711'), parts: (JSON.parse(body) as CallWish).shown }
    }

    test('rule 5: values that are not to be kept leave the request with its end, whatever that is', async (t) => {
      const { house, node, bot, approve } = await opened(t)
      const { asking: about } = asking('write_file', VALUES)
      const once = (n: number) => {
        const call = async () => ({ ...(await about!.call()), bound: `${n}`, fleeting: true as const })
        return node.guard.admit(bot, callOf(house.files, 'write_file', VALUES), { asking: { call } })
      }
      const asked = async (n: number) => {
        const refusal = await once(n).catch((error: unknown) => error)
        return (refusal as Refusal).parked!.request
      }
      const ends: Readonly<Record<string, (id: string, n: number) => Promise<unknown>>> = {
        denied: (id) => approve(id, 'dana', 'deny'),
        withdrawn: (id) => node.requests.withdraw(house.sessionOf('boris'), id),
        async used(id, n) {
          await approve(id)
          const settled = Promise.withResolvers<void>()
          const stop = node.requests.watch(({ request }) => request.id === id && request.outcome !== undefined && settled.resolve())
          node.guard.settle(await once(n), { status: 'ok' })
          await settled.promise
          stop()
        },
        async expired(id) {
          house.clock.advance(61 * MINUTE)
          await node.sweep.round()
          assert.equal((await node.requests.parts.book.find(id))?.state, 'expired')
        },
      }
      for (const [n, [state, end]] of Object.entries(ends).entries()) {
        const id = await asked(n)
        assert.ok((await shownIn(house, id)).whole, 'its approver reads them')
        await end(id, n)
        const { whole, parts } = await shownIn(house, id)
        assert.ok(!whole, state)
        assert.deepEqual(parts, [{ title: 'Arguments', form: 'text', text: '', erased: { size: 14 } }], state)
      }
    })

    test('rule 5: what was shown of any call is gone a week after its end; what it was, and its digest, stay', async (t) => {
      const { house, node, approve, parked } = await opened(t)
      const { request } = await parked('write_file', VALUES)
      await approve(request, 'dana', 'deny')
      await node.sweep.round()
      assert.ok((await shownIn(house, request)).whole)
      house.clock.advance(8 * 24 * 60 * MINUTE)
      await node.sweep.round()
      const { whole, parts } = await shownIn(house, request)
      assert.ok(!whole)
      assert.match(parts[0]?.erased?.sha256 ?? '', /^[0-9a-f]{64}$/)
      assert.equal(((await node.requests.parts.book.find(request))!.body as CallWish).summary, 'call write_file')
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
      const [shown] = (body as CallWish).shown
      assert.ok(!JSON.stringify(body).includes(key))
      assert.ok(shown!.cut && shown!.cut.size > 100_000 && Buffer.byteLength(shown!.text) <= 65_536)
      assert.ok(!shown!.text.includes('\ufffd'))
      assert.ok(house.records.length > 0)
    })
  })
}
