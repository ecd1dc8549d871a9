import { compileGlob, isGlob } from '../../../encoding/glob.ts'
import { didYouMean } from '../../../policy/problem.ts'
import { hasTemplate } from '../../../policy/template.ts'
import type { Misfit, Offer, RuleConditions } from '../../../policy/types.ts'
import { valueMatcher } from '../../../policy/value.ts'
import { isObject } from '../wire.ts'
import { type Place, placeOf, type Schema, typesOf, valuesOf } from './schema-walk.ts'

/** One tool or prompt that the rule speaks of. */
interface Thing {
  readonly title: string
  readonly schema: unknown
}

/** `perhaps`: the schema does not name it and allows what it does not name. */
type Fit = 'fits' | { readonly perhaps: string; readonly fix?: string } | { readonly fails: string; readonly fix?: string }

/**
 * What of a rule's `args` and `where` can never hold for the tools and prompts that it speaks of, by their approved input
 * schemas. An error is what fails for every one of them; what cannot be said yet is a warning; what one of them fulfils is silent.
 */
export function misfits({ section, fields, reads }: RuleConditions, offers: readonly Offer[]): readonly Misfit[] {
  const speaksOf = aboutOf(fields)
  if (!speaksOf || offers.length === 0) return []
  const args = isObject(fields.args) ? Object.entries(fields.args) : []
  const things = offers.flatMap(({ resource, things }) =>
    things.flatMap((thing): Thing[] => (speaksOf(thing) ? [{ title: `\`${thing.name}\` of ${resource.name}`, schema: schemaOf(thing) }] : [])),
  )
  const known = offers.every((offer) => offer.things.length > 0)
  // To refuse what is not there yet is no mistake.
  const slips = known && section !== 'deny' ? unknownNames(fields, offers) : []
  if (things.length === 0) return known || args.length + reads.length === 0 ? slips : [notYet(offers)]

  const conditions = [
    ...args.map(([name, test]) => ({ path: ['args', name], fits: things.map(({ title, schema }) => fitOf(title, schema, name, test)) })),
    ...reads.map((steps) => ({ path: ['where'], fits: things.map(({ title, schema }) => readable(title, schema, steps)) })),
  ]
  const found = conditions.flatMap(({ path, fits }): Misfit[] => {
    if (fits.includes('fits')) return []
    const fail = fits.find((fit) => fit !== 'fits' && 'fails' in fit) as { fails: string; fix?: string } | undefined
    const perhaps = fits.find((fit) => fit !== 'fits' && 'perhaps' in fit) as { perhaps: string; fix?: string } | undefined
    const { fix } = perhaps ?? fail!
    const more = fits.length > 1 ? ` So it is with all ${fits.length} that this rule speaks of.` : ''
    const message = `${perhaps?.perhaps ?? fail!.fails}${more}`
    return [{ path, level: perhaps || !known ? 'warning' : 'error', message, ...(fix === undefined ? {} : { fix }) }]
  })
  if (found.length > 0) return [...slips, ...found]
  // No condition is lost for all of them, but for each of them one is.
  const lost = things.every((_, i) => conditions.some(({ fits }) => typeof fits[i] === 'object' && 'fails' in fits[i]))
  if (!lost) return slips
  const message = `None of the ${things.length} that this rule speaks of can fulfil all of its conditions.`
  return [{ path: [args.length > 0 ? 'args' : 'where'], level: known ? 'error' : 'warning', message, fix: 'Write a rule for each.' }]
}

/** Whether the rule speaks of a tool or prompt; undefined when that depends on who asks. */
function aboutOf(fields: RuleConditions['fields']): ((thing: Offer['things'][number]) => boolean) | undefined {
  const { tools, prompts, resources, operations } = fields as Record<string, string | string[] | undefined>
  if ([tools, prompts, operations].some((value) => value !== undefined && hasTemplate(JSON.stringify(value)))) return undefined
  const none = { identity: undefined, session: undefined, now: 0 } as never
  const matcher = (value: string | string[] | undefined) => (value === undefined ? undefined : valueMatcher(value))
  const [tool, prompt, operation] = [matcher(tools), matcher(prompts), matcher(operations)]
  const all = tools === undefined && prompts === undefined && resources === undefined
  return ({ kind, name }) => {
    if (operation && !operation(kind === 'tool' ? 'tools/call' : 'prompts/get', none)) return false
    return all || ((kind === 'tool' ? tool : prompt)?.(name, none) ?? false)
  }
}

/** Arguments of a prompt are texts; its definition names them, and nothing forbids others. */
function schemaOf({ kind, definition }: Offer['things'][number]): unknown {
  if (!isObject(definition)) return undefined
  if (kind === 'tool') return definition.inputSchema
  const names = Array.isArray(definition.arguments) ? definition.arguments.filter(isObject).map(({ name }) => String(name)) : []
  return { type: 'object', properties: Object.fromEntries(names.map((name) => [name, { type: 'string' }])) }
}

const notYet = (offers: readonly Offer[]): Misfit => {
  const names = offers.filter(({ things }) => things.length === 0).map(({ resource }) => resource.name)
  const shown = names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ')
  return {
    path: [],
    level: 'warning',
    message: `No tool is known yet that the conditions of this rule can be checked against: nothing was seen of ${shown}.`,
    fix: 'They are checked when it is.',
  }
}

