import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { ChaperoneError } from '../../errors.ts'
import { makeDelegation } from '../../identity/delegation/delegations.ts'
import type { StoreLocation } from '../../store/open.ts'
import { openAccess } from './access.fixture.ts'
import { refusedAs, START, type TestSession } from './house.fixture.ts'

/** Who sees a request, and who is told of its changes; on either store. */
export function seenSuite(name: string, place: (t: TestContext) => Promise<StoreLocation>, options: { readonly skip?: string } = {}): void {
  describe(`what is seen of a request over ${name}`, { skip: options.skip ?? false }, () => {
    const opened = async (t: TestContext) => openAccess(t, await place(t))

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
