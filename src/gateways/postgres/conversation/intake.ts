import type { Body } from '../../../audit/record.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { Action, Decision } from '../../../policy/types.ts'
import { type Described, type DescriptionCache, type Place, type SqlContext, statementAction } from '../describe.ts'
import { readBind, readExecute, readParse, readQuery, readTarget } from '../wire/client.ts'
import { FROM_CLIENT } from '../wire/codes.ts'
import type { ClientMessage } from '../wire/framer.ts'
import { Cursors } from './cursors.ts'
import { type Item, isSimple, Names, type Portal, type Prepared, parametersOf } from './prepared.ts'
import type { Replies } from './replies.ts'

/** One statement that is to be judged for good, and recorded. */
export interface Asked {
  readonly described: Described
  readonly action: Action
  readonly bodies: readonly Body[]
}

export interface IntakeParts {
  readonly place: Place
  readonly context: SqlContext
  readonly cache: DescriptionCache
  readonly replies: Replies
  readonly portals: Names<Portal>
  readonly limits: { readonly statementBytes: number; readonly names: number }
  judge(action: Action): Decision
  /** Puts a message into the line. */
  add(type: number, frame: Buffer, more?: Partial<Pick<Item, 'refusal' | 'portal' | 'name' | 'copiesIn'>>): Item
  /** Asks for the permits; the message waits for them. */
  admit(item: Item, asked: readonly Asked[]): void
  /** Nothing that was sent is unanswered, and nothing waits to be sent. */
  isIdle(): boolean
  messageRefused(error: ChaperoneError): void
}

const { bind, close, copyData, copyDone, copyFail, describe, execute, flush, functionCall, parse, query, sync, terminate } = FROM_CLIENT
const DURING_COPY = new Set<number>([copyData, copyDone, copyFail, flush, sync, terminate])

/**
 * Reads what the client sends, message by message: what it asks for, under which name, and whether it may be looked at yet.
 * A text is read as the server will read it, so nothing is read while something that was sent before may change that.
 */
export class Intake {
  readonly #parts: IntakeParts
  readonly #statements = new Names<Prepared>()
  readonly #cursors = new Cursors()
  #context: SqlContext
  /** a refusal was found: the rest up to Sync is not even looked at */
  #skipping = false
  /** A statement that may change settings was asked for: in this segment, or before it and not finished. */
  #looseHere = false
  #looseBefore = false
  /** The client has sent all of its copy data; the server may not have come to the end of it. */
  #copyEnded = false

  constructor(parts: IntakeParts) {
    this.#parts = parts
    this.#context = parts.context
  }

