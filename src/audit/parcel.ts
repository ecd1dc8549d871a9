import type { Columns } from './envelope.ts'
import type { Incoming } from './prepare.ts'
import type { Body, Claim } from './record.ts'

/**
 * Records on the way to the writer's thread, field after field: the copy of a few long lists costs half of that of a
 * list of objects (8.5 and 4.3 us for two, both sides together).
 */
export interface Parcel {
  /** when each was made, ms since 1970 */
  readonly at: number[]
  /** WIDTH fields a record */
  readonly fields: (string | null)[]
  /** for each body the place of its record, then name and bytes */
  readonly bodies: (number | string | Uint8Array)[]
  /** what some of them use up, by the place of the record */
  readonly claims: Map<number, Claim>
}

/** Columns, then the text: in four parts, or whole in the first and null in the others. */
const COLUMNS = ['id', 'type', 'identity_id', 'session_id', 'resource_id', 'verdict', 'permit'] as const satisfies readonly (keyof Columns)[]
const WIDTH = COLUMNS.length + 4

export const emptyParcel = (): Parcel => ({ at: [], fields: [], bodies: [], claims: new Map() })

export function pack(parcel: Parcel, { text, columns, bodies, claim }: Incoming): void {
  const place = parcel.at.push(columns.at) - 1
  for (const name of COLUMNS) parcel.fields.push(columns[name])
  if (typeof text === 'string') parcel.fields.push(text, null, null, null)
  else parcel.fields.push(...text)
  for (const { name, bytes } of bodies) parcel.bodies.push(place, name, bytes)
  if (claim) parcel.claims.set(place, claim)
}

/** UTF-16 units and bytes, about: what waits is bounded by it. */
export function sizeOf(text: Incoming['text'], bodies: readonly Body[]): number {
  let size = typeof text === 'string' ? text.length : text[0].length + text[1].length + text[2].length + text[3].length
  for (const { bytes } of bodies) size += bytes.length
  return size
}

export function unpack({ at, fields, bodies, claims }: Parcel): Incoming[] {
  let body = 0
  return at.map((time, place) => {
    const own: Body[] = []
    for (; bodies[body] === place; body += 3) own.push({ name: bodies[body + 1] as string, bytes: bodies[body + 2] as Body['bytes'] })
    const from = place * WIDTH
    const field = (i: number) => fields[from + i] as string
    const maybe = (i: number) => fields[from + i] as string | null
    return {
      text: maybe(8) === null ? field(7) : [field(7), field(8), field(9), field(10)],
      columns: {
        at: time,
        id: field(0),
        type: field(1),
        identity_id: maybe(2),
        session_id: maybe(3),
        resource_id: maybe(4),
        verdict: maybe(5),
        permit: maybe(6),
      },
      bodies: own,
      ...(claims.size > 0 && claims.has(place) ? { claim: claims.get(place) } : {}),
    }
  })
}
