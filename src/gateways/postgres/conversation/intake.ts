import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { Action, Decision } from '../../../policy/types.ts'
import type { DescriptionCache, Place, SqlContext } from '../describe.ts'
import { UnknownName } from '../refuse.ts'
import { isSameName } from '../sql/encodings.ts'
import { readBind, readExecute, readParse, readQuery, readTarget } from '../wire/client.ts'
import { FROM_CLIENT } from '../wire/codes.ts'
import type { ClientMessage } from '../wire/framer.ts'
import { Alone } from './alone.ts'
import { type Asked, StatementAsking } from './asked.ts'
import { Bearings, type BearingsParts } from './bearings.ts'
import { AMONG_OTHERS, GOES_ON, IN_PIPELINE, whyNot } from './cannot.ts'
import { Overlay, takesUnnamed } from './handles.ts'
import { Meanings } from './meanings.ts'
import { needsNames } from './own-statements.ts'
import type { Reading } from './parking.ts'
import type { Portals } from './portals.ts'
import { assertRoom, type Item, isSimple, Names, type Portal, type Prepared, parametersOf } from './prepared.ts'
import type { Replies } from './replies.ts'
import { Segment } from './segment.ts'
import type { Sight } from './sight.ts'

interface IntakeParts extends Omit<BearingsParts, 'statements'> {
  readonly place: Place
  readonly cache: DescriptionCache
  readonly replies: Replies
  readonly sight: Sight
  readonly portals: Portals
  readonly limits: { readonly statementBytes: number; readonly names: number }
  judge(action: Action): Decision
  /** Puts a message into the line. */
  add(type: number, frame: Buffer, more?: Partial<Pick<Item, 'refusal' | 'portal' | 'shape' | 'name' | 'copiesIn'>>): Item
  /** Asks for the permits; the message waits for them. `cannot`: why no human can be asked. */
  admit(item: Item, asked: readonly Asked[], cannot?: string): void
  /** Waits for a human; until then no further message is given to `take`. `read`: what it is asked for, read again. */
  park(item: Item, read: () => Reading): void
  messageRefused(error: ChaperoneError): void
}

const { bind, close, copyData, copyDone, copyFail, describe, execute, flush, functionCall, parse, query, sync, terminate } = FROM_CLIENT
/** With these a segment of the extended protocol begins, or a simple Query. */
const BEGINS = new Set<number>([query, parse, bind, describe, execute, close])
/** PostgreSQL's own types have lower oids: with them nothing of the user's is chosen. */
const FIRST_OWN = 16_384
const DURING_COPY = new Set<number>([copyData, copyDone, copyFail, flush, sync, terminate])

/** Where the server makes other names of them, two could be one there. */
function assertSameNames({ encoding = 'UTF8' }: SqlContext, ...names: readonly string[]): void {
  if (names.every((name) => isSameName(name, encoding))) return
  throw new ChaperoneError('unsupported', `The name of a prepared statement or portal goes beyond ASCII, and the database keeps ${encoding}.`, {
    fix: 'Give it a name of ASCII characters.',
  })
}

/**
 * Reads what the client sends, message by message: what it asks for, under which name, and whether it may be looked at yet.
 * A text is read as the server will read it, so nothing is read while something that was sent before may change that.
 */
export class Intake {
  readonly #parts: IntakeParts
  readonly #statements = new Names<Prepared>(({ source }) => source.length)
  readonly #bearings: Bearings
  readonly #meanings: Meanings
  readonly #segment = new Segment()
  readonly #asking: StatementAsking
  /** The client has sent all of its copy data; the server may not have come to the end of it. */
  #copyEnded = false
  readonly #alone: Alone

