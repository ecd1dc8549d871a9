import { heldBy } from '../documents/meaning.ts'
import { loadSnapshot } from '../documents/stored.ts'
import { worldOf } from '../documents/world.ts'
import type { Exactly } from './asking.ts'
import type { ApiParts } from './parts.ts'

/** A change by which somebody comes in or acts again: who says yes to it reads what that one holds, and says it to that and no more. */
export async function exactlyFor({ store, documents }: Pick<ApiParts, 'store' | 'documents'>, name: string, wish: object): Promise<Exactly> {
  const holds = heldBy(documents, name, worldOf(await loadSnapshot(store.db)))
  return { bound: { wish, holds }, shown: [{ title: 'With', text: JSON.stringify(wish, null, 2) }, ...holds], wish }
}
