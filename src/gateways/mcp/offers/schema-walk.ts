import { isObject } from '../wire.ts'

/** A JSON Schema as it stands, or what a boolean schema or nonsense comes to: anything. */
export type Schema = Readonly<Record<string, unknown>>

/** What is known of the value at a place: the schemas it may have, or that it is surely not there, perhaps there, or unknown. */
export type Place =
  | { readonly is: 'there'; readonly schemas: readonly Schema[] }
  /** the schema has names here and not this one; `others`: whether it allows more */
  | { readonly is: 'absent'; readonly known: readonly string[]; readonly others: boolean }
  | { readonly is: 'unknown' }

const UNKNOWN: Place = { is: 'unknown' }
/** Alternatives and references are followed so far; beyond that nothing is said (rule 11). */
const DEEPEST = 24
const MOST_SCHEMAS = 64
/**
 * Schemas that are looked at, and names that are put together, for one question. A schema that leads back to itself by
 * several ways doubles the work at every turn: ten lines of a server's would take days.
 */
const MOST_WORK = 2_000

/** The schema that references point into, and how much work is left: below zero nothing more is known. */
interface Walk {
  readonly root: Schema
  left: number
}

/**
 * What a schema says of the value that a rule names: `options.depth`, where a dot may also be part of a name, and an array
 * on the way stands for its entries (as in policy/args.ts). References into the network are not followed.
 */
export function placeOf(root: unknown, name: readonly string[]): Place {
  if (!isObject(root)) return UNKNOWN
  const walk: Walk = { root, left: MOST_WORK }
  const place = placeIn(walk, name)
  return walk.left < 0 ? UNKNOWN : place
}

function placeIn(walk: Walk, name: readonly string[]): Place {
  let here: readonly Schema[] = entries(resolved(walk.root, walk), walk)
  for (const step of name) {
    const places = here.map((schema) => below(schema, step, walk))
    const there = places.flatMap((place) => (place.is === 'there' ? place.schemas : []))
    if (there.length > 0) {
      here = entries(
        there.flatMap((schema) => resolved(schema, walk)),
        walk,
      )
      continue
    }
    if (places.length === 0 || places.some((place) => place.is === 'unknown')) return UNKNOWN
    const absent = places.flatMap((place) => (place.is === 'absent' ? [place] : []))
    return { is: 'absent', known: [...new Set(absent.flatMap(({ known }) => known))], others: absent.some(({ others }) => others) }
  }
  return { is: 'there', schemas: here }
}

/** The schema and what it stands for: targets of references, alternatives. One that says nothing of its own gives way to them. */
function resolved(schema: unknown, walk: Walk, depth = 0): readonly Schema[] {
  if (!isObject(schema) || depth > DEEPEST || --walk.left < 0) return [{}]
  if (typeof schema.$ref === 'string') {
    const target = targetOf(schema.$ref, walk.root)
    return target === undefined ? [{}] : resolved(target, walk, depth + 1)
  }
  for (const key of ['anyOf', 'oneOf'] as const) {
    const choices = schema[key]
    // Beside alternatives a schema may say something of its own; then both are in the list, and the reader takes any that fits.
    if (Array.isArray(choices) && choices.length > MOST_SCHEMAS) return [{}]
    if (Array.isArray(choices) && choices.length > 0) {
      const rest = Object.fromEntries(Object.entries(schema).filter(([name]) => name !== key))
      return choices.flatMap((choice) => resolved(isObject(choice) ? merged(rest, choice, walk) : choice, walk, depth + 1)).slice(0, MOST_SCHEMAS)
    }
  }
  if (Array.isArray(schema.allOf) && schema.allOf.length > 0) {
    const { allOf, ...rest } = schema
    const whole = (allOf as unknown[]).reduce<Schema>((so, part) => merged(so, resolved(part, walk, depth + 1)[0] ?? {}, walk), rest)
    return [whole]
  }
  return [schema]
}

/** Both at once, as far as it matters here: the names of both. Of what they say differently nothing is said. */
function merged(a: Schema, b: Schema, walk: Walk): Schema {
  for (const { properties } of [a, b]) if (isObject(properties)) walk.left -= Object.keys(properties).length
  if (walk.left < 0) return {}
  const both: Record<string, unknown> = { ...a, ...b }
  for (const key of ['type', 'enum', 'const', 'minimum', 'maximum', 'maxLength']) if (key in a && key in b) delete both[key]
  if (isObject(a.properties) && isObject(b.properties)) return { ...both, properties: { ...a.properties, ...b.properties } }
  return both
}

function targetOf(reference: string, root: Schema): unknown {
  if (!reference.startsWith('#')) return undefined
  if (reference === '#') return root
  if (!reference.startsWith('#/')) return undefined
  let here: unknown = root
  for (const step of reference.slice(2).split('/')) {
    if (typeof here !== 'object' || here === null) return undefined
    const key = decode(step).replaceAll('~1', '/').replaceAll('~0', '~')
    here = Object.hasOwn(here, key) ? (here as Record<string, unknown>)[key] : undefined
  }
  return here
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** An array stands for its entries, at any depth. What is not surely an array stays. */
function entries(schemas: readonly Schema[], walk: Walk, depth = 0): readonly Schema[] {
  if (depth > DEEPEST) return [{}]
  return schemas
    .flatMap((schema): readonly Schema[] => {
      if (!typesOf(schema)?.includes('array')) return [schema]
      const items = Array.isArray(schema.prefixItems) ? [...schema.prefixItems, ...(schema.items === false ? [] : [schema.items])] : [schema.items]
      const inside = entries(
        items.flatMap((item) => resolved(item, walk)),
        walk,
        depth + 1,
      )
      const others = typesOf(schema)!.filter((type) => type !== 'array')
      return others.length > 0 ? [{ ...schema, type: others }, ...inside] : inside
    })
    .slice(0, MOST_SCHEMAS)
}

function below(schema: Schema, step: string, walk: Walk): Place {
  const types = typesOf(schema)
  if (types && !types.includes('object')) return { is: 'absent', known: [], others: false }
  const properties = isObject(schema.properties) ? schema.properties : {}
  if (Object.hasOwn(properties, step))
    return properties[step] === false ? { is: 'absent', known: [], others: false } : { is: 'there', schemas: [asSchema(properties[step])] }
  if (isObject(schema.patternProperties) || ['if', 'dependentSchemas', '$dynamicRef', 'not'].some((key) => key in schema)) return UNKNOWN
  const more = schema.additionalProperties ?? schema.unevaluatedProperties
  // A map: any name is as good as another.
  if (isObject(more) && Object.keys(more).length > 0) return { is: 'there', schemas: resolved(more, walk) }
  const known = Object.keys(properties)
  if (known.length === 0 && more !== false) return UNKNOWN
  return { is: 'absent', known, others: more !== false }
}

const asSchema = (value: unknown): Schema => (isObject(value) ? value : {})

/** The types that a value may have; undefined when the schema does not say. */
export function typesOf(schema: Schema): readonly string[] | undefined {
  const written =
    typeof schema.type === 'string' ? [schema.type] : Array.isArray(schema.type) ? schema.type.filter((type) => typeof type === 'string') : undefined
  if (written) return written
  const values = valuesOf(schema)
  if (values) return [...new Set(values.map((value) => (value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value)))]
  return isObject(schema.properties) ? ['object'] : undefined
}

/** The values that a schema names, when it names them all. */
export function valuesOf(schema: Schema): readonly unknown[] | undefined {
  if ('const' in schema) return [schema.const]
  return Array.isArray(schema.enum) ? schema.enum : undefined
}
