import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { everyRowHasSeen, joinRow, leaveRow, renewRow } from './lease-rows.ts'
import type { Store } from './store.ts'

export interface LeaseOptions {
  readonly nodeId: string
  /** Where other nodes reach this one. */
  readonly address: string
  readonly clock: Clock
  /** Default 1000: a node that cannot reach the store refuses everything after this long. */
  readonly lifeMs?: number
  /** Default 300: how often it is renewed, and so how soon a change on another node is noticed. */
  readonly everyMs?: number
}

/** This node's proof that it knows the latest changes of rights. Whoever acts asks `valid()` first and refuses without it. */
export interface Lease {
  readonly nodeId: string
  valid(): boolean
  /** Returns at once when valid, else renews now. Throws `lease_lapsed` when it cannot. */
  ensure(): Promise<void>
  /** The newest epoch this node has seen. */
  epoch(): number
  /** A change was made here: takes it in and confirms it now, without waiting for the next renewal. */
  noticed(epoch: number): void
  /**
   * `see` is called with every newer epoch and waited for before the lease confirms it to the others. While it runs, and
   * when it fails, the lease is not extended.
   */
  onEpoch(see: (epoch: number) => Promise<void> | void): () => void
  /** Resolves when every node has taken the epoch in or has lost its lease: from then on nobody acts on what was before. `ms`: how long that took. */
  confirmed(epoch: number): Promise<{ readonly ms: number }>
  /** Our clock less the store's, in ms, at the last renewal. A node more than a second off is not ready. */
  skewMs(): number
  /** Gives the lease back, so that nobody waits for this node. */
  stop(): Promise<void>
}

/** Between two looks at the leases of the other nodes. */
const LOOK_AGAIN_MS = 20
/** A confirmation takes one life of a lease at the longest; past this many, something is wrong with the store. */
const LIVES_TO_CONFIRM = 10

/** Joins the nodes of the store and keeps the lease renewed until `stop`. */
export async function startLease(store: Store, options: LeaseOptions): Promise<Lease> {
  const lease = new StoreLease(store, options)
  await lease.ensure()
  lease.keepRenewing()
  return lease
}

class StoreLease implements Lease {
  readonly nodeId: string
  readonly #store: Store
  readonly #clock: Clock
  readonly #address: string
  readonly #lifeMs: number
  readonly #everyMs: number
  readonly #listeners = new Set<(epoch: number) => Promise<void> | void>()
  /** When the renewal that holds was sent, by both clocks: its answer may have been long under way. */
  #sent: Moment | undefined
  #seen = 0
  /** What the listeners have taken in. */
  #takenIn = 0
  #confirmed = 0
  #skewMs = 0
  #underWay: Promise<void> | undefined
  #lastError: unknown
  #cancelTimer: () => void = () => {}
  #stopped = false

  constructor(store: Store, options: LeaseOptions) {
    this.#store = store
    this.#clock = options.clock
    this.nodeId = options.nodeId
    this.#address = options.address
    this.#lifeMs = options.lifeMs ?? 1000
    this.#everyMs = options.everyMs ?? 300
  }

