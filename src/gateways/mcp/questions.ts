import { ChaperoneError } from '../../errors.ts'
import type { Answer } from './answer.ts'
import type { Member } from './flight.ts'
import { replyToServer } from './refuse.ts'
import type { UpstreamMessage } from './wire.ts'

/** What a server that several sessions may share asks of its client. */
export class Questions {
  readonly #open = new Map<Member, number>()

  /** A question to this member is not answered: until then the server's silence is ours. */
  waitsFor(member: Member): boolean {
    return (this.#open.get(member) ?? 0) > 0
  }

  /** The answer for the server. `member` is the one that alone can be meant; undefined: nobody can say whom it means. */
  async ask(message: UpstreamMessage, member: Member | undefined, via: Answer | undefined): Promise<string> {
    const id = message.id!
    // A ping carries nothing and asks only whether the line is alive; we are its other end.
    if (message.method === 'ping') return JSON.stringify({ jsonrpc: '2.0', id, result: {} })
    if (!member) {
      return JSON.stringify(replyToServer(id, new ChaperoneError('unsupported', 'This process serves several clients, so it can ask none of them.')))
    }
    this.#open.set(member, (this.#open.get(member) ?? 0) + 1)
    try {
      return await member.asker.asked(message, via)
    } finally {
      const left = this.#open.get(member)! - 1
      if (left > 0) this.#open.set(member, left)
      else this.#open.delete(member)
    }
  }
}