  /** From here on names without a schema may lead anywhere. */
  forgetPath(): void {
    if (this.#context.path) this.#context = { ...this.#context, path: undefined }
  }

  /** False: not yet; something that was sent before must be answered first. Throws when the connection cannot go on. */
  take(message: ClientMessage): boolean {
    const { type, frame } = message
    const { replies } = this.#parts
    if (this.#skipping && type !== sync && type !== terminate) return true
    if (!replies.awaitsCopy) this.#copyEnded = false
    else if (!DURING_COPY.has(type)) {
      // The server would take it for a broken COPY and swallow it, and every answer after it would be counted wrongly.
      if (replies.copying && !this.#copyEnded) throw new ChaperoneError('malformed', 'Only copy data may follow while COPY is reading.')
      return false
    }
    try {
      if (message.oversized) throw new ChaperoneError('too_large', `The SQL text is over the limit of ${this.#parts.limits.statementBytes} bytes.`)
      return this.#read(type, frame)
    } catch (error) {
      const refusal = toChaperoneError(error)
      this.#parts.messageRefused(refusal)
      this.#parts.add(type, frame, { refusal: { error: refusal } })
      if (isSimple(type)) this.#endSegment()
      else this.#skipping = true
      return true
    }
  }

  #read(type: number, frame: Buffer): boolean {
    switch (type) {
      case query:
        return this.#query(frame)
      case parse:
        return this.#parse(frame)
      case bind:
        return this.#bind(frame)
      case execute:
        return this.#execute(frame)
      case close:
        this.#close(frame)
        return true
      case describe:
        readTarget(frame)
        this.#parts.add(type, frame)
        return true
      case sync:
        this.#parts.add(type, frame)
        this.#endSegment()
        return true
      case flush:
      case terminate:
        this.#parts.add(type, frame)
        return true
      case copyData:
      case copyDone:
      case copyFail:
        // Outside a COPY the server ignores them.
        if (this.#parts.replies.awaitsCopy) {
          this.#copyEnded = type !== copyData
          this.#parts.add(type, frame)
        }
        return true
      case functionCall:
        throw new ChaperoneError('unsupported', 'Functions are called with SELECT: a FunctionCall message has no text that could be judged.')
      default:
        throw new ChaperoneError('malformed', 'This message has no place here.')
    }
  }

  #endSegment(): void {
    this.#statements.sync()
    this.#parts.portals.sync()
    this.#skipping = false
    this.#looseBefore ||= this.#looseHere
    this.#looseHere = false
  }

  /** Whether what was asked for before this segment, and may change settings, is over. */
  #isSettled(): boolean {
    if (this.#looseBefore && this.#parts.isIdle()) this.#looseBefore = false
    return !this.#looseBefore
  }

  #assertReadable(): void {
    if (!this.#looseHere) return
    throw new ChaperoneError('not_understood', 'A statement before it in the same batch may change what it means.', {
      fix: 'Send a Sync between the two.',
    })
  }

  #query(frame: Buffer): boolean {
    if (!this.#isSettled()) return false
    this.#assertReadable()
    const text = readQuery(frame)
    const described = this.#parts.cache.describe(text, this.#context).map((one) => this.#cursors.follow(one))
    const item = this.#parts.add(query, frame, { copiesIn: described.some((one) => one.copiesIn) })
    this.#endSegment()
    this.#looseBefore ||= described.some((one) => one.loose)
    const asked = described.map(
      (one): Asked => ({ described: one, action: this.#actionOf(one), bodies: [statementBody(described.length === 1 ? text : one.text)] }),
    )
    // Several statements in one text are one message to the server: it goes if every one of them may. A refusal is
    // recorded with the whole text, because the others were asked for in the same breath.
    const refused = asked.length > 1 ? asked.find(({ action }) => this.#parts.judge(action).verdict !== 'allow') : undefined
    if (refused) this.#parts.admit(item, [{ ...refused, bodies: [statementBody(text)] }])
    else if (asked.length > 0) this.#parts.admit(item, asked)
    return true
  }

  #parse(frame: Buffer): boolean {
    if (!this.#isSettled()) return false
    this.#assertReadable()
    const { name, text } = readParse(frame)
    this.#assertRoom(this.#statements, 'prepared statements')
    const [first, second] = this.#parts.cache.describe(text, this.#context)
    const described = first && this.#cursors.follow(second ? { ...first, unclear: 'a prepared statement is one statement', unread: 'syntax' } : first)
    const action = described && this.#actionOf(described)
    if (described && action && this.#parts.judge(action).verdict !== 'allow') {
      this.#parts.admit(this.#parts.add(parse, frame), [{ described, action, bodies: [statementBody(text)] }])
      this.#skipping = true
      return true
    }
    const prepared: Prepared = { described, action, text, context: this.#context }
    this.#statements.propose(name, prepared)
    this.#parts.add(parse, frame, { name: { confirm: () => this.#statements.confirm(name, prepared), withdraw: () => this.#statements.withdraw() } })
    return true
  }

  #bind(frame: Buffer): boolean {
    if (!this.#isSettled()) return false
    const { portal: name, statement, values, isBinary } = readBind(frame)
    const found = this.#statements.find(statement)
    if (found === 'wait') return false
    if (!found) throw new ChaperoneError('usage', `The prepared statement ${JSON.stringify(statement)} does not exist.`)
    const { portals, replies } = this.#parts
    this.#assertRoom(portals, 'portals')
    const prepared = this.#again(found)
    const portal: Portal = { prepared, parameters: values.length > 0 ? parametersOf(values, isBinary) : '', run: undefined, executed: false }
    portals.propose(name, portal)
    const confirm = () => {
      replies.neverRan(portals.known(name))
      portals.confirm(name, portal)
    }
    const item = this.#parts.add(bind, frame, { portal, name: { confirm, withdraw: () => portals.withdraw() } })
    const asked = askedBy(portal)
    if (asked) this.#parts.admit(item, [asked])
    return true
  }

  /** What a statement means may have moved since it was prepared: other cursors, another search path. */
  #again(prepared: Prepared): Prepared {
    const context = this.#looseHere ? { ...this.#context, path: undefined } : this.#context
    if (!prepared.described || (prepared.context === context && prepared.described.fetches === undefined)) return prepared
    const described = this.#cursors.follow(this.#parts.cache.describe(prepared.text, context)[0]!)
    return { ...prepared, described, action: statementAction(this.#parts.place, described, context), context }
  }

  #execute(frame: Buffer): boolean {
    const { portal: name } = readExecute(frame)
    const portal = this.#parts.portals.find(name)
    if (portal === 'wait') return false
    // A cursor of DECLARE is a portal too; run by this message it would escape its FETCH.
    if (!portal) throw new ChaperoneError('usage', `The portal ${JSON.stringify(name)} does not exist.`)
    const { described } = portal.prepared
    const item = this.#parts.add(execute, frame, { portal, copiesIn: described?.copiesIn ?? false })
    this.#looseHere ||= described?.loose ?? false
    // The Bind before it was admitted for the first run; going on with a suspended portal is a run of its own.
    const asked = portal.executed ? askedBy(portal) : undefined
    if (asked) this.#parts.admit(item, [asked])
    portal.executed = true
    return true
  }

  #close(frame: Buffer): void {
    const { of, name } = readTarget(frame)
    const { portals, replies } = this.#parts
    const names: Names<unknown> = of === 'statement' ? this.#statements : portals
    names.propose(name, undefined)
    const confirm = () => {
      if (of === 'portal') replies.neverRan(portals.known(name))
      names.confirm(name, undefined)
    }
    this.#parts.add(close, frame, { name: { confirm, withdraw: () => names.withdraw() } })
  }

  #assertRoom(names: Names<unknown>, what: string): void {
    if (names.size >= this.#parts.limits.names)
      throw new ChaperoneError('too_many', `The connection holds too many ${what}.`, { fix: 'Close some of them.' })
  }

  #actionOf(described: Described): Action {
    return statementAction(this.#parts.place, described, this.#context)
  }
}

const statementBody = (text: string): Body => ({ name: 'statement', bytes: text })

function askedBy({ prepared: { described, action, text }, parameters }: Portal): Asked | undefined {
  if (!described || !action) return undefined
  return { described, action, bodies: parameters === '' ? [statementBody(text)] : [statementBody(text), { name: 'parameters', bytes: parameters }] }
}
