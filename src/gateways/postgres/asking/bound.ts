import { canonicalJson } from '../../../encoding/canonical-json.ts'
import type { Described, Place, SqlContext } from '../describe.ts'
import { quotedName } from '../sql/relations.ts'
import type { Resolved } from './definitions.ts'
import type { SessionState } from './state.ts'

/** The parameters of a Bind, as the client gave them. */
export interface Given {
  readonly values: readonly (Buffer | null)[]
  /** 0 text, 1 binary; one for each value */
  readonly formats: readonly number[]
  /** oids that the client declared in its Parse; 0 or absent: the server chooses */
  readonly declared: readonly number[]
}

export const NO_PARAMETERS: Given = { values: [], formats: [], declared: [] }

/** A statement with all that makes it this one and no other. */
export interface Exactly {
  readonly place: Place
  readonly described: Described
  readonly context: SqlContext
  readonly given: Given
  readonly state: SessionState
  readonly resolved: Resolved
  /** sha256 hex, by definitions.ts */
  readonly definitions: string
  /** sha256 hex of what ran on this connection without being seen */
  readonly unseen: string | undefined
}

/**
 * One canonical text of it all (rule 12). The same words under another search path, with another parameter, as somebody else,
 * or of a table that was replaced, are another statement.
 */
export function boundStatement({ place, described, context, given, state, resolved, definitions, unseen }: Exactly): string {
  const { text, kinds, effects, read, written, behind, covered, columns, functions, settings, stands } = described
  return canonicalJson({
    v: 1,
    text,
    stands: stands?.map((one) => ({ text: one.text, path: one.path ?? null })) ?? null,
    parameters: given.values.map((value, i) => ({
      value: value === null ? null : value.toString('base64'),
      format: given.formats[i] ?? 0,
      type: given.declared[i] ?? 0,
    })),
    database: place.database,
    user: place.user,
    current_user: state.currentUser,
    session_user: state.sessionUser,
    path: context.path ?? null,
    settings: state.settings,
    unseen: unseen ?? null,
    kinds,
    effects,
    tables: { read, written, behind, ...(covered ? { covered } : {}) },
    columns,
    functions,
    moves: settings,
    relations: resolved.relations.map((relation) => ({ oid: relation.oid, name: quotedName(relation), kind: relation.kind })),
    definitions,
  })
}
