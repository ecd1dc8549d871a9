import { z } from 'zod'
import { pointerTo } from '../encoding/lossy-numbers.ts'
import { compileUnder } from '../encoding/path-under.ts'
import { ChaperoneError } from '../errors.ts'
import { fill, hasTemplate, parseTemplate } from './template.ts'
import type { Section, Variables } from './types.ts'
import { valueMatcher } from './value.ts'

const scalar = z.union([z.string().min(1), z.number(), z.boolean()])
const texts = z.union([z.string().min(1), z.array(z.string().min(1))])

/** The shape of `args:` in a rule. */
export const argsSchema = z
  .record(
    z.string().min(1),
    z.union([
      scalar,
      z.array(scalar),
      z.strictObject({ under: texts.describe('absolute path, or a list: the argument is that path or below it, once normalised') }),
      z.strictObject({ max: z.number().optional(), min: z.number().optional() }).describe('the argument is a number in this range, ends included'),
    ]),
  )
  .describe('by argument name (dots lead into objects): a value, a glob, a list, any, { under: path }, { min, max }')

export type ArgsSpec = z.infer<typeof argsSchema>
type ArgSpec = ArgsSpec[string]

/** Whether the arguments are those that the rule names. `lossy`: JSON pointers below `args` (see encoding/lossy-numbers). Throws where a lossy number is read. */
export type ArgsMatcher = (args: unknown, lossy: ReadonlySet<string>, variables: Variables) => boolean

/** `undefined`: a value of this type cannot be compared with what the rule says. */
type Test = (value: unknown, variables: Variables) => boolean | undefined

/**
 * The matcher of `args:`. All arguments named must be there and match; a missing one (or null) does not match. A list as
 * argument, also on the way (`files.path`), stands for its entries.
 *
 * In allow every entry must match, and there must be one. In deny one entry is enough, and so is a value that cannot be
 * compared (a text for a number, a path that is not absolute): else a server that converts `"true"` would do what the rule
 * forbids. An ask grants as allow does and is an exception as deny is: what lies between the two fails, which grants
 * nothing and lets no broader allow beside it stand alone. Throws ChaperoneError('invalid_document').
 */
export function argsMatcher(spec: Readonly<Record<string, unknown>>, section: Section = 'allow'): ArgsMatcher {
  if (section !== 'ask') return allReaders(spec, section === 'allow')
  const surely = allReaders(spec, true)
  const perhaps = allReaders(spec, false)
  return (args, lossy, variables) => {
    if (surely(args, lossy, variables)) return true
    if (perhaps(args, lossy, variables)) throw new ChaperoneError('policy_error', 'The arguments match only in part.')
    return false
  }
}

function allReaders(spec: Readonly<Record<string, unknown>>, every: boolean): ArgsMatcher {
  const readers = Object.entries(spec as ArgsSpec).map(([name, value]) => reader(name, compileTest(value, name), every))
  return (args, lossy, variables) => {
    for (const matches of readers) if (!matches(args, lossy, variables)) return false
    return true
  }
}

function reader(name: string, test: Test, every: boolean): ArgsMatcher {
  const steps = name.split('.')
  const first = steps[0]!
  const leaf = (value: unknown, pointer: string, lossy: ReadonlySet<string>, variables: Variables): boolean => {
    if (value === undefined || value === null) return false
    if (typeof value === 'number' && lossy.size > 0 && lossy.has(pointer)) {
      throw new ChaperoneError('policy_error', `The number in argument ${name} is longer than can be judged exactly.`)
    }
    const found = test(value, variables)
    return every ? found === true : found !== false
  }
  const read = (value: unknown, step: number, pointer: string, lossy: ReadonlySet<string>, variables: Variables): boolean => {
    if (Array.isArray(value)) {
      const entry = (item: unknown, i: number) => read(item, step, below(pointer, i, lossy), lossy, variables)
      return every ? value.length > 0 && value.every(entry) : value.some(entry)
    }
    const key = steps[step]
    if (key === undefined) return leaf(value, pointer, lossy, variables)
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return false
    return read((value as Record<string, unknown>)[key], step + 1, below(pointer, key, lossy), lossy, variables)
  }
  return (args, lossy, variables) => {
    if (typeof args !== 'object' || args === null) return false
    const nested = Object.hasOwn(args, first)
    if (steps.length === 1) return nested && read((args as Record<string, unknown>)[name], 1, below('', name, lossy), lossy, variables)
    const whole = Object.hasOwn(args, name)
    if (!whole) return nested && read(args, 0, '', lossy, variables)
    // The dot may be part of the name. Which one the server reads is not ours to guess: in allow neither may be wrong.
    const asName = read((args as Record<string, unknown>)[name], steps.length, below('', name, lossy), lossy, variables)
    if (!nested || asName !== every) return asName
    return read(args, 0, '', lossy, variables)
  }
}

