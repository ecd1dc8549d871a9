import type { Write } from '../../store/store.ts'
import { type DirectoryChange, LastAdministrator, type PeopleParts } from '../directory/people.ts'
import { ScimError } from './errors.ts'

/** Of two that write for one directory at the same moment the second waits: its own document's row is what it waits at. */
export const inTurn = (trx: Write, directory: string): Promise<unknown> =>
  trx
    .updateTable('documents')
    .set((row) => ({ updated_at: row.ref('updated_at') }))
    .where('kind', '=', 'directory')
    .where('name', '=', directory)
    .execute()

/** Somebody else, perhaps on another node, changed it between our reading and our writing. */
export class Overtaken extends ScimError {
  constructor(what: string) {
    super(409, `Somebody else changed this ${what} at the same moment.`)
  }
}

/** Work for a directory at this node, one after the other: writers wait for each other in the store anyway, and here they need not try twice. */
export type Turns = <T>(directory: string, work: () => Promise<T>) => Promise<T>

export function makeTurns(): Turns {
  const last = new Map<string, Promise<unknown>>()
  return async (directory, work) => {
    const mine = (last.get(directory) ?? Promise.resolve()).then(work, work)
    last.set(directory, mine)
    try {
      return await mine
    } finally {
      if (last.get(directory) === mine) last.delete(directory)
    }
  }
}

/** Only other nodes overtake: each of our tries is one that somebody else has succeeded in. */
const TRIES = 10

/**
 * Reads and writes again when somebody was quicker. A PATCH says what to change and a PUT what shall be, whatever was there: neither
 * needs its sender for that, and Entra, which is told 409, comes back only in its next round, after 40 minutes.
 */
export const onceMore = <T>(turn: Turns, directory: string, work: () => Promise<T>): Promise<T> =>
  turn(directory, async () => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work()
      } catch (error) {
        if (!(error instanceof Overtaken) || attempt === TRIES) throw error
      }
    }
  })

/** The record has said what was about to happen; now it says that it did not. */
export async function overtaken(audit: PeopleParts['audit'], change: DirectoryChange, error: unknown): Promise<never> {
  if (error instanceof Overtaken) await audit.append({ ...change, outcome: { status: 'failed', reason: 'conflict' } })
  throw error
}

export const unlessLast = <T>(done: Promise<T>): Promise<T> =>
  done.catch((error: unknown) => {
    throw error instanceof LastAdministrator ? new ScimError(409, error.message) : error
  })
