import type { Database } from '../store/store.ts'
import { decodeEnvelope } from './envelope.ts'
import type { RecordRow } from './query.ts'
import type { Envelope } from './record.ts'

/** One transaction of a database connection, as far as it stands near the record that was asked for. */
export interface Transaction {
  /** `<connection>.<number>` */
  readonly id: string
  readonly ended?: 'committed' | 'rolled back'
  /** oldest first */
  readonly statements: readonly { readonly id: string; readonly at: number; readonly action: string; readonly outcome: string }[]
}

/** Records of the session that are looked at before and after the one that was asked for. */
const NEAR = 2000

/**
 * What ran in one transaction with this statement, and how that ended. A transaction is not written down as such: while it
 * is open nobody knows its end, and what was said of a statement is never rewritten. Undefined for what ran in none.
 */
export async function readTransaction(db: Database, { envelope, outcome }: RecordRow): Promise<Transaction | undefined> {
  const { connection, session, at } = envelope
  const number = outcome?.transaction
  if (typeof number !== 'number' || connection === undefined || session === undefined) return undefined
  const near = async (side: '<' | '>=') =>
    await db
      .selectFrom('audit_leaves')
      .select(['leaf', 'at', 'node_seq'])
      .where('session_id', '=', session)
      .where('at', side, at)
      .orderBy('at', side === '<' ? 'desc' : 'asc')
      .orderBy('node_seq', side === '<' ? 'desc' : 'asc')
      .limit(NEAR)
      .execute()
  const leaves = [...(await near('<')), ...(await near('>='))].sort((a, b) => a.at - b.at || a.node_seq - b.node_seq)
  const intents = new Map<string, Envelope>()
  const statements = []
  let ended: Transaction['ended']
  for (const { leaf } of leaves) {
    const one = readable(leaf)
    if (one?.type === 'action.intent' && one.connection === connection) intents.set(one.id, one)
    // What is open when the connection ends, the server rolls back.
    if (one?.type === 'connection.closed' && one.connection === connection && one.data?.rolledBack === number) ended = 'rolled back'
    const intent = one?.type === 'action.outcome' && one.permit !== undefined ? intents.get(one.permit) : undefined
    if (!intent || one?.outcome?.transaction !== number) continue
    const { status } = one.outcome
    statements.push({ id: intent.id, at: intent.at, action: intent.action?.summary ?? '', outcome: status })
    if (one.outcome.ended === 'committed' || one.outcome.ended === 'rolled back') ended = one.outcome.ended
  }
  return { id: `${connection}.${number}`, statements, ...(ended ? { ended } : {}) }
}

function readable(leaf: Uint8Array): Envelope | undefined {
  try {
    return decodeEnvelope(leaf)
  } catch {
    // A record that somebody broke: `verify` says so, and the others still tell what they know.
    return undefined
  }
}
