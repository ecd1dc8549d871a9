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
}

export async function loadSnapshot(db: Database | Write): Promise<Snapshot> {
  // One after the other: inside a transaction there is one connection.
  const documents = await db.selectFrom('documents').selectAll().orderBy('kind').orderBy('name').execute()
  const identities = await db.selectFrom('identities').selectAll().execute()
  const secrets = await db.selectFrom('secrets').select('name').execute()
  return { documents: documents.map(fromRow), identities, secrets: new Set(secrets.map((row) => row.name)) }
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
