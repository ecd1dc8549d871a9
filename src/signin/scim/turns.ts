import type { Write } from '../../store/store.ts'

/** Of two that write for one directory at the same moment the second waits: its own document's row is what it waits at. */
export const inTurn = (trx: Write, directory: string): Promise<unknown> =>
  trx
    .updateTable('documents')
    .set((row) => ({ updated_at: row.ref('updated_at') }))
    .where('kind', '=', 'directory')
    .where('name', '=', directory)
    .execute()
