import type { Clock } from '../../clock.ts'
import { type EndReason, sessionOver } from '../../identity/end-reasons.ts'
import { markedUntil, markProof } from '../../identity/joining/used-proofs.ts'
import type { Sessions } from '../../identity/types.ts'
import { newId } from '../../ids.ts'
import type { Keyring } from '../../keys/types.ts'
import type { Database, Store, Write } from '../../store/store.ts'
import type { DirectorySigninTable } from '../../store/tables-identity.ts'

/**
 * Sign-ins at the companies' providers, kept for as long as something may run that came of them: a session in a browser, a terminal that
 * was let in from there, and what the person agreed to in either.
 */
export interface SignIns {
  /** Somebody has come from there. Returns the id that his sessions name in `joined`. Throws `session_ended`: signed out there while he came. */
  keep(ask: Kept): Promise<string>
  /** Somebody is signed out there, said before the sign-ins are looked for: one that is under way now is in no row yet. */
  signedOut(from: From, by: By): Promise<void>
  /** The sign-ins that a provider means: by the name of its own session, by the person, or both. Those that are over too: what they began may not be. */
  meant(from: From, by: By): Promise<readonly DirectorySigninTable[]>
  /** What came of these and is not over. */
  running(some: readonly SignIn[]): Promise<readonly string[]>
  /** Ends them, and all that came of them. `first` is done in the transaction in which they end. Returns how many sessions were ended themselves. */
  end(some: readonly SignIn[], reason: EndReason, first?: (trx: Write) => Promise<void>): Promise<number>
}

type SignIn = Pick<DirectorySigninTable, 'id' | 'identity_id'>
type From = Pick<DirectorySigninTable, 'directory' | 'issuer'>

interface By {
  readonly subject?: string | undefined
  readonly sid?: string | undefined
}

interface Kept {
  readonly directory: string
  readonly issuer: string
  readonly subject: string
  readonly sid?: string | undefined
  readonly identityId: string
  /** before the provider was asked who it is, ms since 1970 */
  readonly begunAt: number
  /** by which the provider is asked again, and how long from now */
  readonly refresh?: { readonly token: string; readonly everyMs: number } | undefined
}

/** A browser, a terminal let in from it at its end, and a client that was agreed to there: 8 hours each, and some more. */
const LONGEST_MS = 36 * 3_600_000
/** An end that was interrupted is gone through again after this. */
const AGAIN_MS = 60_000
/** No sign-in is under way for longer, from its code to its row: a few requests of ten seconds each at the most. */
const UNDER_WAY_MS = 5 * 60_000
const SCOPE = 'signed-out'
/** Rows in one statement. */
const CHUNK = 500

/** What the sealed bytes are bound to: those that were moved to another row do not open. */
export const sealedAs = (id: string) => `directory-signin ${id}`

const signInOf = (joined: string | null): string | undefined =>
  joined === null ? undefined : (JSON.parse(joined) as { readonly signIn?: string }).signIn

