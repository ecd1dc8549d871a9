import { createHash } from 'node:crypto'
import type { Described } from '../describe.ts'
import type { Mirror } from '../mirror/types.ts'
import { quotedName } from '../sql/relations.ts'
import { DDL_KINDS } from '../sql/statements.ts'

/** Names of settings of one connection; whoever moves more has no statement bound to them. */
const MOST_NAMES = 100

/**
 * What a connection has done to its own settings. Those of PostgreSQL are asked from the server (`state.ts`), but settings with a
 * name of their own (`app.tenant`), by which row policies go, stand in no list: their names are kept from the statements that
 * moved them, and their values are asked. What ran without being seen may have moved any: it counts as it is, one after the other.
 */
export class SettingsLedger {
  readonly #names = new Set<string>()
  #unseen: string | undefined
  #isFull = false

  /** A statement was sent, whatever comes of it. `parameters`: as they are recorded. */
  ran(described: Described, parameters: string, mirror: Mirror | undefined): void {
    for (const name of described.settings) this.#moves(name)
    if (!mayMoveUnseen(described, mirror)) return
    this.#unseen = createHash('sha256')
      .update(JSON.stringify([this.#unseen ?? '', described.text, described.stands?.map(({ text }) => text) ?? [], parameters]))
      .digest('hex')
  }

  #moves(name: string): void {
    if (!name.includes('.') || this.#names.has(name)) return
    if (this.#names.size >= MOST_NAMES) this.#isFull = true
    else this.#names.add(name)
  }

  /** in order; lower case */
  get names(): readonly string[] {
    return [...this.#names].sort()
  }

  /** sha256 hex of all that ran unseen, in order; undefined: nothing did. */
  get unseen(): string | undefined {
    return this.#unseen
  }

  /** More was moved than is kept. */
  get isFull(): boolean {
    return this.#isFull
  }
}

/** Functions that nobody has looked into, triggers, and what event triggers run with. */
function mayMoveUnseen(described: Described, mirror: Mirror | undefined): boolean {
  const { opaque, effects, kinds, settings, written, behind } = described
  if (opaque || kinds.some((kind) => DDL_KINDS.has(kind)) || (effects.includes('admin') && settings.length === 0)) return true
  if (written.length === 0) return false
  return mirror === undefined || triggersOf(mirror).some((name) => written.includes(name) || behind.includes(name))
}

const triggered = new WeakMap<Mirror, readonly string[]>()

/** Relations with which code runs when they are written. */
function triggersOf(mirror: Mirror): readonly string[] {
  let names = triggered.get(mirror)
  if (!names) {
    names = [...mirror.all()].filter(({ hasTriggers, hasRules }) => hasTriggers || hasRules).map(quotedName)
    triggered.set(mirror, names)
  }
  return names
}
