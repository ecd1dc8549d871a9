import { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import type { McpLimits } from './limits.ts'

export interface Crowd {
  /** A place for one request, until the function that it returns is called. Throws `too_many`. */
  enter(person: string): () => void
  /** Resolves when a message of so many bytes may be read. Small ones never wait. */
  turn(person: string, bytes: number): Promise<void>
  /** requests under way */
  readonly size: number
}

/** Whose share a request is of: on whose behalf it is. More agents of one person are no more people. */
export const personOf = ({ principal }: LiveSession): string => principal.chain[0]?.identity ?? principal.identityId

/** Reading a larger message holds up the whole process: 4 MiB take up to a quarter of a second. */
const LARGE = 64 * 1024

/**
 * Keeps one person's requests from being everybody's (rule 11). A request has a place before its body is read: without that,
 * thousands of connections with a body each would fill the memory. Large messages are read one in each turn of the event loop,
 * and people take turns, so that a small one of somebody else waits for one large message at most.
 */
export function makeCrowd(limits: Pick<McpLimits, 'requestsPerPerson' | 'requests'>): Crowd {
  const inside = new Map<string, number>()
  const waiting = new Map<string, (() => void)[]>()
  let size = 0
  let calling = false

  const callNext = (): void => {
    const [next] = waiting
    if (!next) {
      calling = false
      return
    }
    const [person, turns] = next
    // To the end of the line of people, whatever else this one has.
    waiting.delete(person)
    turns.shift()!()
    if (turns.length > 0) waiting.set(person, turns)
    setImmediate(callNext)
  }

  return {
    enter(person) {
      const mine = inside.get(person) ?? 0
      if (mine >= limits.requestsPerPerson)
        throw new ChaperoneError('too_many', `You have ${mine} requests under way.`, { fix: 'Wait for some of them to be answered.' })
      if (size >= limits.requests) throw new ChaperoneError('too_many', 'Chaperone has as many requests under way as it may.')
      inside.set(person, mine + 1)
      size++
      let left = false
      return () => {
        if (left) return
        left = true
        size--
        const others = inside.get(person)! - 1
        if (others > 0) inside.set(person, others)
        else inside.delete(person)
      }
    },

    turn(person, bytes) {
      if (bytes <= LARGE) return Promise.resolve()
      const { promise, resolve } = Promise.withResolvers<void>()
      const turns = waiting.get(person)
      if (turns) turns.push(resolve)
      else waiting.set(person, [resolve])
      if (!calling) {
        calling = true
        setImmediate(callNext)
      }
      return promise
    },

    get size() {
      return size
    },
  }
}
