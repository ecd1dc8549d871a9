import { ChaperoneError } from '../../../errors.ts'
import type { Action, Decision, Obligations } from '../../../policy/types.ts'
import { describeSql, type Place, type SqlContext, statementAction } from '../describe.ts'
import { readChannel } from '../wire/server.ts'

interface HearingParts {
  readonly place: Place
  readonly context: SqlContext
  judge(action: Action): Decision
  /** Said once a connection: whoever notifies decides how often. */
  messageRefused(error: ChaperoneError): void
}

/** Channels of one connection whose LISTEN is remembered as an action. */
const MOST_CHANNELS = 100

/**
 * What others NOTIFY comes when they send it, outside of every statement, for as long as the connection lasts: whether it may is asked
 * anew of each message, as of the LISTEN itself. The right to that may have ended, or the LISTEN run in code that nobody saw.
 */
export class Hearing {
  readonly #parts: HearingParts
  readonly #actions = new Map<string, Action>()
  #isSaid = false

  constructor(parts: HearingParts) {
    this.#parts = parts
  }

  hears(notification: Buffer): boolean {
    const channel = readChannel(notification)
    if (this.#mayHear(channel)) return true
    if (!this.#isSaid) {
      this.#isSaid = true
      this.#parts.messageRefused(new ChaperoneError('no_rule', 'A notification was not passed on: no rule allows LISTEN on its channel (any more).'))
    }
    return false
  }

  /** A human's yes was to the LISTEN, and holds for what comes by it. */
  #mayHear(channel: string): boolean {
    try {
      const { verdict, obligations } = this.#parts.judge(this.#listenTo(channel))
      return verdict !== 'deny' && !hides(obligations)
    } catch {
      return false
    }
  }

  #listenTo(channel: string): Action {
    const known = this.#actions.get(channel)
    if (known) return known
    const { place, context } = this.#parts
    const action = statementAction(place, describeSql(`LISTEN "${channel.replaceAll('"', '""')}"`)[0]!, context)
    if (this.#actions.size >= MOST_CHANNELS) this.#actions.clear()
    this.#actions.set(channel, action)
    return action
  }
}

/** Nobody can say what is hidden in a text that a trigger made. */
const hides = ({ mask }: Obligations) => mask !== undefined && Object.keys(mask as object).length > 0
