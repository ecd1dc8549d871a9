import { admitAsking } from '../../../access/park.ts'
import type { Requests } from '../../../access/requests/types.ts'
import { type Admission, type Asking, type ExactCall, type Guard, type Permit, Refusal } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { Connection, LiveSession } from '../../../identity/types.ts'
import { boundStatement, type Exactly, type Given } from '../asking/bound.ts'
import { definitionsOf, digestOfDefinitions, resolvedIn } from '../asking/definitions.ts'
import { closing, isCounted, parameterTypes, planning, rowsIn, whyNoEstimate } from '../asking/estimate.ts'
import type { SettingsLedger } from '../asking/ledger.ts'
import { type Estimate, shownStatement } from '../asking/shown.ts'
import { readSessionState, sessionState } from '../asking/state.ts'
import type { Described, Place } from '../describe.ts'
import { Cancelled, parkedNotice } from '../refuse.ts'
import type { Status } from '../wire/codes.ts'
import type { Asked } from './asked.ts'
import * as cannot from './cannot.ts'
import { type Answer, newName, statement, type Wording } from './question.ts'

/** Bytes that a client may send behind a statement that waits. They are not read before it is over. */
const MOST_BEHIND = 1024 * 1024

/** Statements of one gateway that wait at once. */
export interface Room {
  waiting: number
  readonly most: number
}

/** A statement is refused at once, with the question that it waits for; who waits for the answer sends it again. */
export interface WaitsElsewhere {
  /** the question that is on record for the wait already (`Asking.known`) */
  known(): string | undefined
  parked(refusal: Refusal): void
}

interface ParkingParts {
  readonly guard: Guard
  readonly requests: Pick<Requests, 'decided' | 'rights'>
  readonly session: LiveSession
  readonly connection: Connection
  readonly clock: Clock
  readonly place: Place
  readonly ledger: SettingsLedger
  readonly room: Room
  /** ms that a statement waits */
  readonly waitMs: number
  readonly elsewhere?: WaitsElsewhere
  trace(): string | undefined
  status(): Status
  /** Nothing of the client's is under way, and nothing of our own. */
  isIdle(): boolean
  /** Everything before the statement was sent, answered or not. */
  isNext(): boolean
  /** Something of the segment that the statement stands in was sent, without its Sync. */
  isSegmentOpen(): boolean
  /** It failed: the server would skip the statement. */
  hasFailed(): boolean
  /** A Sync of our own. */
  sync(): void
  /** Only while idle. */
  question(wording: Wording, done: (answer: Answer) => void, name: string): void
  /** Asks where names lead, by the newest definitions. Rejects with ChaperoneError. */
  takeBearings(): Promise<void>
  /** False: the session may not yet run anything; a fence is being set. */
  isFenced(): boolean
  /** Told to the client at once. */
  notice(bytes: Buffer): void
  /** The permit was cut. */
  over(reason: unknown): void
}

/** A statement as it was read again from scratch. */
export interface Reading {
  readonly asked: Asked
  readonly given: Given
}

/**
 * The connection while a human is asked about its statement. Nothing of it was sent; the server holds no transaction and no lock
 * for it. Each time it is looked at again from the beginning: names, definitions, settings, and then the guard. It ends with a
 * permit, a refusal, a cancel of the client, or with the client itself.
 */
export class Parking {
  readonly #parts: ParkingParts
  #ended: AbortController | undefined
  #wakeIdle: (() => void) | undefined
  /** Of the same statement it is asked for once. */
  #estimate: Estimate
  #told = false
  /** what the last wait was for */
  about: Described | undefined

  constructor(parts: ParkingParts) {
    this.#parts = parts
  }

  get isOn(): boolean {
    return this.#ended !== undefined
  }

