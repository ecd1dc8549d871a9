import type { Clock } from '../../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import { type Ask, isReadableNow, LOOK_LIMITS, type Look, type LookLimits, look, lookForChanges } from './look.ts'
import type { Mirror } from './types.ts'

/** A connection for questions, as `database/` opens it: read-only, with an empty search_path. */
export interface Asking {
  readonly ask: Ask
  close(): void
}

/** A mirror in use by one connection. */
export interface HeldMirror {
  /** The newest one. Throws ChaperoneError when the database has not shown itself for too long. */
  current(): Mirror
  /** False: what is known may be wrong (a definition was changed); `settled` resolves when it is right again. */
  readonly isSettled: boolean
  /** Never rejects: when the look fails, `current` says so. */
  settled(): Promise<void>
  /** A definition was changed through us: look again at once. */
  stale(): void
  /** For a name that the mirror does not know: one that is {@link UNKNOWN_MS} old at most. Rejects with ChaperoneError. */
  fresher(): Promise<Mirror>
  /** For what stands behind a name: undefined where the database was asked {@link RECENT_MS} ago at most. Never rejects. */
  recent(): Promise<void> | undefined
  /** A look that begins after the call. Rejects with ChaperoneError. Nobody else waits for it. */
  asOfNow(): Promise<void>
  release(): void
}

interface MirrorsParts {
  readonly clock: Clock
  /** For the operator: a look that failed while connections are open. */
  readonly fault?: (error: ChaperoneError) => void
  readonly limits?: LookLimits
}

/** ms between looks for changes while somebody is connected */
export const REFRESH_MS = 10_000
/** ms for which a mirror is kept that nobody uses */
export const LINGER_MS = 60_000
/** Looks for unknown names come at most this often; in a large database, a quarter of the time at most. */
export const UNKNOWN_MS = 1_000
const SHARE_OF_LOOKS = 4
/** How old may be what views and functions are believed to do; in a large database more, by {@link SHARE_OF_REFRESHES}. */
export const RECENT_MS = 1_000
/** Looks for changes take the server's time too: measured, 0.3 s with 20,000 tables, 4 ms with ten. */
const SHARE_OF_REFRESHES = 25
/** A mirror that could not be renewed for so long is not relied on any more. */
export const LONGEST_UNSEEN_MS = 5 * 60_000

/** What databases say of themselves, one mirror for each, shared by all of its connections and kept fresh while there are any. */
export class Mirrors {
  readonly #parts: MirrorsParts
  readonly #kept = new Map<string, Kept>()

  constructor(parts: MirrorsParts) {
    this.#parts = parts
  }

  /**
   * `key` says which database: everything that decides which server answers must be in it. `open` opens a short connection
   * of our own; it is called as long as the mirror is held. Rejects with ChaperoneError: without a mirror nobody may connect.
   */
  async hold(key: string, open: () => Promise<Asking>): Promise<HeldMirror> {
    let kept = this.#kept.get(key)
    if (!kept) {
      const made = new Kept(this.#parts, () => this.#kept.get(key) === made && this.#kept.delete(key))
      this.#kept.set(key, made)
      kept = made
    }
    return await kept.hold(open)
  }

  /** The mirror of a database to which somebody is connected. */
  peek(key: string): Mirror | undefined {
    return this.#kept.get(key)?.mirror
  }

  get size(): number {
    return this.#kept.size
  }
}

/**
 * One database. Lives while somebody holds it, and {@link LINGER_MS} longer: tools connect, ask one thing, and go, and a whole
 * look costs more than all the rest of connecting. Whoever comes back has it asked first whether anything changed.
 */
class Kept {
  readonly #parts: MirrorsParts
  readonly #gone: () => void
  readonly #holders = new Set<() => Promise<Asking>>()
  /** Those of them whose look failed, since one succeeded. */
  readonly #failed = new Set<() => Promise<Asking>>()
  #taken: Look | undefined
  /** When the database last said that the mirror is right. */
  #seenAt = 0
  /** How long the last whole look took, and the last look for changes. */
  #cost = 0
  #refreshCost = 0
  /** Changes that were announced, and how many of them the mirror has. */
  #changes = 0
  #seenChanges = 0
  #looking: Promise<void> | undefined
  #disarm = () => {}

  constructor(parts: MirrorsParts, gone: () => void) {
    this.#parts = parts
    this.#gone = gone
  }

  get mirror(): Mirror | undefined {
    return this.#taken?.mirror
  }

  async hold(open: () => Promise<Asking>): Promise<HeldMirror> {
    this.#holders.add(open)
    const release = () => {
      this.#failed.delete(open)
      if (this.#holders.delete(open) && this.#holders.size === 0) this.#arm()
    }
    try {
      const isAlone = this.#holders.size === 1
      if (isAlone) this.#disarm()
      let looked = !isAlone && this.#taken !== undefined && this.#age() < REFRESH_MS
      // A failed look of somebody else is tried again as oneself. One that succeeded will do, however long it took: whoever asked
      // for a young one would never connect to a database whose looks take longer than that.
      while (!looked) {
        if (this.#looking)
          looked = await this.#looking.then(
            () => this.#taken !== undefined,
            () => false,
          )
        else looked = await this.#look(open).then(() => true)
      }
    } catch (error) {
      release()
      throw error
    }
    const kept = this
    return {
      current: () => this.#current(),
      get isSettled() {
        return kept.#seenChanges === kept.#changes
      },
      settled: () => this.#settled(),
      stale: () => {
        this.#changes++
        void this.#settled()
      },
      fresher: () => this.#fresher(open),
      recent: () => this.#recent(open),
      asOfNow: () => this.#asOfNow(open),
      release,
    }
  }

  #age(): number {
    return this.#parts.clock.now() - this.#seenAt
  }

