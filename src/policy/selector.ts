import { z } from 'zod'
import { isGlob } from '../encoding/glob.ts'
import { ChaperoneError } from '../errors.ts'
import { hasTemplate, readsSession } from './template.ts'
import type { Resource, Variables } from './types.ts'
import { type ValueMatcher, valueMatcher } from './value.ts'

const names = z.union([z.string().min(1), z.array(z.string().min(1))])

/** What stands after the kind in a rule: `mcp: files`, `postgres: { labels: { env: prod } }`, `chaperone: any`. */
export const selectorSchema = z
  .union([
    names,
    z.strictObject({
      labels: z.record(z.string().min(1), names).optional().describe('all of these labels, each with one of these values'),
      name: names.optional(),
    }),
  ])
  .describe('a name, a glob, a list of them, any, or { labels: { key: value } }')

export type SelectorSpec = z.infer<typeof selectorSchema>

export interface Selector {
  selects(resource: Resource, variables: Variables): boolean
  /** Set when only these names can be selected: rules are found by them. */
  readonly onlyNames?: readonly string[]
  readonly readsSession: boolean
}

/** Throws ChaperoneError('invalid_document'). An empty list, of names or of values of a label, selects nothing. */
export function compileSelector(spec: SelectorSpec): Selector {
  const written = JSON.stringify(spec)
  if (typeof spec === 'string' || Array.isArray(spec)) {
    const matches = valueMatcher(spec)
    const list = typeof spec === 'string' ? [spec] : spec
    const plain = spec !== 'any' && list.every((name) => !isGlob(name) && !hasTemplate(name))
    return {
      selects: (resource, variables) => matches(resource.name, variables),
      ...(plain ? { onlyNames: list } : {}),
      readsSession: readsSession(written),
    }
  }
  const labels = Object.entries(spec.labels ?? {}).map(([key, value]): [string, ValueMatcher] => [key, valueMatcher(value)])
  const name = spec.name === undefined ? undefined : valueMatcher(spec.name)
  if (name === undefined && labels.length === 0) {
    throw new ChaperoneError('invalid_document', 'The selector names neither a label nor a name.', { fix: 'Write any when all are meant.' })
  }
  return {
    selects(resource, variables) {
      for (const [key, matches] of labels) {
        const value = Object.hasOwn(resource.labels, key) ? resource.labels[key] : undefined
        if (value === undefined || !matches(value, variables)) return false
      }
      return name === undefined || name(resource.name, variables)
    },
    readsSession: readsSession(written),
  }
}
