import type { Database } from '../store/store.ts'
import type { RecordDetail } from './query.ts'
import type { Envelope } from './record.ts'

/** As many records as are asked for at once: a body can have 64 KiB and more. */
const PAGE = 100

/** What lies beside these records, by the record's id. */
export async function readBodies(
  db: Database,
  records: readonly Pick<Envelope, 'id' | 'node' | 'seq'>[],
): Promise<ReadonlyMap<string, RecordDetail['bodies']>> {
  const found = new Map<string, RecordDetail['bodies'][number][]>(records.map(({ id }) => [id, []]))
  for (const [node, of] of Map.groupBy(records, (record) => record.node)) {
    const ids = new Map(of.map(({ seq, id }) => [seq, id]))
    for (let at = 0; at < of.length; at += PAGE) {
      const seqs = of.slice(at, at + PAGE).map(({ seq }) => seq)
      const rows = await db
        .selectFrom('audit_bodies')
        .select(['node_seq', 'name', 'body as bytes', 'erased_at as erasedAt'])
        .where('node_id', '=', node)
        .where('node_seq', 'in', seqs)
        .execute()
      for (const { node_seq, ...body } of rows) found.get(ids.get(node_seq) ?? '')?.push(body)
    }
  }
  return found
}
