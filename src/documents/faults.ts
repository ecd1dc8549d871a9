import type { z } from 'zod'
import { near } from './near.ts'
import type { Fault, Path } from './types.ts'

type Issue = z.core.$ZodIssue

/** What zod found, in sentences for the person who wrote the document. `known` are the keys that may stand at the top of the spec. */
export function zodFaults(error: z.ZodError, value: unknown, known: readonly string[] = []): Fault[] {
  return error.issues.flatMap((issue) => faultsOf(issue, value, known, []))
}

function faultsOf(issue: Issue, value: unknown, known: readonly string[], above: Path): Fault[] {
  const path = [...above, ...issue.path.map((step) => (typeof step === 'symbol' ? String(step) : step))]
  const at = path.length === 0 ? '' : `\`${written(path)}\`: `
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const fix = path.length === 0 ? near(key, known) : undefined
      return { path: [...path, key], atKey: true, message: `${at}unknown key \`${key}\`.`, ...(fix === undefined ? {} : { fix }) }
    })
  }
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    // The branch that got furthest is the one that was meant; then the one with the least to mend.
    const depth = (branch: readonly Issue[]) => Math.max(...branch.map((one) => one.path.length))
    const best = [...issue.errors].sort((a, b) => depth(b) - depth(a) || a.length - b.length)[0]!
    return best.flatMap((inner) => faultsOf(inner, value, known, path))
  }
  const found = valueAt(value, path)
  if (issue.code === 'invalid_type' && found === undefined) {
    return [{ path, message: `\`${written(path)}\` is missing.`, fix: `Add \`${path.at(-1) ?? 'spec'}:\` (${issue.expected}).` }]
  }
  return [{ path, message: `${at}${issue.message}.`.replace(/\.\.$/, '.'), ...fixFor(issue, found, path) }]
}

/** What a bare number of a limit most likely counts. */
const UNITS: Readonly<Record<string, string>> = { memory: 'MiB', output: 'MiB', lifetime: 'h', idle: 'm', start: 's' }

/** A shell line as the items of a YAML list. */
const words = (line: string): string =>
  (line.match(/"[^"]*"|'[^']*'|\S+/g) ?? [])
    .map((word) => word.replace(/^(["'])(.*)\1$/, '$2'))
    .map((word) => (/^[A-Za-z./@_][\w./@=+-]*$/.test(word) ? word : JSON.stringify(word)))
    .join(', ')

function fixFor(issue: Issue, found: unknown, path: Path): { fix?: string } {
  if (issue.code === 'invalid_type') {
    // YAML 1.2 knows only true and false; 1.1 habits die hard.
    if (issue.expected === 'boolean' && typeof found === 'string') return { fix: 'Write true or false.' }
    const unit = path.at(-2) === 'limits' ? UNITS[String(path.at(-1))] : undefined
    if (issue.expected === 'string' && typeof found === 'number' && unit !== undefined)
      return { fix: `Write a unit: ${found >= 1024 && unit === 'MiB' ? `${found}B` : `${found}${unit}`}.` }
    if (issue.expected === 'string' && (typeof found === 'number' || typeof found === 'boolean')) return { fix: `Write it in quotes: "${found}".` }
    if (issue.expected === 'array' && typeof found === 'string') {
      return { fix: `Write a list: [${path.at(-1) === 'command' ? words(found) : found}].` }
    }
  }
  if (issue.code === 'invalid_value' && typeof found === 'string') {
    const fix = near(found, issue.values.map(String))
    return fix === undefined ? {} : { fix }
  }
  return {}
}

/** `allow[0].tools` */
export const written = (path: Path): string =>
  path.reduce<string>((text, step) => (typeof step === 'number' ? `${text}[${step}]` : text === '' ? step : `${text}.${step}`), '')

export function valueAt(value: unknown, path: Path): unknown {
  let here = value
  for (const step of path) {
    if (typeof here !== 'object' || here === null) return undefined
    here = (here as Record<string | number, unknown>)[step]
  }
  return here
}
