import type { TestContext } from 'node:test'
import type { StoreLocation } from '../../store/open.ts'
import { asking, callOf, MINUTE, openHouse, type TestSession } from './house.fixture.ts'
import type { AskAccess, Decide } from './types.ts'

/** boris/bot asks for the role `deleter`; dana answers. */
export async function openAccess(t: TestContext, location: StoreLocation) {
  const house = await openHouse(t, location)
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