  #current(): Mirror {
    if (!this.#taken || this.#age() > LONGEST_UNSEEN_MS)
      throw new ChaperoneError('upstream_unavailable', 'The database has not said for minutes what its names mean, so nothing can be judged.', {
        fix: 'Connect again; if that fails, the database takes no more connections.',
      })
    return this.#taken.mirror
  }

  /** A look that began before the change saw the old state, so one more follows. */
  async #settled(): Promise<void> {
    // Not those that are announced later: where definitions change all the time, nobody would ever be done.
    const wanted = this.#changes
    while (this.#seenChanges < wanted && this.#holders.size > 0) {
      const began = this.#changes
      const joined = this.#looking !== undefined
      try {
        await this.#look(undefined)
      } catch {
        // Said to the operator by #look. The old mirror goes on, for minutes; the server has the last word anyway.
        if (!joined) this.#seenChanges = began
      }
    }
  }

  async #fresher(open: () => Promise<Asking>): Promise<Mirror> {
    const current = this.#current()
    if (this.#parts.clock.now() - current.takenAt < Math.max(UNKNOWN_MS, this.#cost * SHARE_OF_LOOKS)) return current
    await this.#look(open, true)
    return this.#current()
  }

  #recentFailedAt = -REFRESH_MS

  /** When it fails, the old mirror goes on, for minutes, as it does for all others; and nobody waits for the next that may fail. */
  #recent(open: () => Promise<Asking>): Promise<void> | undefined {
    const now = this.#parts.clock.now()
    if (this.#age() < Math.max(RECENT_MS, this.#refreshCost * SHARE_OF_REFRESHES) || now - this.#recentFailedAt < REFRESH_MS) return undefined
    return this.#look(open).catch(() => {
      this.#recentFailedAt = this.#parts.clock.now()
    })
  }

  #next: Promise<void> | undefined

  /** Who comes while one is under way shares the next one with all others who do. */
  async #asOfNow(open: () => Promise<Asking>): Promise<void> {
    if (!this.#looking) return await this.#look(open)
    this.#next ??= this.#looking
      .catch(() => {})
      .then(() => {
        this.#next = undefined
        return this.#look(open)
      })
    await this.#next
  }

  /** One at a time: who comes meanwhile waits for the one under way. */
  async #look(open: (() => Promise<Asking>) | undefined, whole = false): Promise<void> {
    if (this.#looking) return await this.#looking
    const asker = open ?? this.#asker()
    if (!asker) return
    this.#looking = this.#lookAs(asker, whole).finally(() => {
      this.#looking = undefined
      this.#arm()
    })
    await this.#looking
  }

  /** Not one that could not ask the last time, if there is another: nobody may blind the rest with a user that gets no further connection. */
  #asker(): (() => Promise<Asking>) | undefined {
    return [...this.#holders].findLast((open) => !this.#failed.has(open)) ?? [...this.#holders].at(-1)
  }

  async #lookAs(open: () => Promise<Asking>, whole: boolean): Promise<void> {
    const { clock, fault, limits } = this.#parts
    const changes = this.#changes
    let asking: Asking | undefined
    try {
      asking = await open()
      const began = clock.now()
      const { ask } = asking
      const signature = whole ? undefined : this.#taken && (await lookForChanges(ask))
      this.#refreshCost = clock.now() - began
      const before = this.#taken
      const isSame = signature !== undefined && signature === before?.signature
      if (!isSame || (before.unread.length > 0 && (await isReadableNow(ask, before.unread)))) {
        this.#taken = await look(ask, () => clock.now(), limits ?? LOOK_LIMITS)
        this.#cost = clock.now() - began
        // What no list of locks tells of is tried again each time.
        if (isSame) this.#refreshCost = this.#cost
      }
      this.#seenAt = began
      this.#failed.clear()
      this.#seenChanges = changes
    } catch (error) {
      const why = toChaperoneError(error)
      if (this.#taken) fault?.(why)
      this.#failed.add(open)
      throw why
    } finally {
      asking?.close()
    }
  }

  #arm(): void {
    const { clock } = this.#parts
    this.#disarm()
    if (this.#holders.size === 0) {
      if (this.#looking) return
      if (this.#taken) this.#disarm = clock.at(clock.now() + LINGER_MS, this.#gone)
      else this.#gone()
      return
    }
    // A failed look has been reported, and comes again with the next turn; soon, while somebody is left who may fare better.
    const wait = 0 < this.#failed.size && this.#failed.size < this.#holders.size ? UNKNOWN_MS : REFRESH_MS
    this.#disarm = clock.at(clock.now() + Math.max(wait, this.#refreshCost * SHARE_OF_REFRESHES), () => void this.#look(undefined).catch(() => {}))
  }
}
