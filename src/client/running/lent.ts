import type { Held, Keeper } from '../credential.ts'

/** A credential that outlives who uses it: several starts of one program, one after the other. */
export interface Lender {
  readonly keeper: Keeper
  /** The same credential. Closing it forgets who watched, and ends nothing. */
  lend(): Keeper
}

export function lender(keeper: Keeper): Lender {
  const all = new Set<(held: Held) => void>()
  keeper.onRenew((held) => {
    for (const see of [...all]) see(held)
  })
  return {
    keeper,
    lend() {
      const own: ((held: Held) => void)[] = []
      return {
        current: () => keeper.current(),
        onRenew(see) {
          // Wrapped, so that the same watcher of two borrowers is two.
          const mine = (held: Held) => see(held)
          own.push(mine)
          all.add(mine)
        },
        signal: keeper.signal,
        whyCut: async () => keeper.whyCut?.(),
        async close() {
          for (const see of own) all.delete(see)
        },
      }
    },
  }
}
