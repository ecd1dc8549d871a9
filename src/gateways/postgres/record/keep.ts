import { createHmac } from 'node:crypto'
import type { Body } from '../../../audit/record.ts'
import type { PostgresDatabaseSpec } from '../../../catalog/postgres-database.ts'
import type { Described } from '../describe.ts'
import { withoutConstants } from '../sql/constants.ts'

export type Kept = PostgresDatabaseSpec['record']['parameters']

export interface Keeping {
  readonly parameters: Kept
  /** Of `hashed`: makes the hashes of one installation useless to whoever guesses values without it. */
  readonly key: Uint8Array
}

/** Undefined: everything is kept. */
export const keepingOf = ({ record }: Pick<PostgresDatabaseSpec, 'record'>, key: Uint8Array): Keeping | undefined =>
  record.parameters === 'full' ? undefined : { parameters: record.parameters, key }

/** Hashes of one statement; the rest is only counted. */
const MOST_HASHES = 1000

/**
 * What is kept of a statement beside its leaf: the text, and the values of a Bind. With `hashed` and `none` the text has
 * `?` for its constants and no comments, because a value is no less secret for standing in the text; one that could not
 * be parsed is not kept at all, because nobody can say what in it is a value.
 */
export function statementBodies(
  keeping: Keeping | undefined,
  text: string,
  parameters: string,
  described: Pick<Described, 'unread'>,
): readonly Body[] {
  if (keeping === undefined || keeping.parameters === 'full') {
    const statement = { name: 'statement', bytes: text }
    return parameters === '' ? [statement] : [statement, { name: 'parameters', bytes: parameters }]
  }
  if (described.unread !== undefined)
    return [{ name: 'statement', bytes: `(a text of ${Buffer.byteLength(text)} bytes that cannot be parsed; values are not recorded here)` }]
  const { text: bare, constants } = withoutConstants(text)
  const bodies = [{ name: 'statement', bytes: bare }]
  if (keeping.parameters === 'none') return bodies
  const hashes = (values: readonly unknown[]) => {
    const first: unknown[] = values.slice(0, MOST_HASHES).map((value) => (value === null ? null : hashOf(keeping.key, value)))
    return JSON.stringify(values.length > MOST_HASHES ? [...first, { more: values.length - MOST_HASHES }] : first)
  }
  if (constants.length > 0) bodies.push({ name: 'constants', bytes: hashes(constants) })
  if (parameters !== '') bodies.push({ name: 'parameters', bytes: hashes(JSON.parse(parameters) as unknown[]) })
  return bodies
}

const hashOf = (key: Uint8Array, value: unknown) =>
  `hmac:${createHmac('sha256', key)
    .update(typeof value === 'string' ? value : JSON.stringify(value))
    .digest('hex')
    .slice(0, 32)}`