/** A tool by its plain name that none of the servers has: most often a slip of the pen. */
function unknownNames({ tools }: RuleConditions['fields'], offers: readonly Offer[]): readonly Misfit[] {
  const names = offers.flatMap(({ things }) => things.filter(({ kind }) => kind === 'tool').map(({ name }) => name))
  const list = typeof tools === 'string' ? [tools] : Array.isArray(tools) ? (tools as string[]) : []
  return list.flatMap((name, i): Misfit[] => {
    if (name === 'any' || isGlob(name) || names.includes(name)) return []
    const path = typeof tools === 'string' ? ['tools'] : ['tools', i]
    return [{ path, level: 'warning', message: `No server that this rule selects has a tool \`${name}\`.`, ...near(name, names) }]
  })
}

/** A list of everything helps while it is short. */
function near(name: string, known: readonly string[]): { fix?: string } {
  const { fix } = didYouMean(name.slice(0, 80), known)
  return fix !== undefined && (fix.startsWith('Did') || known.length <= 12) ? { fix } : {}
}

/** The place by its whole name, in which dots may be part, or by its steps. */
function lookUp(schema: unknown, name: string): Place {
  const whole = placeOf(schema, [name])
  return whole.is === 'there' || !name.includes('.') ? whole : placeOf(schema, name.split('.'))
}

function missing(title: string, name: string, place: Extract<Place, { is: 'absent' }>): Fit {
  const fix = near(name.split('.').at(-1)!, place.known)
  if (place.others) return { perhaps: `The schema of ${title} does not name the argument \`${name}\`; whether it takes it is not known.`, ...fix }
  return { fails: `${title} has no argument \`${name}\`.`, ...fix }
}

function readable(title: string, schema: unknown, steps: readonly string[]): Fit {
  const place = placeOf(schema, steps)
  return place.is === 'absent' ? missing(title, steps.join('.'), place) : 'fits'
}

function fitOf(title: string, schema: unknown, name: string, test: unknown): Fit {
  const place = lookUp(schema, name)
  if (place.is === 'unknown') return 'fits'
  if (place.is === 'absent') return missing(title, name, place)
  const reasons = place.schemas.map((one) => whyNever(one, test))
  const why = reasons[0]
  return reasons.includes(undefined) || why === undefined ? 'fits' : { fails: `\`${name}\` of ${title} ${why}.` }
}

/** Why no value of this schema can pass the test of a rule; undefined when one can, or nobody knows. */
function whyNever(schema: Schema, test: unknown): string | undefined {
  if (test === 'any') return undefined
  if (Array.isArray(test)) {
    const reasons = test.map((one) => whyNever(schema, one))
    return reasons.includes(undefined) ? undefined : reasons[0]
  }
  if (typeof test === 'string') return whyNoText(schema, test)
  if (typeof test === 'boolean') return ofType(schema, ['boolean'], 'true or false') ?? ofValues(schema, (value) => value === test, String(test))
  if (typeof test === 'number') {
    return (
      ofType(schema, Number.isInteger(test) ? ['number', 'integer'] : ['number'], 'a number') ??
      ofValues(schema, (value) => value === test, String(test)) ??
      outside(schema, test, test)
    )
  }
  if (!isObject(test)) return undefined
  if ('under' in test) return ofType(schema, ['string'], 'a path')
  const { min, max } = test as { min?: number; max?: number }
  const [from, to] = [min ?? Number.NEGATIVE_INFINITY, max ?? Number.POSITIVE_INFINITY]
  return (
    ofType(schema, ['number', 'integer'], 'a number') ??
    ofValues(schema, (value) => typeof value === 'number' && value >= from && value <= to, 'a value in this range') ??
    outside(schema, from, to)
  )
}

function whyNoText(schema: Schema, text: string): string | undefined {
  const wrong = ofType(schema, ['string'], 'a text')
  if (wrong !== undefined || hasTemplate(text)) return wrong
  const matches = isGlob(text) ? compileGlob(text) : (value: string) => value === text
  const never = ofValues(schema, (value) => typeof value === 'string' && matches(value), `\`${text}\``)
  if (never !== undefined || isGlob(text)) return never
  const longest = schema.maxLength
  return typeof longest === 'number' && [...text].length > longest ? `has at most ${longest} characters` : undefined
}

function ofType(schema: Schema, wanted: readonly string[], what: string): string | undefined {
  const types = typesOf(schema)
  return types === undefined || types.some((type) => wanted.includes(type)) ? undefined : `is never ${what}: its type is ${types.join(' or ')}`
}

function ofValues(schema: Schema, passes: (value: unknown) => boolean, what: string): string | undefined {
  const values = valuesOf(schema)
  if (values === undefined || values.some(passes)) return undefined
  const shown = values.slice(0, 8).map((value) => JSON.stringify(value) ?? 'null')
  return `is never ${what}; it is one of ${shown.join(', ')}${values.length > 8 ? ', …' : ''}`
}

function outside(schema: Schema, from: number, to: number): string | undefined {
  const number = (value: unknown) => (typeof value === 'number' ? value : undefined)
  const least = number(schema.minimum) ?? number(schema.exclusiveMinimum)
  const most = number(schema.maximum) ?? number(schema.exclusiveMaximum)
  if (least !== undefined && (to < least || to === schema.exclusiveMinimum)) return `is never under ${least}`
  if (most !== undefined && (from > most || from === schema.exclusiveMaximum)) return `is never over ${most}`
  return undefined
}
