import { ChaperoneError } from '../errors.ts'
import type { Database } from '../store/store.ts'
import { toYaml } from './export.ts'
import { fromRow } from './stored.ts'
import type { DocumentKinds, PlainDocument } from './types.ts'

/** A document as it is shown. */
export interface ShownDocument extends PlainDocument {
  readonly owner?: string
  readonly updatedAt: number
  readonly yaml: string
}

/** The applied documents, by kind and name. */
export async function listDocuments(db: Database, kinds: DocumentKinds, kind?: string): Promise<readonly ShownDocument[]> {
  let query = db.selectFrom('documents').selectAll()
  if (kind !== undefined) query = query.where('kind', '=', kind)
  const rows = await query.orderBy('kind').orderBy('name').execute()
  return rows.map((row) => show(fromRow(row), kinds))
}

/** Throws `not_found`. */
export async function getDocument(db: Database, kinds: DocumentKinds, kind: string, name: string): Promise<ShownDocument> {
  const row = await db.selectFrom('documents').selectAll().where('kind', '=', kind).where('name', '=', name).executeTakeFirst()
  if (!row) throw new ChaperoneError('not_found', `There is no document ${kind}/${name}.`)
  return show(fromRow(row), kinds)
}

function show({ kind, name, labels, spec, owner, updatedAt }: ReturnType<typeof fromRow>, kinds: DocumentKinds): ShownDocument {
  return { kind, name, labels, spec, ...(owner === null ? {} : { owner }), updatedAt, yaml: toYaml({ kind, name, labels, spec }, kinds) }
}
