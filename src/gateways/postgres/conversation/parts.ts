import type { Requests } from '../../../access/requests/types.ts'
import type { Guard } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import type { ChaperoneError } from '../../../errors.ts'
import type { Connection, LiveSession } from '../../../identity/types.ts'
import type { DescriptionCache, Place, SqlContext } from '../describe.ts'
import type { MaskKeeper } from '../masks/keeper.ts'
import type { HeldMirror } from '../mirror/mirrors.ts'
import type { BigTexts } from '../sql/big-texts.ts'
import type { WireLimits } from '../wire/codes.ts'
import type { Room, WaitsElsewhere } from './parking.ts'
import type { Fence } from './rights.ts'

export type ConversationLimits = WireLimits & {
  readonly queuedMessages: number
  readonly queuedBytes: number
  readonly names: number
}

/** What a conversation is given: who talks, in which place, and the two sockets as far as it needs them. */
export interface ConversationParts {
  readonly guard: Guard
  readonly session: LiveSession
  readonly connection: Connection
  /** W3C trace id of what the client asks for at this moment. */
  trace(): string | undefined
  readonly place: Place
  readonly context: SqlContext
  readonly cache: DescriptionCache
  readonly bigTexts: Pick<BigTexts, 'read'>
  readonly masks: MaskKeeper
  readonly clock: Clock
  readonly limits: ConversationLimits
  readonly fence: Fence
  /** What the database says of itself; absent only in tests of other things. */
  readonly mirror?: HeldMirror
  /** Where humans answer, how long a statement waits for them (ms), and how many may. */
  readonly approvals: {
    readonly requests: Pick<Requests, 'decided' | 'rights'>
    readonly waitMs: number
    readonly room: Room
    readonly elsewhere?: WaitsElsewhere
  }
  toClient(bytes: Buffer): void
  toUpstream(bytes: Buffer): void
  /** The right to the connection itself stands. */
  mayStay(): boolean
  /** Stop, or go on, reading what the client sends. */
  holdClient(hold: boolean): void
  /** Stop what the database is doing for this connection. Resolves when it can hit nothing that is sent later; never rejects. */
  cancel(): Promise<void>
  /** The last thing that the client hears, if anything: it may be in the middle of a message. */
  goodbye(lastWords: Buffer | undefined): void
  /** Does it in a moment, behind the goodbyes of all that is cut now. */
  afterwards(work: () => void): void
  /** As `cancel`, on a connection that is over: nothing is sent on it any more. */
  lastCancel(): void
  /** Both sides are to be closed. */
  over(how: 'cut' | 'closed'): void
  /** A message was refused without a decision: it could not be read, or names what does not exist. A promise: until it is on record. */
  messageRefused(error: ChaperoneError): unknown
}