/** Pointers cost, and matter only where some number is lossy. */
const below = (pointer: string, step: string | number, lossy: ReadonlySet<string>) => (lossy.size > 0 ? pointerTo(pointer, step) : pointer)

function compileTest(spec: ArgSpec, name: string): Test {
  if (typeof spec === 'string') return textTest(spec)
  if (typeof spec === 'number' || typeof spec === 'boolean') return (value) => (typeof value === typeof spec ? value === spec : undefined)
  if (Array.isArray(spec)) return anyOf(spec)
  if (typeof spec === 'object' && spec !== null) {
    if ('under' in spec) return underTest(typeof spec.under === 'string' ? [spec.under] : spec.under)
    if (('max' in spec && spec.max !== undefined) || ('min' in spec && spec.min !== undefined)) return rangeTest(spec.min, spec.max, name)
  }
  throw new ChaperoneError('invalid_document', `args.${name} is not a test.`, {
    fix: 'Write a value, a list, { under: /path }, or { min: 1, max: 500 }.',
  })
}

function textTest(spec: string): Test {
  if (spec === 'any') return () => true
  const matches = valueMatcher(spec)
  return (value, variables) => (typeof value === 'string' ? matches(value, variables) : undefined)
}

function anyOf(specs: readonly (string | number | boolean)[]): Test {
  const tests: Test[] = specs.filter((spec) => typeof spec !== 'string').map((spec) => compileTest(spec, ''))
  const strings = specs.filter((spec) => typeof spec === 'string')
  const matches = valueMatcher(strings)
  if (strings.length > 0) tests.push((value, variables) => (typeof value === 'string' ? matches(value, variables) : undefined))
  // An empty list is none, also in deny: there nothing is said that could not be compared.
  if (tests.length === 0) return () => false
  return (value, variables) => {
    let comparable = false
    for (const test of tests) {
      const found = test(value, variables)
      if (found) return true
      if (found === false) comparable = true
    }
    return comparable ? false : undefined
  }
}

function rangeTest(min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY, name = ''): Test {
  if (min > max) throw new ChaperoneError('invalid_document', `args.${name}: min is over max.`, { fix: 'Swap them.' })
  return (value) => (typeof value === 'number' ? value >= min && value <= max : undefined)
}

function underTest(roots: readonly string[]): Test {
  if (roots.length === 0) return () => false
  const places = roots.map(underOne)
  return (value, variables) => {
    if (typeof value !== 'string') return undefined
    let unknown = false
    for (const place of places) {
      const found = place(value, variables)
      if (found) return true
      if (found === undefined) unknown = true
    }
    return unknown ? undefined : false
  }
}

function underOne(root: string): (path: string, variables: Variables) => boolean | undefined {
  const place = (at: 'under' | 'outside' | 'unknown') => (at === 'unknown' ? undefined : at === 'under')
  if (!hasTemplate(root)) {
    const fixed = compileUnder(root)
    return (path) => place(fixed(path))
  }
  const pieces = parseTemplate(root)
  if (typeof pieces[0] !== 'string') compileUnder(root)
  else compileUnder(pieces[0])
  return (path, variables) => {
    let unknown = false
    for (const reading of fill(pieces, variables)) {
      const filled = reading.join('')
      // A trait that says `..` would move the fence.
      if (/(^|\/)\.{1,2}(\/|$)|[\\\0]/.test(filled)) return undefined
      const found = place(compileUnder(filled)(path))
      if (found) return true
      if (found === undefined) unknown = true
    }
    return unknown ? undefined : false
  }
}

/**
 * The arguments with lossy numbers replaced by traps that throw when read: for vocabularies whose `variables` hand
 * arguments to `where`. The same object when nothing is lossy.
 */
export function trapLossy(args: unknown, lossy: ReadonlySet<string>, pointer = ''): unknown {
  if (lossy.size === 0 || typeof args !== 'object' || args === null) return args
  const copy: unknown[] | Record<string, unknown> = Array.isArray(args) ? [] : {}
  for (const [key, value] of Object.entries(args)) {
    const at = pointerTo(pointer, key)
    const get = () => {
      throw new ChaperoneError('policy_error', `The number at ${at} is longer than can be judged exactly.`)
    }
    Object.defineProperty(
      copy,
      key,
      lossy.has(at) ? { get, enumerable: true, configurable: true } : { value: trapLossy(value, lossy, at), enumerable: true, configurable: true },
    )
  }
  return copy
}
