/**
 * What is under way: put in and taken out with every request, and looked at as a whole now and then.
 *
 * No Set or Map, because of how V8 collects what is young. Each time it builds the table of one anew, the old table keeps a pointer
 * to the new one; as soon as one table is old, its successors are taken for alive one after the other, though nobody holds them, and
 * with each of them all that was in it. A tenth of what every request allocates was so copied twice and freed by full collections only.
 */
export class Bag<T extends object> {
  readonly #items: (T | undefined)[] = []
  readonly #free: number[] = []

  get size(): number {
    return this.#items.length - this.#free.length
  }

  /** The place of it, by which it is found and taken out again. Places are used anew. */
  add(item: T): number {
    const place = this.#free.pop() ?? this.#items.length
    this.#items[place] = item
    return place
  }

  at(place: number): T | undefined {
    return this.#items[place]
  }

  /** False when it is out already: its place may be another one's now. */
  delete(place: number, item: T): boolean {
    if (this.#items[place] !== item) return false
    this.#items[place] = undefined
    this.#free.push(place)
    return true
  }

  /** In no order. What comes in meanwhile may be missed. */
  *[Symbol.iterator](): Generator<T, void, undefined> {
    for (let place = 0; place < this.#items.length; place++) {
      const item = this.#items[place]
      if (item !== undefined) yield item
    }
  }
}
