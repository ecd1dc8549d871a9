import type { Database } from '../store/store.ts'
import { keyOf, planChanges } from './diff.ts'
import { InvalidDocuments, placed, worldAfter } from './plan.ts'
import { crossCheck } from './resolve.ts'
import { loadSnapshot } from './stored.ts'
import type { ParsedDocument } from './types.ts'
import { type World, worldOf } from './world.ts'

/** What there is, and what there would be with these documents. */
export interface Foreseen {
  readonly before: World
  readonly after: World
  /** keys of the documents that would be made or changed */
  readonly changed: readonly string[]
}

/**
 * The world with these documents in it, for questions about it: nothing is applied, so whoever asks needs to hold nothing that
 * they would give. Throws {@link InvalidDocuments} for documents that do not fit together.
 */
export async function foresee(db: Database, documents: readonly ParsedDocument[]): Promise<Foreseen> {
  const snapshot = await loadSnapshot(db)
  const steps = planChanges(snapshot.documents, documents, new Set())
  const before = worldOf(snapshot)
  const after = worldAfter(before, steps)
  const places = new Map(documents.map((document) => [keyOf(document), document]))
  const faults = crossCheck(after).filter(({ of, level }) => level === 'error' && places.has(of))
  if (faults.length > 0) throw new InvalidDocuments(faults.map((fault) => placed(fault, places)))
  return { before, after, changed: steps.filter(({ op }) => op !== 'unchanged').map(keyOf) }
}