  /** Something has happened on the connection. `held`: bytes of the client that nobody has read. */
  goOn(held: number): void {
    if (!this.#ended) return
    if (this.isFull(held))
      this.end(
        new ChaperoneError('too_large', 'Too much was sent behind a statement that waits for a human.', {
          fix: 'Send it again, and the rest once it is answered.',
        }),
      )
    this.#wakeIdle?.()
  }

  isFull(held: number): boolean {
    return held > MOST_BEHIND
  }

  /** The client wants it stopped, or is gone. */
  end(why: ChaperoneError): void {
    this.#ended?.abort(why)
    this.#wakeIdle?.()
  }

  cancel(): void {
    this.end(new Cancelled())
  }

  /** Resolves with the permit and what it is for. Rejects with what is said to the client, and what it is about. */
  async wait(read: () => Reading): Promise<{ readonly asked: Asked; readonly permit: Permit }> {
    const { requests, clock, room, waitMs, elsewhere } = this.#parts
    const ended = new AbortController()
    this.#ended = ended
    this.#estimate = undefined
    this.#told = false
    const waits = !elsewhere && room.waiting < room.most
    if (waits) room.waiting++
    this.about = undefined
    try {
      await this.#settle(ended.signal)
      const attempt = async (known = elsewhere?.known()) => {
        const { reading, admission } = await this.#describe(read, ended.signal, known)
        const { asked } = reading
        this.about = asked.described
        return { asked, permit: await this.#parts.guard.admit(this.#parts.session, asked.action, admission) }
      }
      const parked = (question: Parameters<typeof parkedNotice>[0]) => {
        if (!this.#told && waits) this.#parts.notice(parkedNotice(question, this.about, waitMs))
        this.#told = true
      }
      return await admitAsking({ requests, clock }, attempt, { ms: waits ? waitMs : 0, signal: ended.signal, parked })
    } catch (error) {
      if (elsewhere && error instanceof Refusal && error.parked && !ended.signal.aborted) elsewhere.parked(error)
      // A client that has cancelled is told so, whatever it would have been told.
      throw ended.signal.aborted ? toChaperoneError(ended.signal.reason) : error
    } finally {
      if (waits) room.waiting--
      this.#ended = undefined
    }
  }

  async #describe(read: () => Reading, signal: AbortSignal, known: string | undefined): Promise<{ reading: Reading; admission: Admission }> {
    const { connection, ledger, status } = this.#parts
    await this.#idle(signal)
    let asking: Asking
    let reading: Reading
    if (status() !== 'I') {
      reading = read()
      asking = { cannot: cannot.IN_TRANSACTION, call: never }
    } else {
      await this.#parts.takeBearings()
      await this.#idle(signal)
      while (!this.#parts.isFenced()) await this.#idle(signal)
      reading = read()
      const { described } = reading.asked
      const why = cannot.whyNot(described) ?? (ledger.isFull ? cannot.TOO_MANY_SETTINGS : undefined)
      asking =
        why === undefined ? { call: () => this.#exactCall(reading, signal), ...(known === undefined ? {} : { known }) } : { cannot: why, call: never }
    }
    const trace = this.#parts.trace()
    const cut = (reason: unknown) => this.#parts.over(reason)
    return { reading, admission: { connection, bodies: reading.asked.bodies, asking, cut, ...(trace === undefined ? {} : { trace }) } }
  }

  async #exactCall({ asked, given }: Reading, signal: AbortSignal): Promise<ExactCall> {
    const { place, ledger } = this.#parts
    const { described, context } = asked
    const { mirror } = context
    if (!mirror || !context.path) throw new ChaperoneError('upstream_unavailable', 'The database does not say what its names mean.')
    const state = readSessionState((await this.#ask(statement(sessionState(ledger.names)), signal)).rows)
    const resolved = resolvedIn(mirror, described)
    const definitions = await this.#ask(statement(definitionsOf(resolved)), signal)
    if (definitions.sqlstate !== undefined) throw new ChaperoneError('upstream_unavailable', 'The database does not say how its tables are defined.')
    const exactly: Exactly = {
      place,
      described,
      context,
      given,
      state,
      resolved,
      definitions: digestOfDefinitions(definitions.rows),
      unseen: ledger.unseen,
    }
    const types = given.values.length > 0 ? (await this.#ask(parameterTypes(described.text, given), signal)).parameters : []
    if (!this.#told) this.#estimate = await this.#rowsOf(exactly, signal)
    const kept = (place.keeping?.parameters ?? 'full') === 'full'
    return { bound: boundStatement(exactly), shown: shownStatement(exactly, types, this.#estimate), ...(kept ? {} : { fleeting: true }) }
  }

  async #rowsOf({ described, context, given }: Exactly, signal: AbortSignal): Promise<Estimate> {
    if (!isCounted(described.kinds)) return undefined
    const none = whyNoEstimate(described.text, context)
    if (none !== undefined) return { none }
    const { rows, sqlstate } = await this.#ask(planning(described.text, given), signal)
    if (sqlstate !== undefined) return { none: sqlstate === '57014' ? 'planning it took too long' : `the database would not plan it (${sqlstate})` }
    const count = rowsIn(rows.at(-1)?.[0])
    return count === undefined ? { none: 'its plan does not say' } : { rows: count }
  }

  /** Asks on the client's own connection, between its messages. */
  async #ask(wording: Wording, signal: AbortSignal): Promise<Answer> {
    await this.#idle(signal)
    const name = newName()
    const { promise, resolve } = Promise.withResolvers<Answer>()
    this.#parts.question(wording, resolve, name)
    const answer = await orEnded(promise, signal)
    if (answer.sqlstate !== undefined) {
      await this.#idle(signal)
      this.#parts.question(closing(name), () => {}, name)
    }
    return answer
  }

  /**
   * What the client prepared in the same segment may be at the server already, which answers no sooner than a Sync or Flush, and
   * holds its locks. A statement whose Parse failed is none: its name may stand for another text.
   */
  async #settle(signal: AbortSignal): Promise<void> {
    await this.#until(() => this.#parts.isNext(), signal)
    if (this.#parts.isSegmentOpen()) this.#parts.sync()
    await this.#idle(signal)
    if (this.#parts.hasFailed()) throw new SkippedByServer()
  }

  #idle(signal: AbortSignal): Promise<void> {
    return this.#until(() => this.#parts.isIdle(), signal)
  }

  async #until(isSo: () => boolean, signal: AbortSignal): Promise<void> {
    while (!isSo()) {
      signal.throwIfAborted()
      await new Promise<void>((done) => {
        this.#wakeIdle = done
      })
      this.#wakeIdle = undefined
    }
    signal.throwIfAborted()
  }
}

const never = (): never => {
  throw new ChaperoneError('internal', 'Nobody can be asked about this.')
}

/** The server has said already why: nothing more is, up to the Sync. */
export class SkippedByServer extends ChaperoneError {
  constructor() {
    super('conflict', 'What stands before it in the same batch has failed.')
  }
}

/** What is asked on a connection that ends is never answered. */
async function orEnded<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: ended, reject } = Promise.withResolvers<never>()
  const stop = () => reject(signal.reason)
  signal.throwIfAborted()
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([promise, ended])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
