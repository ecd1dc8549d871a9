import { ChaperoneError } from '../errors.ts'
import type { Variables } from './types.ts'

/** What `{{...}}` stands for now: no value, one, or (a trait that is a list) several. */
export type Source = (variables: Variables) => readonly string[]

/** Fixed text, or a template in it. */
export type Piece = string | Source

const NAMES: Readonly<Record<string, Source>> = {
  'identity.id': ({ identity }) => [identity.id],
  'identity.name': ({ identity }) => [identity.name],
  'identity.kind': ({ identity }) => [identity.kind],
  // Not session.purpose: the agent writes that itself, so a rule that believes it is no rule.
  'session.id': ({ session }) => [session.id],
}

const TRAIT = /^identity\.traits\.([A-Za-z0-9_-]{1,64})$/

export function hasTemplate(text: string): boolean {
  return text.includes('{{') || text.includes('}}')
}

/** True for templates whose value differs from session to session. */
export function readsSession(text: string): boolean {
  return /\{\{\s*session\./.test(text)
}

/** The pieces of a text. Throws ChaperoneError('invalid_document') for a template that does not exist. */
export function parseTemplate(text: string): Piece[] {
  const pieces: Piece[] = []
  text.split(/\{\{(.*?)\}\}/s).forEach((piece, i) => {
    if (i % 2 === 1) pieces.push(source(piece.trim(), text))
    else if (hasTemplate(piece)) throw unknownTemplate(text, 'its braces do not pair')
    else if (piece !== '') pieces.push(piece)
  })
  return pieces
}

function source(name: string, text: string): Source {
  const trait = TRAIT.exec(name)?.[1]
  if (trait !== undefined) return ({ identity }) => traitValues(identity.traits, trait)
  if (Object.hasOwn(NAMES, name)) return NAMES[name]!
  throw unknownTemplate(text, `{{${name}}} is unknown`)
}

const unknownTemplate = (text: string, why: string) =>
  new ChaperoneError('invalid_document', `${JSON.stringify(text.slice(0, 80))}: ${why}.`, {
    fix: `Templates are ${Object.keys(NAMES)
      .map((name) => `{{${name}}}`)
      .join(', ')} and {{identity.traits.NAME}}.`,
  })

/** A missing or empty trait has no value: as empty text it would turn `{{identity.traits.team}}*` into everything. */
function traitValues(traits: Readonly<Record<string, unknown>>, name: string): readonly string[] {
  const value = Object.hasOwn(traits, name) ? traits[name] : undefined
  return (Array.isArray(value) ? value : [value]).flatMap((item) =>
    (typeof item === 'string' && item !== '') || typeof item === 'boolean' || Number.isSafeInteger(item) ? [String(item)] : [],
  )
}

/** Lists in several traits multiply; more than this many texts for one value is a fault of the documents. */
const MOST_READINGS = 256

/** Every way to fill the templates, as pieces of plain text. None when a value is missing. */
export function fill(pieces: readonly Piece[], variables: Variables): readonly (readonly string[])[] {
  let readings: string[][] = [[]]
  for (const piece of pieces) {
    const values = typeof piece === 'string' ? [piece] : piece(variables)
    readings = readings.flatMap((reading) => values.map((value) => [...reading, value]))
    if (readings.length > MOST_READINGS) throw new ChaperoneError('policy_error', `A value has more than ${MOST_READINGS} readings.`)
  }
  return readings
}