export function keepSignIns({
  store,
  keyring,
  sessions,
  clock,
}: {
  readonly store: Store
  readonly keyring: Pick<Keyring, 'seal'>
  readonly sessions: Pick<Sessions, 'end'>
  readonly clock: Clock
}): SignIns {
  const running: SignIns['running'] = async (some) => {
    const ids = new Set(some.map(({ id }) => id))
    const people = [...new Set(some.map((one) => one.identity_id))]
    const open: string[] = []
    for (let from = 0; from < people.length; from += CHUNK) {
      const rows = await store.db
        .selectFrom('sessions')
        .select(['id', 'joined', 'ended_at'])
        .where('identity_id', 'in', people.slice(from, from + CHUNK))
        .where('expires_at', '>', clock.now() - LONGEST_MS)
        .where('joined', 'like', '%"signIn":%')
        .execute()
      const came = rows.filter(({ joined }) => ids.has(signInOf(joined) ?? ''))
      open.push(...came.filter((row) => row.ended_at === null).map(({ id }) => id))
      open.push(...(await agreedIn(store.db, came)))
    }
    return [...new Set(open)]
  }

  return {
    async keep({ directory, issuer, subject, sid, identityId, begunAt, refresh }) {
      const now = clock.now()
      const id = newId('dsi', now)
      const sealed = refresh && (await keyring.seal('vault', refresh.token, sealedAs(id)))
      await store.write(async (trx) => {
        await trx.deleteFrom('directory_signins').where('expires_at', '<=', now).execute()
        await trx
          .insertInto('directory_signins')
          .values({
            ...{ id, directory, issuer, subject, sid: sid ?? null, identity_id: identityId, refresh: sealed ?? null },
            ...{ checked_at: now, next_at: refresh ? now + refresh.everyMs : null },
            ...{ created_at: now, expires_at: now + LONGEST_MS, ended_at: null, end_reason: null },
          })
          .execute()
      })
      // The row first, and then the look; a logout is written down first, and then looks for rows. So one of the two sees the other.
      const keys = namesOf(sid === undefined ? ['subject', 'subject without sid'] : ['subject', 'sid'], { directory, issuer }, { subject, sid })
      const until = await markedUntil(store.db, SCOPE, keys)
      if (until !== undefined && until - UNDER_WAY_MS > begunAt) {
        await store.write((trx) => trx.deleteFrom('directory_signins').where('id', '=', id).execute())
        throw sessionOver('provider')
      }
      return id
    },

    async signedOut(from, { subject, sid }) {
      const kinds: Kind[] = sid === undefined ? ['subject'] : subject === undefined ? ['sid'] : ['sid', 'subject without sid']
      const until = clock.now() + UNDER_WAY_MS
      await store.write(async (trx) => {
        for (const key of namesOf(kinds, from, { subject, sid })) await markProof(trx, SCOPE, { key, until })
      })
    },

    async meant({ directory, issuer }, { subject, sid }) {
      if (subject === undefined && sid === undefined) return []
      // With its issuer: where a document names another one now, what that one calls u-1 is somebody else.
      let rows = store.db.selectFrom('directory_signins').selectAll().where('directory', '=', directory).where('issuer', '=', issuer)
      if (subject !== undefined) rows = rows.where('subject', '=', subject)
      // A sign-in that named no session of the provider's could be any of that person's.
      if (sid !== undefined) rows = rows.where((row) => row.or([row('sid', '=', sid), ...(subject === undefined ? [] : [row('sid', 'is', null)])]))
      return rows.execute()
    },

    running,

    async end(some, reason, first) {
      const ids = some.map(({ id }) => id)
      const now = clock.now()
      const setIn = async (trx: Write, values: Partial<DirectorySigninTable>) => {
        for (let from = 0; from < ids.length; from += CHUNK)
          await trx
            .updateTable('directory_signins')
            .set(values)
            .where('id', 'in', ids.slice(from, from + CHUNK))
            .execute()
      }
      // First nothing begins by them any more, then what began ends. Where that is interrupted, a round of recheck.ts goes on.
      await store.write(async (trx) => {
        await first?.(trx)
        await setIn(trx, { ended_at: now, end_reason: reason, next_at: now + AGAIN_MS, refresh: null })
      })
      const over = await running(some)
      if (over.length > 0) await sessions.end(over, reason)
      if (ids.length > 0) await store.write((trx) => setIn(trx, { next_at: null }))
      return over.length
    },
  }
}

type Kind = 'sid' | 'subject' | 'subject without sid'

const namesOf = (kinds: readonly Kind[], { directory, issuer }: From, { subject, sid }: By) =>
  kinds.map((kind) => JSON.stringify([directory, issuer, kind, kind === 'sid' ? sid : subject]))

/** What somebody agreed to in these sessions, for clients that go on by themselves. */
async function agreedIn(db: Database, rows: readonly { readonly id: string }[]): Promise<readonly string[]> {
  const all: string[] = []
  for (let from = 0; from < rows.length; from += CHUNK) {
    const ids = rows.slice(from, from + CHUNK).map(({ id }) => id)
    const found = await db.selectFrom('sessions').select('id').where('given_in', 'in', ids).where('ended_at', 'is', null).execute()
    all.push(...found.map(({ id }) => id))
  }
  return all
}

/** For `sessions.start`: held until the session has begun, so that whoever ends the sign-in finds it. Throws `session_ended`. */
export const holdSignIn =
  (id: string) =>
  async (trx: Write): Promise<void> => {
    const { numUpdatedRows } = await trx
      .updateTable('directory_signins')
      // A change that changes nothing: both stores hold a row for one that they are changing.
      .set({ ended_at: null })
      .where('id', '=', id)
      .where('ended_at', 'is', null)
      .executeTakeFirstOrThrow()
    if (numUpdatedRows === 0n) throw sessionOver('provider')
  }

/** The same for what rests on a session: that came of a sign-in, or did not. */
export async function holdSignInOf(trx: Write, sessionId: string): Promise<void> {
  const row = await trx.selectFrom('sessions').select('joined').where('id', '=', sessionId).executeTakeFirst()
  const id = signInOf(row?.joined ?? null)
  if (id !== undefined) await holdSignIn(id)(trx)
}