  constructor(parts: IntakeParts) {
    this.#parts = parts
    this.#bearings = new Bearings({ ...parts, statements: this.#statements })
    this.#meanings = new Meanings({ ...parts, statements: this.#statements, bearings: this.#bearings, unsettled: () => this.#segment.isUnsettled })
    const made = { statements: this.#statements, bearings: this.#bearings, meanings: this.#meanings, segment: this.#segment }
    this.#asking = new StatementAsking({ ...parts, ...made })
    this.#alone = new Alone({ ...parts, askedBy: (portal) => this.#asking.ofPortal(portal), readAgain: (portal) => this.#asking.portalAgain(portal) })
  }

  /** see {@link Bearings} */
  forgetPath(): void {
    this.#bearings.forgetPath()
  }

  setPinned(pinned: boolean): void {
    this.#bearings.setPinned(pinned)
  }

  /** Asks again where names lead, by the newest definitions, whatever is known. Nothing may be under way. */
  takeBearings(): void {
    this.#bearings.renew(this.#parts.sight.current(), this.#parts.sight.isUnsettled)
    this.#bearings.takeAgain()
  }

  /** False: not yet; something that was sent before must be answered first. Throws when the connection cannot go on. */
  take(message: ClientMessage): boolean {
    const { type, frame } = message
    const { replies } = this.#parts
    if (this.#bearings.isLooking || this.#parts.sight.isWaiting) return false
    if (this.#segment.skipping && type !== sync && type !== terminate) return true
    if (!replies.awaitsCopy) this.#copyEnded = false
    else if (!DURING_COPY.has(type)) {
      // The server would take it for a broken COPY and swallow it, and every answer after it would be counted wrongly.
      if (replies.copying && !this.#copyEnded) throw new ChaperoneError('malformed', 'Only copy data may follow while COPY is reading.')
      return false
    }
    try {
      if (message.oversized) throw new ChaperoneError('too_large', `The SQL text is over the limit of ${this.#parts.limits.statementBytes} bytes.`)
      if (!this.#alone.bears(type, frame)) {
        this.#segment.skipping = true
        if (type !== terminate) return true
      }
      if (BEGINS.has(type) && !this.#isRenewed(frame)) return false
      if (BEGINS.has(type) && !this.#segment.begun && !this.#mayBegin(type)) return false
      return this.#read(type, frame)
    } catch (error) {
      const refusal = toChaperoneError(error)
      this.#alone.refuse(IN_PIPELINE)
      this.#parts.messageRefused(refusal)
      this.#parts.add(type, frame, { refusal: { error: refusal } })
      if (isSimple(type)) this.#endSegment()
      else this.#segment.skipping = true
      return true
    }
  }

  /** Whether names are resolved by the newest that the database said of itself. */
  #isRenewed(message: Buffer): boolean {
    const { sight } = this.#parts
    if (!sight.isReady(message)) return false
    this.#bearings.renew(sight.current(), sight.isUnsettled)
    return true
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
        return this.#describe(frame)
      case sync:
        this.#parts.add(type, frame)
        this.#endSegment()
        this.#alone.decide()
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
    this.#segment.end()
    this.#bearings.segmentEnds()
    this.#alone.segmentEnds()
  }

  /**
   * Whether a Query or a segment may begin: what must be over is over, and it is known where names lead. A Query is read
   * first, for many need no names. In the middle of a segment nothing can be asked: the server answers nothing before the Sync.
   */
  #mayBegin(type: number): boolean {
    if (!this.#segment.isSettled(() => this.#parts.isIdle())) return false
    this.#bearings.segmentBegins()
    return type === query || this.#bearings.context.path !== undefined || !this.#bearings.lookAgain()
  }

  #query(frame: Buffer): boolean {
    this.#segment.assertReadable()
    const text = readQuery(frame)
    if (!this.#bearings.isAtHand(text)) return false
    const raw = this.#parts.cache.describe(text, this.#bearings.context)
    if (!this.#parts.sight.knows(raw, frame)) return false
    if (!this.#bearings.context.path && !this.#segment.begun && raw.some(needsNames) && this.#bearings.lookAgain()) return false
    const overlay = new Overlay()
    let context = this.#bearings.context
    const asked: Asked[] = []
    for (const one of raw) {
      const described = this.#meanings.follow(one, overlay)
      if (described === 'wait') return false
      const own = raw.length === 1 ? text : one.text
      asked.push(this.#asking.ofText(described, context, own, text))
      // What stands behind it in the same text runs after it.
      if (described.loose && context.path) context = { ...context, path: undefined }
      if (described.effects.includes('admin')) context = { ...context, unsettled: true }
    }
    const all = asked.map(({ described }) => described)
    if (!this.#parts.sight.isRecent(all, frame)) return false
    this.#bearings.assertHeld(asked)
    const wasInSegment = this.#segment.begun
    const item = this.#parts.add(query, frame, {
      copiesIn: asked.some(({ described }) => described.copiesIn),
      name: takesUnnamed(this.#statements, this.#parts.portals),
    })
    this.#endSegment()
    for (const described of all) this.#asking.unsettles(described)
    this.#segment.handOn()
    // Several statements in one text are one message to the server: it goes if every one of them may. A refusal is
    // recorded with the whole text, because the others were asked for in the same breath.
    const refused = asked.length > 1 ? asked.find(({ action }) => this.#parts.judge(action).verdict !== 'allow') : undefined
    if (refused) this.#parts.admit(item, [{ ...refused, bodies: this.#asking.bodies(refused.described, text) }], AMONG_OTHERS)
    else if (asked.length === 1 && this.#isForHuman(asked[0]!.action)) {
      const cannot = wasInSegment ? IN_PIPELINE : whyNot(asked[0]!.described)
      if (cannot !== undefined) this.#parts.admit(item, asked, cannot)
      else this.#parts.park(item, () => this.#asking.queryAgain(text))
    } else if (asked.length > 0) this.#parts.admit(item, asked)
    return true
  }

  /** What a rule wants a human asked about. When that cannot be told, the guard refuses it. */
  #isForHuman(action: Action): boolean {
    try {
      return this.#parts.judge(action).verdict === 'ask'
    } catch {
      return false
    }
  }

  #parse(frame: Buffer): boolean {
    this.#segment.assertReadable()
    const { name, text, types } = readParse(frame)
    assertSameNames(this.#bearings.context, name)
    const own = types.filter((oid) => oid >= FIRST_OWN)
    if (!this.#bearings.isAtHand(text)) return false
    assertRoom(this.#statements, this.#parts.limits.names, 'prepared statements')
    const all = this.#parts.cache.describe(text, this.#bearings.context, own)
    if (!this.#parts.sight.knows(all, frame)) return false
    const [first, second] = all
    const described =
      first && this.#meanings.follow(second ? { ...first, unclear: 'a prepared statement is one statement', unread: 'syntax' } : first)
    if (described === 'wait' || !this.#parts.sight.isRecent([described], frame)) return false
    this.#segment.begun = true
    // The server lets the unnamed one go before it reads the text of the next.
    const failed = () => name === '' && this.#statements.know('', undefined)
    const action = described && this.#asking.action(described)
    // What a human must be asked about is asked when it is to run.
    if (described && action && this.#parts.judge(action).verdict === 'deny') {
      this.#parts.admit(this.#parts.add(parse, frame, { name: { confirm() {}, withdraw() {}, failed } }), [
        { described, action, context: this.#bearings.context, bodies: this.#asking.bodies(described, text) },
      ])
      this.#segment.skipping = true
      return true
    }
    const prepared: Prepared = {
      described,
      action,
      text,
      source: text,
      context: this.#bearings.context,
      types: own,
      declared: types,
      shape: { fields: undefined },
    }
    this.#meanings.assertStillMeant(prepared)
    this.#parts.add(parse, frame, { name: { ...this.#statements.naming(name, prepared), failed } })
    return true
  }

  #bind(frame: Buffer): boolean {
    const { portal: name, statement, values, isBinary } = readBind(frame)
    assertSameNames(this.#bearings.context, name, statement)
    const found = this.#statements.find(statement)
    if (found === 'wait') return false
    if (!found) throw new UnknownName('prepared statement', statement)
    const { described } = found
    if (described && !(this.#parts.sight.knows([described], frame) && this.#parts.sight.isRecent([described], frame))) return false
    if (this.#segment.statementsMoved && statement !== '') this.#segment.assertReadable()
    if (!this.#bearings.isAtHand(found.text)) return false
    const { portals } = this.#parts
    assertRoom(portals, this.#parts.limits.names, 'portals')
    this.#segment.begun = true
    const prepared = this.#meanings.again(found)
    const portal: Portal = {
      prepared,
      parameters: values.length > 0 ? parametersOf(values, isBinary) : '',
      run: undefined,
      executed: false,
      rows: 0,
      bytes: 0,
      saidCut: false,
    }
    const item = this.#parts.add(bind, frame, { portal, name: portals.naming(name, portal) })
    const asked = this.#asking.ofPortal(portal)
    const isFirst = this.#alone.isFirst()
    if (!asked) return true
    if (!this.#isForHuman(asked.action)) this.#parts.admit(item, [asked])
    else if (!isFirst) this.#parts.admit(item, [asked], IN_PIPELINE)
    else {
      const formats = values.map((_, i) => (isBinary(i) ? 1 : 0))
      this.#alone.holds(item, portal, { values, formats, declared: prepared.declared ?? [] })
    }
    return true
  }

  #execute(frame: Buffer): boolean {
    const { portal: name } = readExecute(frame)
    assertSameNames(this.#bearings.context, name)
    const portal = this.#parts.portals.find(name)
    if (portal === 'wait') return false
    // A cursor of DECLARE is a portal too; run by this message it would escape its FETCH.
    if (!portal) throw new UnknownName('portal', name)
    if (this.#segment.portalsMoved && name !== '') this.#segment.assertReadable()
    this.#segment.begun = true
    if (!portal.executed) this.#meanings.assertSame(portal.prepared)
    const { described } = portal.prepared
    const item = this.#parts.add(execute, frame, { portal, copiesIn: described?.copiesIn ?? false })
    if (described) this.#asking.unsettles(described)
    // The Bind before it was admitted for the first run; going on with a suspended portal is a run of its own.
    const asked = portal.executed ? this.#asking.ofPortal(portal) : undefined
    if (asked) this.#parts.admit(item, [asked], GOES_ON)
    portal.executed = true
    return true
  }

  /** What the server says of the columns is remembered: a masked statement may not show a row before it is known. */
  #describe(frame: Buffer): boolean {
    const { of, name } = readTarget(frame)
    assertSameNames(this.#bearings.context, name)
    const found = (of === 'statement' ? this.#statements : this.#parts.portals).find(name)
    if (found === 'wait') return false
    if (of === 'statement' && found && 'text' in found) {
      this.#segment.assertReadable()
      if (!this.#bearings.isAtHand(found.text)) return false
      this.#meanings.again(found)
    }
    // A cursor of DECLARE has a name, and clients ask for its columns.
    if (!found && name === '') throw new UnknownName(of === 'portal' ? 'portal' : 'prepared statement', name)
    this.#segment.begun = true
    const portal = found && 'prepared' in found ? found : undefined
    const shape = portal ? portal.prepared.shape : found && 'shape' in found ? found.shape : undefined
    this.#parts.add(describe, frame, { portal, shape })
    return true
  }

  #close(frame: Buffer): void {
    const { of, name } = readTarget(frame)
    assertSameNames(this.#bearings.context, name)
    this.#segment.begun = true
    const names: Pick<Names<unknown>, 'naming' | 'sinceSync'> = of === 'statement' ? this.#statements : this.#parts.portals
    // With no Sync among them they would be remembered without end.
    assertRoom(names.sinceSync, this.#parts.limits.names, 'names that are closed without a Sync')
    this.#parts.add(close, frame, { name: names.naming(name, undefined) })
  }
}
