import type { SqlContext } from '../describe.ts'
import { CEILINGS, type Ceilings, milliseconds } from '../sql/settings.ts'

/**
 * What the parser must know of the connection: where names are looked for, and which limits the database set for this
 * user. Names are written in full, because the path is what is asked for.
 */
export const PROBE = `SELECT pg_catalog.array_to_json(pg_catalog.current_schemas(true))::pg_catalog.text, ${CEILINGS.map((name) => `pg_catalog.current_setting('${name}', true)`).join(', ')}`

/** The one row of it, as texts. */
export function readProbe([path, ...limits]: readonly (string | null)[]): Pick<SqlContext, 'path' | 'ceilings'> {
  const ceilings: Partial<Record<(typeof CEILINGS)[number], number>> = {}
  CEILINGS.forEach((name, i) => {
    const limit = milliseconds(limits[i] ?? '')
    if (limit !== undefined && limit > 0) ceilings[name] = limit
  })
  return { path: JSON.parse(path ?? '[]') as string[], ceilings: ceilings satisfies Ceilings }
}
