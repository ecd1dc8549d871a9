import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import { replyToServer } from '../refuse.ts'
import type { UpstreamMessage } from '../wire.ts'
import type { Member } from './flight.ts'

interface QuestionsParts {
  readonly name: string
  readonly clock: Clock
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

/**
 * Each question is judged and recorded, also one that is refused: a server that asks without end would fill the disk with
 * records. More than these, at once and in a minute, are answered without being asked.
 */
const MOST_OPEN = 64
const MOST_A_MINUTE = 600
const MINUTE_MS = 60_000

/** What a server that several sessions may share asks of its client. */
export class Questions {
  readonly #parts: QuestionsParts
  readonly #open = new Map<Member, number>()
  #minute = { from: 0, questions: 0 }

  constructor(parts: QuestionsParts) {
    this.#parts = parts
  }

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
    if (!this.#mayAsk(member)) {
      this.#parts.log('mcp.child.asks', { server: this.#parts.name, method: message.method?.slice(0, 128) })
      return JSON.stringify(replyToServer(id, new ChaperoneError('too_many', 'The server asks its client too much.')))
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

  #mayAsk(member: Member): boolean {
    const now = this.#parts.clock.now()
    if (now - this.#minute.from >= MINUTE_MS || now < this.#minute.from) this.#minute = { from: now, questions: 0 }
    return (this.#open.get(member) ?? 0) < MOST_OPEN && ++this.#minute.questions <= MOST_A_MINUTE
  }
}
