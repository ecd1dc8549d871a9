import { createHmac } from 'node:crypto'
import { ChaperoneError } from '../errors.ts'
import { findIdentity } from '../identity/directory.ts'
import type { EndReason } from '../identity/end-reasons.ts'
import type { WebSessionTable } from '../store/tables-signin.ts'
import type { BrowserParts, BrowserSignin } from './browser.ts'
import { BROWSER_LIMITS } from './browser-limits.ts'
import { hashOf, isSecret, newSecret } from './browser-secret.ts'
import { holdSignIn } from './directory/sign-ins.ts'

/** The use of a session is written down at most this often. */
const TOUCH_MS = 60_000
const over = (why: string) => new ChaperoneError('session_ended', 'You are no longer signed in.', { detail: why, fix: 'Sign in again.' })

type WebSessions = Pick<BrowserSignin, 'begin' | 'open' | 'signOut' | 'signOutEverywhere'> & {
  /** What is signed in with browsers that are known no more ends with them. */
  endOf(identityId: string, browserIds: readonly string[]): Promise<void>
}

/** What is signed in in browsers, each by a cookie. `browserOf`: whose browser a secret is of. */
export function webSessions(
  { store, sessions, clock }: BrowserParts,
  browserOf: (secret: string | undefined) => Promise<{ readonly id: string; readonly identity_id: string } | undefined>,
): WebSessions {
  async function endThose(rows: readonly Pick<WebSessionTable, 'session_id'>[], reason: EndReason): Promise<void> {
    if (rows.length === 0) return
    const ids = rows.map((row) => row.session_id)
    for (const id of ids) await sessions.end(id, reason)
    await store.write((trx) => trx.deleteFrom('web_sessions').where('session_id', 'in', ids).execute())
  }

  const rowsOf = (identityId: string) =>
    store.db
      .selectFrom('web_sessions')
      .select(['session_id', 'browser_id', 'expires_at'])
      .where('identity_id', '=', identityId)
      .orderBy('created_at', 'desc')

  const begin: BrowserSignin['begin'] = async ({ id: identityId }, { browser, browserId: given, before, endOldest = false, from } = {}) => {
    const known = given === undefined ? await browserOf(browser) : undefined
    const browserId = given ?? (known?.identity_id === identityId ? known.id : undefined)
    const rows = await rowsOf(identityId).execute()
    // The browser has one cookie: what it was signed in with before could be reached by nobody, and would still hold a place.
    const older = rows.filter((row) => browserId !== undefined && row.browser_id === browserId)
    if (before && !older.some((row) => row.session_id === before.session.id))
      older.push({ session_id: before.session.id, browser_id: null, expires_at: 0 })
    const others = rows.filter((row) => !older.some((one) => one.session_id === row.session_id))
    await endThose(others.slice(BROWSER_LIMITS.sessions - 1), 'elsewhere')
    const signIn: { readonly signIn?: string } = from?.signIn === undefined ? {} : { signIn: from.signIn }
    // Signing in is no factor for a decision: each one asks for its own, so that a stolen cookie decides nothing.
    const session = await sessions.start({
      identityId,
      chain: [{ identity: identityId }],
      how: 'browser',
      lifeMs: BROWSER_LIMITS.sessionMs,
      instead: older.map((row) => row.session_id),
      endOldest,
      ...(from ? { joined: { method: 'directory', document: from.directory, subject: from.subject, ...signIn } } : {}),
      ...(signIn.signIn === undefined ? {} : { still: holdSignIn(signIn.signIn) }),
      ...(from?.factor ? { factorGiven: 'directory' as const } : {}),
    })
    // Only now: who may not come in (locked, no room) keeps what he has.
    await endThose(older, 'again')
    const secret = newSecret()
    const now = clock.now()
    await store.write(async (trx) => {
      await trx.deleteFrom('web_sessions').where('expires_at', '<=', now).execute()
      await trx
        .insertInto('web_sessions')
        .values({
          secret_sha256: hashOf(secret),
          session_id: session.id,
          identity_id: identityId,
          browser_id: browserId ?? null,
          created_at: now,
          last_used_at: now,
          expires_at: session.expiresAt,
        })
        .execute()
    })
    return { secret, expiresAt: session.expiresAt }
  }

  return {
    begin,

    async open(secret) {
      if (!isSecret(secret)) throw new ChaperoneError('unauthenticated', 'You are not signed in.')
      const hash = hashOf(secret)
      const row = await store.db.selectFrom('web_sessions').selectAll().where('secret_sha256', '=', hash).executeTakeFirst()
      if (!row) throw new ChaperoneError('unauthenticated', 'You are not signed in.')
      const now = clock.now()
      if (row.expires_at <= now) throw over('longest life')
      if (row.last_used_at + BROWSER_LIMITS.idleMs <= now) {
        await endThose([row], 'idle')
        throw over('idle')
      }
      const identity = await findIdentity(store.db, { id: row.identity_id })
      if (identity?.state !== 'active') throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
      const session = await sessions.open({
        identityId: identity.id,
        kind: identity.kind,
        name: identity.name,
        // Not the cookie, and nothing that leads to it: an id for the record.
        credentialId: `web_${hash.slice(0, 26)}`,
        sessionId: row.session_id,
        chain: [{ identity: identity.id }],
        notAfter: row.expires_at,
        proof: 'browser',
      })
      if (row.last_used_at + TOUCH_MS <= now)
        await store.write((trx) => trx.updateTable('web_sessions').set({ last_used_at: now }).where('secret_sha256', '=', hash).execute())
      return {
        session,
        token: createHmac('sha256', secret).update('form').digest('base64url'),
        ...(row.browser_id === null ? {} : { browserId: row.browser_id }),
        idleAt: Math.min(now + BROWSER_LIMITS.idleMs, row.expires_at),
      }
    },

    signOut: ({ session }) => endThose([{ session_id: session.id }], 'logout'),

    async signOutEverywhere({ principal }) {
      await endThose(await rowsOf(principal.identityId).execute(), 'everywhere')
    },

    async endOf(identityId, browserIds) {
      const rows = browserIds.length === 0 ? [] : await rowsOf(identityId).where('browser_id', 'in', browserIds).execute()
      await endThose(rows, 'browser')
    },
  }
}