  valid(): boolean {
    if (!this.#sent || this.#stopped) return false
    // Both clocks must agree that it holds. The wall clock alone could be set back and make it last for hours; the
    // monotonic one stands still while a machine is suspended.
    const now = moment(this.#clock)
    const elapsed = now.wall - this.#sent.wall
    return elapsed >= 0 && elapsed < this.#lifeMs && now.monotonic - this.#sent.monotonic < this.#lifeMs
  }

  async ensure(): Promise<void> {
    if (this.valid()) return
    await this.#noLongerThanALife(this.#renew())
    if (!this.valid()) {
      const detail =
        this.#lastError instanceof ChaperoneError
          ? (this.#lastError.detail ?? this.#lastError.message)
          : String(this.#lastError ?? 'the renewal took too long')
      throw new ChaperoneError('lease_lapsed', 'This node cannot prove that it knows the latest changes.', { detail, cause: this.#lastError })
    }
  }

  epoch(): number {
    return this.#seen
  }

  noticed(epoch: number): void {
    if (epoch <= this.#seen) return
    this.#seen = epoch
    void this.#renewAfresh()
  }

  onEpoch(see: (epoch: number) => Promise<void> | void): () => void {
    this.#listeners.add(see)
    return () => this.#listeners.delete(see)
  }

  async confirmed(epoch: number): Promise<{ readonly ms: number }> {
    const began = moment(this.#clock)
    this.noticed(epoch)
    await this.#underWay
    if (this.#confirmed < epoch) await this.#renew()
    for (;;) {
      if (await everyRowHasSeen(this.#store, this.#clock, epoch)) return { ms: moment(this.#clock).monotonic - began.monotonic }
      if (moment(this.#clock).monotonic - began.monotonic > LIVES_TO_CONFIRM * this.#lifeMs) {
        throw new ChaperoneError('store_unavailable', 'Not every node has confirmed the change in time. It is stored and takes effect.')
      }
      await new Promise<void>((again) => this.#clock.at(this.#clock.now() + LOOK_AGAIN_MS, again))
    }
  }

  skewMs(): number {
    return this.#skewMs
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancelTimer()
    await this.#noLongerThanALife(this.#underWay ?? Promise.resolve())
    await leaveRow(this.#store, this.nodeId).catch(() => {}) // without a store the row runs out by itself
  }

  keepRenewing(): void {
    this.#cancelTimer = this.#clock.at(this.#clock.now() + this.#everyMs, () => {
      void this.#renew().then(() => {
        if (!this.#stopped) this.keepRenewing()
      })
    })
  }

  /** A renewal that begins after this call, and so confirms what was noticed before it. */
  #renewAfresh(): Promise<void> {
    return this.#underWay?.then(() => this.#renew()) ?? this.#renew()
  }

  /** One at a time; whoever asks meanwhile waits for the same. Never throws: `valid()` tells, and `#lastError` why not. */
  #renew(): Promise<void> {
    this.#underWay ??= this.#renewNow()
      .then(
        () => {
          this.#lastError = undefined
        },
        (error: unknown) => {
          this.#lastError = error
        },
      )
      .finally(() => {
        this.#underWay = undefined
      })
    return this.#underWay
  }

  async #renewNow(): Promise<void> {
    await this.#takeIn()
    if (!(await this.#exchange())) {
      await joinRow(this.#store, this.#clock, this.#row())
      if (!(await this.#exchange())) throw new Error('the row ran out as soon as it was made')
    }
    if (this.#takenIn >= this.#seen) return
    // A newer epoch: the lease runs on as it is while the change is taken in, and is extended only with the confirmation.
    await this.#takeIn()
    if (!(await this.#exchange())) throw new Error('taking in a change took longer than the lease')
  }

  /** A store that hangs is waited for as long as the lease could have lasted: whoever asks is to be refused, not kept. */
  async #noLongerThanALife(work: Promise<void>): Promise<void> {
    let cancel = () => {}
    const enough = new Promise<void>((resolve) => {
      cancel = this.#clock.at(this.#clock.now() + this.#lifeMs, resolve)
    })
    await Promise.race([work, enough])
    cancel()
  }

  /** False when the row was gone. */
  async #exchange(): Promise<boolean> {
    const row = this.#row()
    const sent = moment(this.#clock)
    const { now, epoch, kept } = await renewRow(this.#store, this.#clock, row)
    this.#skewMs = Math.round((sent.wall + this.#clock.now()) / 2 - now)
    this.#seen = Math.max(this.#seen, epoch)
    if (!kept) return false
    this.#confirmed = Math.max(this.#confirmed, row.epochSeen)
    if (this.#takenIn >= epoch) this.#sent = sent
    return true
  }

  async #takeIn(): Promise<void> {
    while (this.#takenIn < this.#seen) {
      const epoch = this.#seen
      await Promise.all([...this.#listeners].map((see) => see(epoch)))
      this.#takenIn = epoch
    }
  }

  #row() {
    return { nodeId: this.nodeId, address: this.#address, lifeMs: this.#lifeMs, epochSeen: this.#takenIn }
  }
}

interface Moment {
  readonly wall: number
  readonly monotonic: number
}

function moment(clock: Clock): Moment {
  const wall = clock.now()
  return { wall, monotonic: clock.monotonic?.() ?? wall }
}
