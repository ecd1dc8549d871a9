import { codeOf } from './store-errors.ts'

/** Of those who wait for each other PostgreSQL ends one a second; more of them than this at once are not met by chance. */
const MOST_TRIES = 5

/** deadlock_detected */
const isDeadlock = (error: unknown): boolean => {
  for (let at = error; at instanceof Error; at = at.cause) if (codeOf(at) === '40P01') return true
  return false
}

/**
 * Makes a change once more when PostgreSQL has undone it because it and another one waited for each other: nothing of it was stored.
 * For changes that hold rows in an order which cannot be the same everywhere: what ends with a delegation is found in rounds, while
 * others begin on it. `change` is one `store.write` or `store.reduce`, and does nothing beside it that may not be done twice.
 */
export async function pastDeadlocks<T>(change: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await change()
    } catch (error) {
      if (tries === MOST_TRIES || !isDeadlock(error)) throw error
    }
  }
}
