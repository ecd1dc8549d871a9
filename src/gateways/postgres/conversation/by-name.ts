/**
 * What a connection has under names of the client. The one without a name, which comes and goes with every statement, stands beside
 * the Map, and a Map that is emptied is thrown away: a Map whose table is built anew again and again keeps all that was in
 * it alive, until the next full collection (see src/bag.ts).
 */
export class ByName<T> {
  #named = new Map<string, T>()
  #hasUnnamed = false
  #unnamed: T | undefined

  get size(): number {
    return this.#named.size + (this.#hasUnnamed ? 1 : 0)
  }

  has(name: string): boolean {
    return name === '' ? this.#hasUnnamed : this.#named.has(name)
  }

  get(name: string): T | undefined {
    return name === '' ? this.#unnamed : this.#named.get(name)
  }

  set(name: string, value: T): void {
    if (name === '') {
      this.#hasUnnamed = true
      this.#unnamed = value
    } else this.#named.set(name, value)
  }

  delete(name: string): void {
    if (name === '') {
      this.#hasUnnamed = false
      this.#unnamed = undefined
    } else if (this.#named.delete(name) && this.#named.size === 0) this.#named = new Map()
  }

  clear(): void {
    this.delete('')
    if (this.#named.size > 0) this.#named = new Map()
  }

  *[Symbol.iterator](): Generator<readonly [string, T], void, undefined> {
    if (this.#hasUnnamed) yield ['', this.#unnamed as T]
    yield* this.#named
  }

  names(): Iterable<string> {
    return this.#hasUnnamed ? ['', ...this.#named.keys()] : this.#named.keys()
  }

  values(): Iterable<T> {
    return this.#hasUnnamed ? [this.#unnamed as T, ...this.#named.values()] : this.#named.values()
  }
}
