import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { StoreLocation } from '../../store/open.ts'
import { Refusal } from '../types.ts'
import { asking, callOf, openHouse } from './house.fixture.ts'

/** A house, one node, and calls that a rule asks about. */
export async function openCall(t: TestContext, place: StoreLocation) {
  const house = await openHouse(t, place)
  const node = await house.startNode()
  const bot = house.sessionOf('boris', 'bot')
  const attempt = (tool = 'write_file', args: object = {}, session = bot, known?: string) => {
    const { asking: about } = asking(tool, args)
    return node.guard.admit(session, callOf(house.files, tool, args), { asking: { ...about!, ...(known === undefined ? {} : { known }) } })
  }
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

export async function until(done: () => boolean): Promise<void> {
  const end = performance.now() + 30_000
  while (performance.now() < end) {
    if (done()) return
    await new Promise((turn) => setTimeout(turn, 5))
  }
  assert.fail('it never came')
}
