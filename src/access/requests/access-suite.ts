import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { ChaperoneError } from '../../errors.ts'
import type { StoreLocation } from '../../store/open.ts'
import { openAccess } from './access.fixture.ts'
import { callOf, MINUTE, refusedAs, START } from './house.fixture.ts'
import type { AccessWish, AskAccess } from './types.ts'

/** A role for a while: asked for, had, over; on either store. */
export function accessSuite(name: string, place: (t: TestContext) => Promise<StoreLocation>, options: { readonly skip?: string } = {}): void {
  describe(`a role for a while over ${name}`, { skip: options.skip ?? false }, () => {
    const opened = async (t: TestContext) => openAccess(t, await place(t))

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
  })
}
