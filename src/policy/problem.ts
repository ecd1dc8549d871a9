import type { z } from 'zod'
import { ChaperoneError } from '../errors.ts'

/** One fault in a spec. `path` leads to it from the spec (keys and indices), so that documents/ can name line and column. */
export interface SpecProblem {
  readonly path: readonly (string | number)[]
  readonly message: string
  readonly fix?: string
}

/** The problems of a failed parse, one a fault, with the nearest key that the schema knows for each unknown one. */
export function problemsOf(error: z.ZodError, schema: z.core.$ZodType, at: readonly (string | number)[]): SpecProblem[] {
  return error.issues.flatMap((issue) => problemsOfIssue(issue, schema, [], at))
}

function problemsOfIssue(
  issue: z.core.$ZodIssue,
  schema: z.core.$ZodType,
  above: readonly PropertyKey[],
  at: readonly (string | number)[],
): SpecProblem[] {
  const inside = [...above, ...issue.path]
  const path = [...at, ...inside.map((step) => (typeof step === 'symbol' ? String(step) : step))]
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ path: [...path, key], message: `Unknown key \`${key}\`.`, ...didYouMean(key, keysAt(schema, inside)) }))
  }
  if (issue.code === 'invalid_union') {
    // Of the forms a value may have, the one that the writer came closest to says most.
    const nearest = issue.errors.filter((issues) => depth(issues) > 0).toSorted((a, b) => a.length - b.length)[0]
    if (nearest) return nearest.flatMap((inner) => problemsOfIssue(inner, schema, inside, at))
    return [{ path, message: `Expected ${[...new Set(wanted(issue))].join(' or ')}.` }]
  }
  const where = issue.code === 'invalid_type' && path.length > 0 ? `\`${written(path)}\`: ` : ''
  return [{ path, message: `${where}${issue.message}.`.replace(/\.\.$/, '.') }]
}

/** `allow[0].limits.rate` */
const written = (path: SpecProblem['path']): string =>
  path.reduce<string>((text, step) => (typeof step === 'number' ? `${text}[${step}]` : text === '' ? step : `${text}.${step}`), '')

/** The keys that the schema knows at a place. */
function keysAt(schema: z.core.$ZodType | undefined, path: readonly PropertyKey[]): string[] {
  const def = (schema as z.core.$ZodTypes | undefined)?._zod.def
  const [step, ...rest] = path
  switch (def?.type) {
    case 'optional':
    case 'default':
    case 'nullable':
      return keysAt(def.innerType, path)
    case 'union':
      return def.options.flatMap((option) => keysAt(option, path))
    case 'array':
      return keysAt(def.element, rest)
    case 'record':
      return keysAt(def.valueType, rest)
    case 'object':
      return step === undefined ? Object.keys(def.shape) : keysAt(def.shape[String(step)], rest)
    default:
      return []
  }
}

/** What the forms of a union would have been, the unions inside it included. */
function wanted(issue: z.core.$ZodIssue): string[] {
  if (issue.code === 'invalid_union') return issue.errors.flat().flatMap(wanted)
  if (issue.code === 'invalid_value') return issue.values.map((value) => JSON.stringify(value))
  return 'expected' in issue ? [issue.expected] : []
}

const depth = (issues: readonly z.core.$ZodIssue[]) =>
  Math.max(0, ...issues.map((issue) => issue.path.length + (issue.code === 'unrecognized_keys' ? 1 : 0)))

/** What a failed compile says, as a problem. Anything but a ChaperoneError is a fault of ours and goes on up. */
export function problemOfError(error: unknown, path: readonly (string | number)[]): SpecProblem {
  if (!(error instanceof ChaperoneError)) throw error
  return { path, message: error.message, ...(error.fix === undefined ? {} : { fix: error.fix }) }
}

/** The nearest of the known words, when one is near enough to be meant. */
export function didYouMean(word: string, known: readonly string[]): { fix?: string } {
  const near = known.map((name) => ({ name, distance: distance(word.toLowerCase(), name.toLowerCase()) })).sort((a, b) => a.distance - b.distance)[0]
  if (near && near.distance <= Math.max(1, Math.floor(word.length / 3))) return { fix: `Did you mean \`${near.name}\`?` }
  return known.length > 0 ? { fix: `Known here: ${known.join(', ')}.` } : {}
}

/** How many letters to change, add, drop or swap with their neighbour. Words of documents are short; longer ones are cut. */
function distance(from: string, to: string): number {
  const a = from.slice(0, 40)
  const b = to.slice(0, 40)
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)]
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = rows[i - 1]![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      row[j] = Math.min(change, rows[i - 1]![j]! + 1, row[j - 1]! + 1)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) row[j] = Math.min(row[j]!, rows[i - 2]![j - 2]! + 1)
    }
    rows.push(row)
  }
  return rows[a.length]![b.length]!
}
