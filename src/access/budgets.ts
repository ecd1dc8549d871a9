import { createHash } from 'node:crypto'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { Store, Write } from '../store/store.ts'
import type { BudgetTable } from '../store/tables.ts'
import type { Rate } from './buckets.ts'

/** What is taken from: which count, and how much of it there is. */
export interface Purse extends Rate {
  readonly key: string
}

/** What was taken from each purse, in the window that began then. */
export interface Spent {
  readonly purses: readonly { readonly key: string; readonly windowStart: number }[]
}

export interface Empty {
  /** index of the purse with the longest wait */
  readonly purse: number
  readonly waitMs: number
}

/** Budgets live in the store: they outlive a restart, and all nodes count together. */
export interface Budgets {
  /** One from each of them, or from none. Rejects with `store_unavailable`, `too_many`. */
  take(purses: readonly Purse[]): Promise<Spent | Empty>
  /** What was taken did not happen. */
  giveBack(spent: Spent): Promise<void>
}

interface Waiting {
  readonly purses: readonly Purse[]
  readonly resolve: (taken: Spent | Empty) => void
  readonly reject: (error: unknown) => void
}

/** Takes that may wait for the store at once; each is a call that waits too. */
const MOST_WAITING = 10_000
const SWEEP_MS = 3_600_000

/**
 * All that ask while the store is busy are served by one transaction, so a thousand calls of one identity cost those of
 * another no more than one does.
 */
export function openBudgets(store: Pick<Store, 'write'>, clock: Clock): Budgets {
  let waiting: Waiting[] = []
  let running = false
  let nextSweep = clock.now()

  const serve = async (): Promise<void> => {
    while (waiting.length > 0) {
      const batch = waiting
      waiting = []
      try {
        const answers = await store.write((trx) => takeAll(trx, batch, clock.now()))
        for (const [i, { resolve }] of batch.entries()) resolve(answers[i]!)
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
      await sweep().catch(() => {
        // What is over is over whether or not its row is still there; the next sweep takes it.
      })
    }
    running = false
  }
  const sweep = async (): Promise<void> => {
    const now = clock.now()
    if (now < nextSweep) return
    nextSweep = now + SWEEP_MS
    await store.write((trx) => trx.deleteFrom('budgets').where('expires_at', '<=', now).execute())
  }

  return {
    take(purses) {
      if (waiting.length >= MOST_WAITING) throw new ChaperoneError('too_many', 'Too many calls wait for their budgets.')
      const { promise, resolve, reject } = Promise.withResolvers<Spent | Empty>()
      waiting.push({ purses: purses.map((purse) => ({ ...purse, key: hash(purse.key) })), resolve, reject })
      if (!running) {
        running = true
        void serve()
      }
      return promise
    },

    async giveBack({ purses }) {
      await store.write(async (trx) => {
        for (const { key, windowStart } of inOrder(purses)) {
          await trx
            .updateTable('budgets')
            .set((row) => ({ used: row('used', '-', 1) }))
            .where('key', '=', key)
            .where('window_start', '=', windowStart)
            .where('used', '>', 0)
            .execute()
        }
      })
    },
  }
}

const hash = (key: string) => createHash('sha256').update(key).digest('hex')

/** Locks are taken in one order, so that two nodes never wait for each other. */
const inOrder = <T extends { readonly key: string }>(purses: readonly T[]): readonly T[] => purses.toSorted((a, b) => (a.key < b.key ? -1 : 1))

async function takeAll(trx: Write, batch: readonly Waiting[], now: number): Promise<(Spent | Empty)[]> {
  const rows = new Map<string, BudgetTable>()
  const changed = new Set<BudgetTable>()
  const named = new Map(batch.flatMap(({ purses }) => purses).map((purse) => [purse.key, purse]))
  for (const { key, window } of inOrder([...named.values()])) rows.set(key, await held(trx, key, window, now))

  const answers = batch.map(({ purses }): Spent | Empty => {
    const empty = purses
      .map(({ key, most }, purse) => ({ purse, row: rows.get(key)!, most }))
      .filter(({ row, most }) => row.used >= most)
      .map(({ purse, row }) => ({ purse, waitMs: row.expires_at - now }))
    if (empty.length > 0) return empty.toSorted((a, b) => b.waitMs - a.waitMs)[0]!
    for (const { key } of purses) {
      const row = rows.get(key)!
      row.used++
      changed.add(row)
    }
    return { purses: purses.map(({ key }) => ({ key, windowStart: rows.get(key)!.window_start })) }
  })
  for (const { key, ...values } of changed) await trx.updateTable('budgets').set(values).where('key', '=', key).execute()
  return answers
}

/**
 * The row as it counts now, locked by the transaction on either store. A window ends when its time has come and not before:
 * a clock that was set back gives nothing again.
 */
async function held(trx: Write, key: string, window: number, now: number): Promise<BudgetTable> {
  const fresh: BudgetTable = { key, window_start: now, used: 0, expires_at: now + window }
  const found = await trx
    .insertInto('budgets')
    .values(fresh)
    .onConflict((conflict) => conflict.column('key').doUpdateSet((row) => ({ key: row.ref('budgets.key') })))
    .returningAll()
    .executeTakeFirstOrThrow()
  return found.expires_at > now ? { ...found } : fresh
}
