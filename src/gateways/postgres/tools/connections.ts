import type { Refusal } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Connection } from '../../../identity/types.ts'
import type { Wire } from '../in-memory.ts'
import type { Who } from '../relay.ts'
import { DatabaseClient } from './client.ts'
import type { Caller, ToolLimits } from './types.ts'

interface ConnectionsParts {
  /** The way into the gateway from inside this process: judged and recorded from the startup packet on. */
  readonly enter: (who: Who) => Wire
  readonly clock: Clock
  readonly limits: ToolLimits
  /** as the gateway names it: `resource/database` */
  readonly database: string
}

/** A connection, and the call that uses it now. */
interface Used {
  readonly client: DatabaseClient
  readonly now: Now
}

interface Now {
  trace: string | undefined
  known: string | undefined
  /** A human is asked about its statement, of which nothing was sent. */
  parked: Refusal | undefined
}

interface Idle extends Used {
  readonly user: string
  readonly disarm: () => void
}

/**
 * The connections of one MCP session to one database. One is used for one call at a time, again only by the same session as
 * the same database user, and only when nothing can be left on it.
 */
export class Connections {
  readonly #parts: ConnectionsParts
  readonly #idle: Idle[] = []
  readonly #open = new Set<DatabaseClient | symbol>()
  #over = false

  constructor(parts: ConnectionsParts) {
    this.#parts = parts
  }

  /**
   * `act` gets a connection, and says whether another call may use it after. Rejects with `too_many`, as `DatabaseClient.open`, or
   * with the refusal of a statement about which a human is asked.
   */
  async use<T>(
    caller: Caller,
    user: string,
    signal: AbortSignal,
    act: (client: DatabaseClient) => Promise<{ value: T; clean: boolean }>,
  ): Promise<T> {
    const used = this.#take(user) ?? (await this.#connect(caller, user, signal))
    const { client, now } = used
    Object.assign(now, nowOf(caller))
    let clean = false
    try {
      const done = await act(client)
      clean = done.clean
      return done.value
    } catch (error) {
      if (now.parked === undefined) throw error
      clean = true
      throw now.parked
    } finally {
      if (clean && client.usable && !this.#over && mayOutlive(caller)) this.#keep(used, user)
      else this.#close(client)
    }
  }

  /** Idempotent. */
  end(): void {
    this.#over = true
    for (const { client, disarm } of this.#idle.splice(0)) {
      disarm()
      this.#close(client)
    }
  }

  #take(user: string): Used | undefined {
    for (let i = this.#idle.length - 1; i >= 0; i--) {
      const { client, now, user: whose, disarm } = this.#idle[i]!
      if (client.usable && whose !== user) continue
      this.#idle.splice(i, 1)
      disarm()
      if (client.usable) return { client, now }
      this.#close(client)
    }
    return undefined
  }

  #keep({ client, now }: Used, user: string): void {
    const { clock, limits } = this.#parts
    const disarm = clock.at(clock.now() + limits.idleMs, () => {
      const at = this.#idle.findIndex((one) => one.client === client)
      if (at < 0) return
      this.#idle.splice(at, 1)
      this.#close(client)
    })
    this.#idle.push({ client, now, user, disarm })
  }

  /** What says goodbye is not waited for; how many there are of one database is bounded by its gateway. */
  #close(client: DatabaseClient): void {
    this.#open.delete(client)
    client.close()
  }

  async #connect(caller: Caller, user: string, signal: AbortSignal): Promise<Used> {
    const { enter, limits, database } = this.#parts
    if (this.#over) throw new ChaperoneError('session_ended', 'The MCP session is over.')
    // One of another database user that only waits makes room.
    const spare = this.#open.size >= limits.connections ? this.#idle.shift() : undefined
    if (spare) {
      spare.disarm()
      this.#close(spare.client)
    }
    if (this.#open.size >= limits.connections)
      throw new ChaperoneError('too_many', `This session has ${limits.connections} calls to this database under way.`, {
        fix: 'Wait for one of them.',
      })
    const place = Symbol()
    this.#open.add(place)
    try {
      const now = nowOf(caller)
      const elsewhere = {
        known: () => now.known,
        parked(refusal: Refusal) {
          now.parked = refusal
        },
      }
      const wire = enter({ session: caller.session, connection: connectionOf(caller), trace: () => now.trace, elsewhere })
      const client = await DatabaseClient.open(wire, { user, database }, limits, signal)
      this.#open.add(client)
      void client.ended.then(() => this.#open.delete(client))
      return { client, now }
    } finally {
      this.#open.delete(place)
    }
  }
}

const nowOf = ({ trace, known }: Caller): Now => ({ trace, known, parked: undefined })

/** What a bearer token proved is proven for its own request: nothing that it opened stays open after it. */
const mayOutlive = ({ session }: Caller) => session.principal.proof === 'mtls'

function connectionOf(caller: Caller): Connection {
  if (mayOutlive(caller)) return caller.session.connect('postgres')
  const { connection } = caller
  return { id: connection.id, protocol: 'postgres', signal: connection.signal, assertOpen: () => connection.assertOpen(), closed() {} }
}
