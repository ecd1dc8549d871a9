import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../errors.ts'
import { makeDelegation } from '../../identity/delegation/delegations.ts'
import { makeLock } from '../../identity/locks.ts'
import type { StoreLocation } from '../../store/open.ts'
import { asking, callOf, MINUTE, openHouse, refusedAs, START, type TestSession } from './house.fixture.ts'
import type { AccessWish, AskAccess, Decide, RequestEvent } from './types.ts'

/** A role for a while: asked, answered, had, over; on either store. */
export function accessSuite(name: string, place: (t: TestContext) => Promise<StoreLocation>, options: { readonly skip?: string } = {}): void {
  describe(`a role for a while over ${name}`, { skip: options.skip ?? false }, () => {
    const opened = async (t: TestContext) => {
      const house = await openHouse(t, await place(t))
      const node = await house.startNode()
      const bot = house.sessionOf('boris', 'bot')
      const ask = (wish: Partial<AskAccess> = {}, session = bot) => node.requests.ask(session, { role: 'deleter', forMs: 10 * MINUTE, ...wish })
      const decide = async (id: string, as: string | TestSession = 'dana', more: Partial<Decide> = {}) => {
        const session = typeof as === 'string' ? house.sessionOf(as) : as
        const { seen } = await node.requests.show(session, id)
        return node.requests.decide(session, id, { verdict: 'approve', seen, how: 'cli', ...more })
      }
      const use = (tool = 'delete_file', session = bot) => node.guard.admit(session, callOf(house.files, tool), asking(tool))
      return { house, node, bot, ask, decide, use }
    }

    test('a role is had in the live session from the yes on, and ends in it at its minute', async (t) => {
      const { house, node, ask: askAs, decide, use: useAs } = await opened(t)
      const alone = house.sessionOf('bot')
      const [ask, use] = [() => askAs({}, alone), () => useAs('delete_file', alone)]
      await assert.rejects(use(), refusedAs('no_rule'))
      const { id, state } = await ask()
      assert.equal(state, 'pending')
      const given = await decide(id)
      assert.deepEqual([given.state, given.startsAt, given.endsAt], ['approved', START, START + 10 * MINUTE])
      const permit = await use()
      assert.equal(permit.decision.grant, id)
      assert.equal(permit.decision.until, START + 10 * MINUTE)
      assert.equal(house.records.find((record) => record.type === 'action.intent')?.decision?.grant, id)
      house.clock.advance(10 * MINUTE)
      assert.ok(permit.signal.aborted, 'what runs by it is cut')
      await assert.rejects(use(), refusedAs('no_rule'))
      await node.sweep.round()
      assert.equal((await node.requests.parts.book.find(id))?.state, 'expired')
      house.clock.set(START)
      await assert.rejects(use(), refusedAs('no_rule'), 'a clock that is set back brings nothing to life')
    })

    test('rule 7: it belongs to the link that asked, and to those below only when the approver says so', async (t) => {
      const { house, ask, decide, use } = await opened(t)
      const [alone, sub] = [house.sessionOf('bot'), house.sessionOf('bot', 'sub')]
      await decide((await ask({}, alone)).id)
      await use('delete_file', alone)
      await assert.rejects(use('delete_file', house.sessionOf('boris')), refusedAs('no_rule'), 'not the person above')
      await assert.rejects(use('delete_file', house.sessionOf('boris', 'bot')), ChaperoneError, 'not the same agent in another chain')
      await assert.rejects(use('delete_file', sub), refusedAs('no_rule'), 'not the agent below')
      await decide((await ask({ forMs: MINUTE }, alone)).id, 'dana', { below: true })
      await use('delete_file', sub)
    })

    test('rule 7: a person’s grant, given with those below, reaches his agents and nobody else’s', async (t) => {
      const { house, ask, decide, use } = await opened(t)
      const boris = house.sessionOf('boris')
      await decide((await ask({}, boris)).id, 'dana', { below: true })
      await use('delete_file', boris)
      await use('delete_file', house.sessionOf('boris', 'bot'))
      await assert.rejects(use('delete_file', house.sessionOf('bot')), ChaperoneError)
    })

    test('rule 7: what an agent was given when it acted by itself counts for nobody on whose behalf it acts', async (t) => {
      const { house, ask, decide, use } = await opened(t)
      const [boris, alone, behalf] = [house.sessionOf('boris'), house.sessionOf('bot'), house.sessionOf('boris', 'bot')]
      await decide((await ask({}, boris)).id)
      await decide((await ask({}, alone)).id)
      await use('delete_file', alone)
      await assert.rejects(use('delete_file', behalf), refusedAs('no_rule'))
      await decide((await ask({}, behalf)).id)
      await use('delete_file', behalf)
    })

    test('a later start begins at its minute', async (t) => {
      const { house, ask, decide, use } = await opened(t)
      const boris = house.sessionOf('boris')
      const { id } = await ask({ startsAt: START + 60 * MINUTE }, boris)
      await decide(id)
      await assert.rejects(use('delete_file', boris), refusedAs('no_rule'))
      house.clock.advance(60 * MINUTE)
      await use('delete_file', boris)
      house.clock.advance(10 * MINUTE)
      await assert.rejects(use('delete_file', boris), refusedAs('no_rule'))
      await assert.rejects(ask({ startsAt: house.clock.now() + 48 * 60 * MINUTE }, boris), refusedAs('usage'))
      await assert.rejects(ask({ role: 'fixer', startsAt: house.clock.now() + 30 * MINUTE }, boris), refusedAs('usage'))
    })

    test('it is given for a shorter time than was asked for, never a longer one', async (t) => {
      const { house, ask, decide } = await opened(t)
      const boris = house.sessionOf('boris')
      const { id } = await ask({}, boris)
      await assert.rejects(decide(id, 'dana', { forMs: 11 * MINUTE }), refusedAs('usage'))
      assert.equal((await decide(id, 'dana', { forMs: MINUTE })).endsAt, START + MINUTE)
      await assert.rejects(ask({ forMs: 61 * MINUTE }), refusedAs('usage'))
    })

    test('what may not be asked for looks as what does not exist', async (t) => {
      const { house, ask } = await opened(t)
      for (const role of ['admin', 'approver', 'lead', 'nothing']) await assert.rejects(ask({ role }), refusedAs('not_found'))
      await assert.rejects(ask({}, house.sessionOf('dana')), refusedAs('not_found'))
      await assert.rejects(ask({ resource: { kind: 'tool', name: 'hidden' } }), refusedAs('not_found'))
      await assert.rejects(ask({ role: 'one' }), refusedAs('usage'), 'for one resource, which must be named')
    })

    test('rule 8: a resource that is not there, and one that is not for him, are told alike, with what is near among his', async (t) => {
      const { house, ask } = await opened(t)
      const hidden = { ...house.files, id: 'res_hidden', name: 'hidden' }
      await house.reduce((trx) => trx.insertInto('documents').values(hidden).execute())
      const { requests } = await house.startNode('nod_2')
      const boris = house.sessionOf('boris')
      const told = async (name: string) => {
        const error = await requests.ask(boris, { role: 'deleter', forMs: MINUTE, resource: { kind: 'tool', name } }).then(
          () => assert.fail('it was asked'),
          (error: ChaperoneError) => error,
        )
        return [error.code, error.message, error.fix]
      }
      const [nowhere, there] = [await told('nowhere'), await told('hidden')]
      assert.deepEqual(nowhere, there)
      assert.match(nowhere[1]!, /^There is no such resource to ask for/)
      assert.match((await told('flies'))[2]!, /^Did you mean `tool\/files`\? See/)
      await assert.rejects(
        ask({ role: 'oen' }, boris),
        (error: ChaperoneError) => /no such role.*/.test(error.message) && /`one`|one/.test(error.fix ?? ''),
      )
    })

    test('a purpose that stands in for a reason says so, in the answer, in the row and in the record', async (t) => {
      const { house, ask } = await opened(t)
      const bot = Object.assign(house.sessionOf('bot'), { purpose: 'the monthly report' })
      const from = async (wish: Partial<AskAccess>) => {
        const { body, reason, id } = await ask(wish, bot)
        const record = house.records.find(({ type, data }) => type === 'request.made' && data?.request === id)
        assert.equal(record?.data?.reasonFrom, (body as AccessWish).reasonFrom)
        return [reason, (body as AccessWish).reasonFrom]
      }
      assert.deepEqual(await from({}), ['the monthly report', 'session'])
      assert.deepEqual(await from({ purpose: 'order 17' }), ['order 17', 'purpose'])
      assert.deepEqual(await from({ reason: 'the monthly report' }), ['the monthly report', undefined])
    })

    test('for one resource it counts there alone', async (t) => {
      const { house, ask, decide, use } = await opened(t)
      const boris = house.sessionOf('boris')
      const { id } = await ask({ role: 'one', resource: { kind: 'tool', name: 'files' } }, boris)
      await decide(id)
      await use('once', boris)
      const other = { ...house.files, id: 'res_other', name: 'other' }
      await house.reduce((trx) => trx.insertInto('documents').values(other).execute())
      const { guard } = await house.startNode('nod_2')
      await assert.rejects(guard.admit(boris, callOf(other, 'once')), ChaperoneError)
    })

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

    test('rule 7: nobody gives verbs of Chaperone that he does not hold, and a client that inherits gets none', async (t) => {
      const { house, node, ask, decide } = await opened(t)
      const boris = house.sessionOf('boris')
      const { id } = await ask({ role: 'boss' }, boris)
      await assert.rejects(decide(id, 'dana'), refusedAs('approval_refused'))
      await decide(id, 'dave')
      const links = node.state.current().administering(boris.principal.chain, START)
      assert.equal(links[0]?.grants?.length, 1)
      await house.reduce((trx) => trx.updateTable('identities').set({ roles: '"inherit"' }).where('id', '=', house.ids.bot!).execute())
      const second = await ask({ role: 'boss' }, house.sessionOf('boris', 'bot')).catch((error: unknown) => error)
      assert.ok(!(second instanceof ChaperoneError), String(second))
      await decide((second as { id: string }).id, 'dave')
      const inherits = node.state.current().administering(house.sessionOf('boris', 'bot').principal.chain, START)
      assert.deepEqual(inherits[1]?.limits?.roles, [], 'and so no grant counts there')
    })

    test('rule 7: what a delegation leaves out is in no list of what may be asked for, and a role that was granted does not reach it', async (t) => {
      const { house, node, bot, ask, decide, use } = await opened(t)
      const [way] = node.requests.ways(bot)
      assert.ok(way!.resources.some(({ name }) => name === house.files.name))
      const given = house.ids['boris>bot']!
      await decide((await ask()).id)
      const limit = async (limits: object) => {
        // Limits of a row never change; this is another row of the same id, as far as a state that is loaded anew can tell.
        await house.reduce((trx) => trx.updateTable('delegations').set({ ended_at: START }).where('id', '=', given).execute())
        await house.reduce((trx) =>
          trx
            .updateTable('delegations')
            .set({ ended_at: null, limits: JSON.stringify(limits) })
            .where('id', '=', given)
            .execute(),
        )
      }
      await limit({ resources: ['mcp/nothing-else'] })
      assert.ok(node.requests.ways(bot).every(({ resources }) => resources.every(({ name }) => name !== house.files.name)))
      await assert.rejects(ask({ resource: { kind: 'mcp', name: house.files.name } }), refusedAs('not_found'))
      await assert.rejects(use(), refusedAs('not_found'), 'and what was granted is not there either')
      await limit({ effects: [] })
      await assert.rejects(use(), refusedAs('delegation_exceeded'))
    })

    test('withdrawn, given back, revoked: it ends at once', async (t) => {
      const { house, node, ask, decide, use } = await opened(t)
      const boris = house.sessionOf('boris')
      const pending = await ask({}, boris)
      assert.equal((await node.requests.withdraw(boris, pending.id)).state, 'withdrawn')
      await assert.rejects(decide(pending.id), refusedAs('conflict'))
      for (const end of ['withdraw', 'revoke'] as const) {
        const { id } = await ask({}, boris)
        await decide(id)
        const permit = await use('delete_file', boris)
        if (end === 'withdraw') await node.requests.withdraw(boris, id)
        else {
          await assert.rejects(node.requests.revoke(boris, id, 'mine'), refusedAs('approval_refused'))
          await node.requests.revoke(house.sessionOf('dave'), id, 'not any more')
        }
        assert.ok(permit.signal.aborted)
        await assert.rejects(use('delete_file', boris), refusedAs('no_rule'))
      }
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

    test('rule 8: an agent sees what it asked in the chain that it acts in, and not what it asks for others', async (t) => {
      const { house, node, ask } = await opened(t)
      await house.store.write(async (trx) => {
        for (const [from, to] of [
          ['boris', 'sub'],
          ['dana', 'sub'],
          ['sub', 'danabot'],
        ] as const)
          house.ids[`${from}>${to}`] = (await makeDelegation(trx, { fromId: house.ids[from]!, toId: house.ids[to]!, now: START })).id
      })
      const [alone, forBoris, forDana] = [house.sessionOf('sub'), house.sessionOf('boris', 'sub'), house.sessionOf('dana', 'sub')]
      await node.state.refresh((await house.store.reduce(async () => {})).epoch)
      const below = house.sessionOf('boris', 'sub', 'danabot')
      const row = async (session: TestSession) => {
        const { id } = await ask({}, alone)
        const set = { chain: JSON.stringify(session.principal.chain), identity_id: session.principal.identityId }
        await house.store.write((trx) => trx.updateTable('requests').set(set).where('id', '=', id).execute())
        return id
      }
      const [own, his, hers, deeper] = [await row(alone), await row(forBoris), await row(forDana), await row(below)]
      const expected: readonly [TestSession, readonly string[]][] = [
        [alone, [own]],
        [forBoris, [his, deeper]],
        [forDana, [hers]],
        [below, [deeper]],
        [house.sessionOf('boris'), [own, his, hers, deeper]],
        [house.sessionOf('dana'), [own, his, hers, deeper]],
      ]
      for (const [session, ids] of expected) {
        const who = session.principal.chain.length > 1 ? `${session.principal.name} in a chain` : session.principal.name
        assert.deepEqual((await node.requests.list(session, {})).map(({ id }) => id).toSorted(), ids.toSorted(), who)
        for (const id of [own, his, hers, deeper]) {
          if (ids.includes(id)) await node.requests.show(session, id)
          else await assert.rejects(node.requests.show(session, id), refusedAs('not_found'))
        }
      }
      await assert.rejects(node.requests.withdraw(alone, his), refusedAs('not_found'))
      assert.equal((await node.requests.withdraw(forBoris, his)).state, 'withdrawn')
      assert.deepEqual(
        (await node.requests.list(house.sessionOf('dana'), { mine: 'asked' })).map(({ id }) => id).toSorted(),
        [deeper, hers].toSorted(),
        'what she may decide about is not what was asked for her, or by an agent of hers',
      )
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

    test('rule 8: others see nothing of it; who asked, who decides, and who audits do', async (t) => {
      const { house, node, ask } = await opened(t)
      const { id } = await ask()
      const sees = async (...names: readonly [string, ...string[]]) => {
        const session = house.sessionOf(...names)
        const listed = (await node.requests.list(session, {})).some((request) => request.id === id)
        const shown = await node.requests.show(session, id).then(
          () => true,
          (error) => !refusedAs('not_found')(error),
        )
        assert.equal(listed, shown)
        return listed
      }
      for (const who of [['boris'], ['boris', 'bot'], ['dana'], ['ann'], ['audrey']] as [string][])
        assert.equal(await sees(...who), true, String(who))
      assert.equal(await sees('bot'), true, 'the same agent, by itself')
      for (const who of [['erin'], ['sub'], ['boris', 'danabot']] as [string][]) assert.equal(await sees(...who), false, String(who))
      const mine = await node.requests.list(house.sessionOf('dana'), { mine: 'to_decide' })
      assert.deepEqual(
        mine.map((request) => request.id),
        [id],
      )
      assert.deepEqual(await node.requests.list(house.sessionOf('boris'), { mine: 'to_decide' }), [])
    })

    test('each change is told once on every node, whichever made it', async (t) => {
      const { house, node, ask, decide } = await opened(t)
      const other = await house.startNode('nod_2')
      const seen = { here: [] as string[], there: [] as string[] }
      node.requests.watch(({ type, request }) => void seen.here.push(`${type} ${request.id}`))
      other.requests.watch(({ type, request }) => void seen.there.push(`${type} ${request.id}`))
      /** Until so much was told on both, and some looks longer: what is told twice comes then. */
      const settled = async (count: number) => {
        const isTold = () => seen.here.length >= count && seen.there.length >= count
        const end = performance.now() + 30_000
        for (let more = 5; more > 0 && performance.now() < end; more -= isTold() ? 1 : 0) {
          house.clock.advance(100)
          await new Promise((turn) => setTimeout(turn, 10))
        }
      }
      await settled(0)
      const { id } = await ask()
      await settled(1)
      await decide(id)
      await settled(2)
      await node.requests.revoke(house.sessionOf('dave'), id, 'enough')
      await settled(3)
      const told = ['made', 'approved', 'revoked'].map((type) => `${type} ${id}`)
      assert.deepEqual(seen, { here: told, there: told })
    })

    test('what is announced is announced inside the change, and undone with it', async (t) => {
      const { house, node, ask } = await opened(t)
      node.requests.announcing(async (_, { type }) => {
        if (type === 'made') throw new ChaperoneError('internal', 'the outbox is broken')
      })
      await assert.rejects(ask(), refusedAs('internal'))
      assert.deepEqual(await house.store.db.selectFrom('requests').select('id').execute(), [])
    })
  })
}
