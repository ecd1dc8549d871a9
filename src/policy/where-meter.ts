import { type ASTNode, Environment } from '@marcbachmann/cel-js'
import { ChaperoneError } from '../errors.ts'

/**
 * What a condition may cost. Whoever calls chooses the arguments, and what an administrator wrote as `args.a.all(x, x in args.b)`
 * takes a time that grows with the square of them (measured: 26 s for one 4 MiB message). CEL counts nothing, so what it reads is
 * handed to it behind proxies that do, and the functions that look at a text as a whole are replaced by ones that pay first.
 * One unit is about 100 ns. All conditions that judge one action for one link share a budget, so a decision is bounded as well (rule 11).
 */
export class Budget {
  #left: number
  /** what each thing that is read costs besides, in the condition that is tried just now */
  #each = 0
  readonly #metered = new WeakMap<object, object>()

  constructor(units: number) {
    this.#left = units
  }

  /** Throws ChaperoneError('policy_error') when nothing is left. */
  spend(units: number): void {
    this.#left -= units
    if (!(this.#left >= 0)) throw tooMuch()
  }

  /** Tries a condition. An error that CEL has taken back (`fails || true`) is one here. */
  try<T>(each: number, condition: () => T): T {
    const [before, traces] = [current, Error.stackTraceLimit]
    current = this
    this.#each = each
    // all() and exists() make an error of each element that fails, and keep one: without a trace it costs a tenth.
    Error.stackTraceLimit = 0
    try {
      const result = condition()
      this.spend(0)
      return result
    } finally {
      current = before
      Error.stackTraceLimit = traces
    }
  }

  /** The same value; each part of it that is read is paid for. What is no JSON (a time, bytes) stays as it is. */
  meter<T extends object>(value: T, depth = 0): T {
    if (!isOpen(value)) return value
    const known = this.#metered.get(value)
    if (known) return known as T
    // CEL keeps for ever what it has learned of each form of nesting, so there may be no more than some thousand forms.
    if (depth > MOST_DEEP) throw new ChaperoneError('policy_error', `The arguments lie deeper than the ${MOST_DEEP} steps that are judged.`)
    const read = (part: unknown): unknown => {
      this.spend(READ + this.#each + (typeof part === 'string' ? part.length / CHARACTERS_READ : 0))
      return typeof part === 'object' && part !== null ? this.meter(part, depth + 1) : part
    }
    const made = Array.isArray(value)
      ? meteredList(value, read)
      : new MeteredMap(value as Record<string, unknown>, read, (units) => this.spend(units))
    this.#metered.set(value, made)
    return made as T
  }
}

const meteredList = (list: readonly unknown[], read: (part: unknown) => unknown): readonly unknown[] =>
  new Proxy(list, {
    get(target, name) {
      const part: unknown = Reflect.get(target, name)
      return typeof name === 'symbol' || name === 'length' || typeof part === 'function' ? part : read(part)
    },
  })

/** CEL reads maps as well as objects, and of a map nothing is gone through that was not asked for. */
class MeteredMap extends Map<string, unknown> {
  readonly #of: Readonly<Record<string, unknown>>
  readonly #read: (part: unknown) => unknown
  readonly #spend: (units: number) => void
  #names: readonly string[] | undefined

  constructor(of: Readonly<Record<string, unknown>>, read: (part: unknown) => unknown, spend: (units: number) => void) {
    super()
    this.#of = of
    this.#read = read
    this.#spend = spend
  }

  #keys(): readonly string[] {
    if (!this.#names) {
      this.#names = Object.keys(this.#of)
      this.#spend(this.#names.length * 2)
    }
    return this.#names
  }

  override get size(): number {
    return this.#keys().length
  }

  override has(name: string): boolean {
    return Object.hasOwn(this.#of, name)
  }

  /** `in` asks this too. A key that is no text is not looked for under its text, as the tool may do: it cannot be judged (rule 1). */
  override get(name: string): unknown {
    if (typeof name !== 'string') throw new ChaperoneError('policy_error', 'A key is text.', { fix: 'Send it as text.' })
    return this.#read(this.has(name) ? this.#of[name] : undefined)
  }

  override *keys(): MapIterator<string> {
    for (const name of this.#keys()) yield this.#read(name) as string
  }

  override *entries(): MapIterator<[string, unknown]> {
    for (const name of this.#keys()) yield [name, this.#read(this.#of[name])]
  }

  override [Symbol.iterator](): MapIterator<[string, unknown]> {
    return this.entries()
  }
}
// CEL tells a map by its constructor.
Object.defineProperty(MeteredMap.prototype, 'constructor', { value: Map })

/** About 200 ms, and a list of 140,000 numbers that one loop walks through. */
export const RULES_UNITS = 2_000_000
/** For conditions that whoever hands something on wrote, an agent too. */
export const LIMITS_UNITS = RULES_UNITS / 10

const READ = 10
const CHARACTERS_READ = 1024
const MOST_DEEP = 10

/** Evaluation never waits, so there is one at a time. */
let current: Budget | undefined

function isOpen(part: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(part)
  return prototype === Object.prototype || prototype === null || Array.isArray(part)
}

const tooMuch = () =>
  new ChaperoneError('policy_error', 'The arguments are too large, or too many, to be judged by `where`.', {
    fix: 'Send less in one call.',
  })

/** Functions that look at a text, or a list, as a whole, or cost much each time. */
const COSTLY: ReadonlySet<string> = new Set(
  ['size', 'duration', 'contains', 'indexOf', 'lastIndexOf', 'split', 'join', 'lowerAscii', 'upperAscii', 'trim', 'json'].concat(
    ['Date', 'DayOfMonth', 'DayOfWeek', 'DayOfYear', 'FullYear', 'Hours', 'Milliseconds', 'Minutes', 'Month', 'Seconds'].map((part) => `get${part}`),
  ),
)
/** What is looked for is mostly written in the condition: then the time grows with the text alone, and reading that is paid for. */
const CHEAP_WITH_LITERAL: ReadonlySet<string> = new Set(['contains', 'indexOf', 'lastIndexOf', 'duration'])
/** CEL's own pattern takes a time that grows with the cube of the text (measured: 4 s for 2,000 digits). */
const LONGEST_DURATION = 64
/** A time zone makes a formatter each time (measured: 190 us). */
const ZONE = 2000

function costBefore(name: string, [first, second]: readonly unknown[]): number {
  if (name.startsWith('get')) return second === undefined ? 1 : ZONE
  if (name === 'join') return costOfJoin(first as readonly string[], second as string | undefined)
  const length = typeof first === 'string' || first instanceof Uint8Array ? first.length : 0
  if (name === 'size') return 1 + length / 4
  if (name === 'duration' && length > LONGEST_DURATION) throw new ChaperoneError('policy_error', 'No duration is that long.')
  // In the worst case each place of the text is compared with all that is looked for.
  return 1 + (length * Math.max(3, typeof second === 'string' ? second.length : 0)) / 200
}

/** Half a gigabyte of text is made of one megabyte and a list: paid for before it is there. */
const costOfJoin = (parts: readonly string[], between = '') => parts.reduce((sum, part) => sum + 1 + (String(part).length + between.length) / 64, 1)

const PAID = 'paid_'

/** Adds to each costly function one that pays and then does the same. */
export function withPaidFunctions(environment: Environment): Environment {
  const plain = new Environment()
  for (const { name, receiverType, returnType, params } of plain.getDefinitions().functions) {
    if (!COSTLY.has(name)) continue
    const types = [...(receiverType === null ? [] : [receiverType]), ...params.map(({ type }) => type)]
    const names = types.map((_, at) => `v${at}`)
    const typed = types.reduce((known, type, at) => known.registerVariable(names[at]!, type), plain.clone())
    const run = typed.parse(receiverType === null ? `${name}(${names})` : `v0.${name}(${names.slice(1)})`)
    environment.registerFunction({
      ...{ name: PAID + name, returnType, params: params.map(({ type }) => ({ name: 'given', type })) },
      ...(receiverType === null ? {} : { receiverType }),
      handler(...values: unknown[]) {
        current?.spend(costBefore(name, values))
        const result: unknown = run(Object.fromEntries(names.map((name, at) => [name, values[at]])))
        // The parts of a text, and what was written in it, are gone through like what was sent.
        return current && typeof result === 'object' && result !== null ? current.meter(result) : result
      },
    })
  }
  return environment
}

/** Makes a call pay, where it has to. */
export function makePay({ op, args }: ASTNode): void {
  if (op !== 'call' && op !== 'rcall') return
  const name = args[0]
  if (!COSTLY.has(name)) return
  const given = op === 'call' ? args[1] : args[2]
  if (CHEAP_WITH_LITERAL.has(name) && given[0]?.op === 'value') return
  ;(args as unknown as [string])[0] = PAID + name
}

/** What CEL says of a condition, in the words of whoever wrote it. */
export const inItsWords = (message: string): string => message.replaceAll(PAID, '')
