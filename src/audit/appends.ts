/** What waits under a number of its own; the numbers follow each other. */
export interface Numbered {
  readonly number: number
}

const SMALLEST = 256

/** Kept in a ring, whose places are used anew: a Map would make the young collections of V8 dear (see src/bag.ts). */
export class Appends<T extends Numbered> {
  #ring: (T | undefined)[] = new Array<T | undefined>(SMALLEST).fill(undefined)
  #size = 0

  get size(): number {
    return this.#size
  }

  add(item: T): void {
    while (this.#ring[this.#placeOf(item.number)] !== undefined) this.#grow()
    this.#ring[this.#placeOf(item.number)] = item
    this.#size++
  }

  /** What waits under this number, which then waits no longer. */
  take(number: number): T | undefined {
    const place = this.#placeOf(number)
    const item = this.#ring[place]
    if (item?.number !== number) return undefined
    this.#ring[place] = undefined
    this.#size--
    return item
  }

  /** All, the oldest first; nothing waits any more. */
  clear(): readonly T[] {
    const all = this.#ring.filter((item) => item !== undefined).sort((a, b) => a.number - b.number)
    this.#ring = new Array<T | undefined>(SMALLEST).fill(undefined)
    this.#size = 0
    return all
  }

  /** The length is a power of two. */
  #placeOf(number: number): number {
    return number & (this.#ring.length - 1)
  }

  #grow(): void {
    const before = this.#ring
    this.#ring = new Array<T | undefined>(before.length * 2).fill(undefined)
    for (const item of before) if (item !== undefined) this.#ring[this.#placeOf(item.number)] = item
  }
}
