import { type Given, givenIn } from '../identity/given.ts'
import { keyOf } from './diff.ts'
import type { Snapshot } from './stored.ts'
import type { PlainDocument } from './types.ts'

/** In the place of the id of an identity that the apply makes. */
export const NEW_ID = 'new'

/** An identity as it would be after the apply. */
export interface FutureIdentity {
  readonly id: string
  readonly kind: 'user' | 'agent' | 'node'
  readonly name: string
  readonly state: 'active' | 'disabled' | 'deleted'
  /** name of the owner */
  readonly owner?: string
  readonly roles: readonly string[] | 'inherit'
  readonly traits: Readonly<Record<string, unknown>>
  /** what of them comes from directories; absent: nothing */
  readonly given?: Given
}

/** Everything as it would be after the apply (or as it is before one). */
export interface World {
  /** by `kind/name` */
  readonly documents: ReadonlyMap<string, PlainDocument>
  /** by name; deleted ones too */
  readonly identities: ReadonlyMap<string, FutureIdentity>
  /** names of secrets: sealed ones, and those that a document says are elsewhere */
  readonly secrets: ReadonlySet<string>
  /** those of them that are sealed */
  readonly sealed: ReadonlySet<string>
  /** ids of MCP servers of which somebody has approved a definition, or of which one waits for somebody */
  readonly confirmed: ReadonlySet<string>
  /** ids of people who can give a second factor */
  readonly arrived: ReadonlySet<string>
  ofKind(kind: string): readonly PlainDocument[]
}

export function makeWorld(parts: Omit<World, 'ofKind' | 'secrets'>): World {
  const kinds = Map.groupBy(parts.documents.values(), (document) => document.kind)
  const elsewhere = (kinds.get('secret') ?? []).map(({ name }) => name)
  return { ...parts, secrets: new Set([...parts.sealed, ...elsewhere]), ofKind: (kind) => kinds.get(kind) ?? [] }
}

export function worldOf({ documents, identities, secrets, confirmed, arrived }: Snapshot): World {
  const names = new Map(identities.map((row) => [row.id, row.name]))
  return makeWorld({
    documents: new Map(documents.map((document) => [keyOf(document), document])),
    identities: new Map(
      identities.map((row) => [
        row.name,
        {
          id: row.id,
          kind: row.kind,
          name: row.name,
          state: row.state,
          ...(row.owner_id === null ? {} : { owner: names.get(row.owner_id) ?? row.owner_id }),
          roles: JSON.parse(row.roles) as readonly string[] | 'inherit',
          traits: JSON.parse(row.traits) as Record<string, unknown>,
          ...(row.given === null ? {} : { given: givenIn(row.given)! }),
        },
      ]),
    ),
    sealed: secrets,
    confirmed,
    arrived,
  })
}
