import type { IncomingMessage } from 'node:http'
import { ChaperoneError } from '../errors.ts'

/** What is read once, and of which Node hands out the first and drops the others, by the length of its name. */
const SINGLE: ReadonlyMap<number, string> = new Map(['host', 'authorization', 'content-type'].map((name) => [name.length, name]))

/**
 * Refuses a request that says twice who asks, of whom, or in which form (RFC 9110 section 5.3, RFC 9112 section 3.2): whatever stands
 * before us may have looked at the other one. Throws `ambiguous`.
 */
export function assertSingle({ rawHeaders }: Pick<IncomingMessage, 'rawHeaders'>): void {
  const seen: string[] = []
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = SINGLE.get(rawHeaders[i]!.length)
    if (name === undefined || rawHeaders[i]!.toLowerCase() !== name) continue
    if (seen.includes(name)) throw new ChaperoneError('ambiguous', `The header ${name} stands there twice.`)
    seen.push(name)
  }
}
