import type { z } from 'zod'
import type { Database } from '../../store/store.ts'
import { blockOf, type JoinSpec } from './document.ts'
import { revokedSince, type Vouched } from './revocation-list.ts'
import type { RevocationLists } from './revocation-lists.ts'
import type { x509Spec } from './x509.ts'

interface Asked {
  readonly db: Database
  readonly now: number
  readonly document: (name: string) => JoinSpec | undefined
  readonly lists: RevocationLists
  /** Told when the lists of one document cannot be had; the others are asked all the same. */
  readonly failed: (error: unknown) => void
}

/** Of the sessions that are open and rest on certificates, those of which one was revoked since they began. */
export async function sessionsRevoked({ db, now, document, lists, failed }: Asked): Promise<readonly string[]> {
  const rows = await db
    .selectFrom('sessions')
    .select(['id', 'joined'])
    .where('how', '=', 'join')
    .where('ended_at', 'is', null)
    .where('expires_at', '>', now)
    .where('joined', 'like', '%"certificates":%')
    .execute()
  const open = rows.map(({ id, joined }) => ({ id, ...(JSON.parse(joined ?? '{}') as { document?: string; certificates?: readonly Vouched[] }) }))
  const over: string[] = []
  for (const [name, sessions] of Map.groupBy(open, (one) => one.document ?? '')) {
    const spec = document(name)
    if (spec?.method !== 'x509') continue
    const { crl } = blockOf(spec) as z.infer<typeof x509Spec>
    if (crl === undefined) continue
    try {
      const current = await lists.of(crl)
      over.push(...sessions.filter(({ certificates = [] }) => revokedSince(certificates, current)).map(({ id }) => id))
    } catch (error) {
      failed(error)
    }
  }
  return over
}
