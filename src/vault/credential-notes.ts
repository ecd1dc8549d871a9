import type { Clock } from '../clock.ts'
import type { Store, Write } from '../store/store.ts'

/** What is known of a credential beside the credential: who put it there, and when it was last used. */
export interface CredentialNote {
  readonly setBy: string | undefined
  /** ms since 1970 */
  readonly setAt: number | undefined
  /** ms since 1970, to the hour */
  readonly usedAt: number | undefined
}

/** `secret NAME`, `login RESOURCE SUBJECT`, `machine RESOURCE`: what a note is about. */
export const aboutSecret = (name: string) => `secret ${name}`
export const aboutLogin = ({ resource, subject }: { readonly resource: string; readonly subject: string }) => `login ${resource} ${subject}`
export const aboutMachine = (resource: string) => `machine ${resource}`

export interface CredentialNotes {
  /** In the transaction that puts it there. */
  set(trx: Write, about: string, by: string): Promise<void>
  forget(trx: Write, about: string): Promise<void>
  /** Never waits and never fails: a use is not held up by the note of it. */
  used(about: string): void
  all(): Promise<ReadonlyMap<string, CredentialNote>>
}

/** A use is written once in so long: a busy credential must not be a busy row. */
const EVERY_MS = 3_600_000
const MOST_KEPT = 20_000

export function openCredentialNotes(store: Store, clock: Clock, failed: (error: unknown) => void): CredentialNotes {
  const written = new Map<string, number>()
  return {
    async set(trx, about, by) {
      const now = clock.now()
      await trx
        .insertInto('credential_notes')
        .values({ about, set_by: by, set_at: now, used_at: null })
        .onConflict((is) => is.column('about').doUpdateSet({ set_by: by, set_at: now }))
        .execute()
    },

    async forget(trx, about) {
      written.delete(about)
      await trx.deleteFrom('credential_notes').where('about', '=', about).execute()
    },

    used(about) {
      const now = clock.now()
      if ((written.get(about) ?? Number.NEGATIVE_INFINITY) > now - EVERY_MS) return
      if (written.size >= MOST_KEPT) written.clear()
      written.set(about, now)
      store
        .write((trx) =>
          trx
            .insertInto('credential_notes')
            .values({ about, set_by: null, set_at: null, used_at: now })
            .onConflict((is) => is.column('about').doUpdateSet({ used_at: now }))
            .execute(),
        )
        .catch(failed)
    },

    async all() {
      const rows = await store.db.selectFrom('credential_notes').selectAll().execute()
      return new Map(
        rows.map(({ about, set_by, set_at, used_at }) => [
          about,
          { setBy: set_by ?? undefined, setAt: set_at ?? undefined, usedAt: used_at ?? undefined },
        ]),
      )
    },
  }
}
