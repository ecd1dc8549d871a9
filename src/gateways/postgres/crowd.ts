import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'

/** The person at the start of the chain: many agents of one person are still one. */
const personOf = ({ principal }: LiveSession): string => principal.chain[0]?.identity ?? principal.identityId

/**
 * How many connections stand to each server, and whose. One person gets at most half of what a server gives, so that no
 * agent that opens connections in a loop shuts out everybody else.
 */
export class Crowd {
  readonly #all = new Map<string, number>()
  readonly #ofPerson = new Map<string, number>()

  /** Takes a place, and gives the function that gives it back. Throws ChaperoneError (`too_many`). */
  join(resourceId: string, session: LiveSession, most: number): () => void {
    const mine = `${resourceId}\0${personOf(session)}`
    const half = Math.ceil(most / 2)
    if ((this.#ofPerson.get(mine) ?? 0) >= half)
      throw new ChaperoneError('too_many', `You have ${half} connections to this database open, half of all that it takes.`, {
        fix: 'Close those that are not used.',
      })
    if ((this.#all.get(resourceId) ?? 0) >= most)
      throw new ChaperoneError('too_many', `All ${most} connections to this database are taken.`, { fix: 'Try again later.' })
    add(this.#all, resourceId, 1)
    add(this.#ofPerson, mine, 1)
    let left = false
    return () => {
      if (left) return
      left = true
      add(this.#all, resourceId, -1)
      add(this.#ofPerson, mine, -1)
    }
  }
}

function add(counts: Map<string, number>, key: string, by: 1 | -1): void {
  const now = (counts.get(key) ?? 0) + by
  if (now > 0) counts.set(key, now)
  else counts.delete(key)
}
