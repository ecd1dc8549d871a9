import type { Database, Write } from '../store/store.ts'
import type { DocumentTable, IdentityTable } from '../store/tables.ts'
import type { StoredDocument } from './types.ts'

/** What a set of documents is checked and compared against, as of one moment. */
export interface Snapshot {
  readonly documents: readonly StoredDocument[]
  /** All of them, deleted ones too: their names are never used again. */
  readonly identities: readonly IdentityTable[]
  /** names of sealed secrets */
  readonly secrets: ReadonlySet<string>
  /** by id of the MCP server: its tools and prompts as they are approved, else as they were first seen */
  readonly definitions: ReadonlyMap<string, readonly StoredDefinition[]>
  /** ids of MCP servers of which somebody has approved a definition, or of which one waits for somebody */
  readonly confirmed: ReadonlySet<string>
  /** ids of people who have signed in and have a second factor: who has none yet says yes to nothing */
  readonly arrived: ReadonlySet<string>
}

export interface StoredDefinition {
  readonly kind: 'tool' | 'prompt'
  readonly name: string
  /** canonical JSON; '' when it is too long to be kept */
  readonly text: string
}

export async function loadSnapshot(db: Database | Write): Promise<Snapshot> {
  // One after the other: inside a transaction there is one connection.
  const documents = await db.selectFrom('documents').selectAll().orderBy('kind').orderBy('name').execute()
  const identities = await db.selectFrom('identities').selectAll().execute()
  const secrets = await db.selectFrom('secrets').select('name').execute()
  const pins = await db
    .selectFrom('pins')
    .select(['resource_id', 'kind', 'name', 'approved', 'pending'])
    .where('kind', 'in', ['tool', 'prompt'])
    .execute()
  const definitions = Map.groupBy(
    pins.map(({ resource_id, kind, name, approved, pending }) => ({
      server: resource_id,
      kind: kind as 'tool' | 'prompt',
      name,
      text: approved ?? pending ?? '',
    })),
    ({ server }) => server,
  )
  const approvedOf = await db
    .selectFrom('pins')
    .select('resource_id')
    .distinct()
    .where((is) => is.or([is('approved_by', 'is not', null), is('pending_sha256', 'is not', null)]))
    .execute()
  const codes = await db.selectFrom('factors').select('identity_id').where('last_step', '>=', 0).execute()
  const keys = await db.selectFrom('passkeys').select('identity_id').where('revoked_at', 'is', null).execute()
  const accounts = await db.selectFrom('accounts').select('identity_id').where('last_login_at', 'is not', null).execute()
  return {
    documents: documents.map(fromRow),
    identities,
    secrets: new Set(secrets.map((row) => row.name)),
    definitions,
    confirmed: new Set(approvedOf.map((row) => row.resource_id)),
    arrived: new Set([...codes, ...keys, ...accounts].map((row) => row.identity_id)),
  }
}

export function fromRow(row: DocumentTable): StoredDocument {
  return {
    id: row.id,
    kind: row.kind,
    name: row.name,
    labels: JSON.parse(row.labels),
    spec: JSON.parse(row.spec),
    digest: row.digest,
    owner: row.owner,
    updatedAt: row.updated_at,
  }
}
