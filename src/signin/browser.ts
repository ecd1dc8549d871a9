import { createHash, createHmac, randomBytes } from 'node:crypto'
import { factorRequired, hasFreshFactor } from '../access/administration.ts'
import type { AuditLog } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { findIdentity, type IdentityRecord } from '../identity/directory.ts'
import type { EndReason } from '../identity/end-reasons.ts'
import { lookAtInvitation, makeInvitation, useInvitation } from '../identity/invitations.ts'
import { actingIn } from '../identity/named.ts'
import type { LiveSession, Sessions } from '../identity/types.ts'
import { newId } from '../ids.ts'
import type { Keyring } from '../keys/types.ts'
import type { Store, Write } from '../store/store.ts'
import type { WebSessionTable } from '../store/tables-signin.ts'
import { verifyFactor } from './factor.ts'
import { acceptInvitation, invited, nameOf } from './invited.ts'
import { recordRefusals } from './recorded.ts'

export const BROWSER_LIMITS = {
  /** longest life of a session in a browser, and how long it may lie idle */
  sessionMs: 8 * 3_600_000,
  idleMs: 30 * 60_000,
  /** how long a browser stays known, and how many a person has; with one more the one used longest ago is forgotten */
  knownMs: 90 * 24 * 3_600_000,
  browsers: 10,
  /** sessions in browsers that a person has at once */
  sessions: 10,
  /** life of the link that makes a browser known */
  linkMs: 2 * 60_000,
} as const

/** The use of a session is written down at most this often. */
const TOUCH_MS = 60_000
const LONGEST_NAME = 64

/** A cookie as it goes to the browser; here only its hash is kept. */
export interface Cookie {
  readonly secret: string
  /** ms since 1970 */
  readonly expiresAt: number
}

/** A browser that is signed in. */
export interface WebSession {
  readonly session: LiveSession
  /** what the forms of this session carry, against requests that another site makes the browser send */
  readonly token: string
  readonly browserId?: string
  /** ms since 1970: it is over then, unless it is used */
  readonly idleAt: number
}

/** What a browser that signs in says beside its proof. */
export interface Coming {
  readonly browserId?: string
  /** It is signed in still: that session ends with this sign-in, whoever's it was, for nobody could reach it any more. */
  readonly before?: WebSession | undefined
  /** He was told that a role leaves no room, and wants his oldest session ended. */
  readonly endOldest?: boolean
  /** Where he was signed in, when it was at the company's directory; and whether its second factor counts here. */
  readonly from?: { readonly directory: string; readonly subject: string; readonly factor: boolean }
}

export interface KnownBrowser {
  readonly id: string
  readonly name: string
  readonly createdAt: number
  readonly lastUsedAt: number
  readonly expiresAt: number
}

/**
 * How a person comes into a browser. A browser becomes known with an invitation, or with a link that the person made where he is
 * signed in already; in a known one he signs in with a code of his authenticator. A name and a code alone sign in nowhere: whoever sees
 * somebody type a code has six digits and no browser. (A passkey signs in by itself: passkey.ts.)
 */
export interface BrowserSignin {
  /** The secret of a one-time link, for a person who has just given a second factor. Throws `factor_required`, `issue_refused`. */
  link(session: LiveSession): Promise<{ readonly secret: string; readonly expiresAt: number }>
  /** Makes a browser known by such a link; `before` is its cookie until now. Throws `invitation_invalid`, whatever the cause. */
  useLink(secret: string, name: string, before?: string): Promise<Cookie>
  /** Uses an invitation up: the factor that `beginEnrol` offered is enrolled, the browser known, the person signed in. Throws as `finishEnrol`. */
  enrol(ask: {
    readonly secret: string
    readonly code: string
    readonly name: string
    readonly before?: WebSession | undefined
  }): Promise<{ readonly browser: Cookie; readonly session: Cookie }>
  /** Whose browser it is, or undefined. */
  known(secret: string | undefined): Promise<{ readonly name: string } | undefined>
  /**
   * Throws `factor_invalid`, the same for an unknown browser, a forgotten one, and a wrong code; `too_many` where a role leaves no room.
   * What was signed in in this very browser is over then.
   */
  signIn(secret: string | undefined, code: string, coming?: Coming): Promise<Cookie>
  /** The session for a person whose proof was checked elsewhere (a passkey); `browser` is the cookie of the browser, if it is known. */
  begin(identity: IdentityRecord, coming?: Coming & { readonly browser?: string | undefined }): Promise<Cookie>
  /** Who is behind a session's cookie. Throws `unauthenticated`, `session_ended`, `locked`, `identity_disabled`. */
  open(secret: string): Promise<WebSession>
  signOut(web: WebSession): Promise<void>
  /** Ends every session of this person in a browser. */
  signOutEverywhere(session: LiveSession): Promise<void>
  browsers(session: LiveSession): Promise<readonly KnownBrowser[]>
  /** Forgets a browser of one's own and ends what is signed in with it. Throws `not_found`. */
  forget(session: LiveSession, id: string): Promise<void>
}

export interface BrowserParts {
  readonly store: Store
  readonly keyring: Keyring
  readonly sessions: Sessions
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
}

/** One answer for every cause: nobody learns here what was wrong, or whose browser it was. */
const refused = (cause?: unknown) =>
  new ChaperoneError('factor_invalid', 'This browser is not known, or the code is wrong, was used already, or too many were tried.', {
    fix: 'Wait for the next code; after five wrong ones wait five minutes. A new browser is made known with: chaperone browser',
    cause,
  })
const linkRefused = (cause?: unknown) =>
  new ChaperoneError('invitation_invalid', 'The link is unknown, used or expired.', { fix: 'Make a new one: chaperone browser', cause })
const over = (why: string) => new ChaperoneError('session_ended', 'You are no longer signed in.', { detail: why, fix: 'Sign in again.' })

const SECRET = /^[A-Za-z0-9_-]{43}$/
const sha256 = (secret: string) => createHash('sha256').update(secret).digest('hex')
const newSecret = () => randomBytes(32).toString('base64url')

export function openBrowserSignin(parts: BrowserParts): BrowserSignin {
  const { store, keyring, sessions, audit, clock } = parts
  const recorded = recordRefusals(audit)

  async function addBrowser(
    trx: Write,
    identityId: string,
    name: string,
  ): Promise<Cookie & { readonly id: string; readonly surplus: readonly string[] }> {
    const now = clock.now()
    const live = await trx
      .selectFrom('browsers')
      .select('id')
      .where('identity_id', '=', identityId)
      .where('revoked_at', 'is', null)
      .where('expires_at', '>', now)
      .orderBy('last_used_at', 'desc')
      .orderBy('id', 'desc')
      .execute()
    const surplus = live.slice(BROWSER_LIMITS.browsers - 1).map(({ id }) => id)
    if (surplus.length > 0) await trx.updateTable('browsers').set({ revoked_at: now }).where('id', 'in', surplus).execute()
    const [id, secret, expiresAt] = [newId('brw', now), newSecret(), now + BROWSER_LIMITS.knownMs]
    await trx
      .insertInto('browsers')
      .values({
        id,
        identity_id: identityId,
        secret_sha256: sha256(secret),
        name: name.slice(0, LONGEST_NAME),
        created_at: now,
        last_used_at: now,
        expires_at: expiresAt,
        revoked_at: null,
      })
      .execute()
    return { id, secret, expiresAt, surplus }
  }

  async function browserOf(secret: string | undefined) {
    if (secret === undefined || !SECRET.test(secret)) return undefined
    return store.db
      .selectFrom('browsers')
      .innerJoin('identities', 'identities.id', 'browsers.identity_id')
      .select(['browsers.id', 'browsers.identity_id', 'identities.name'])
      .where('browsers.secret_sha256', '=', sha256(secret))
      .where('browsers.revoked_at', 'is', null)
      .where('browsers.expires_at', '>', clock.now())
      .where('identities.kind', '=', 'user')
      .where('identities.state', '=', 'active')
      .executeTakeFirst()
  }

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
    // Signing in is no factor for a decision: each one asks for its own, so that a stolen cookie decides nothing.
    const session = await sessions.start({
      identityId,
      chain: [{ identity: identityId }],
      how: 'browser',
      lifeMs: BROWSER_LIMITS.sessionMs,
      instead: older.map((row) => row.session_id),
      endOldest,
      ...(from ? { joined: { method: 'directory', document: from.directory, subject: from.subject } } : {}),
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
          secret_sha256: sha256(secret),
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

    async link(session) {
      const { principal } = session
      const who = actingIn(session, () => undefined)
      return recorded('credential.refused', { ...who, data: { how: 'browser link' } }, async () => {
        // What acts for a person must not open a door as that person.
        if (principal.kind !== 'user' || principal.chain.length > 1 || principal.proof !== 'mtls')
          throw new ChaperoneError('issue_refused', 'Only a person, with his own credential, makes a browser known.', {
            fix: 'Run chaperone login as the person.',
          })
        session.assertLive()
        if (!hasFreshFactor(session, clock.now())) throw factorRequired()
        await audit.append({ type: 'invitation.made', ...who, data: { kind: 'browser', for: principal.name, ttlMs: BROWSER_LIMITS.linkMs } })
        return store.write(async (trx) => {
          // One open link a person: an older one that nobody opened is worth nothing any more.
          await trx
            .deleteFrom('invitations')
            .where('identity_id', '=', principal.identityId)
            .where('kind', '=', 'browser')
            .where('used_at', 'is', null)
            .execute()
          const ask = { kind: 'browser', identityId: principal.identityId, ttlMs: BROWSER_LIMITS.linkMs, createdBy: principal.identityId } as const
          const { secret, expiresAt } = await makeInvitation(trx, { ...ask, now: clock.now() })
          return { secret, expiresAt }
        })
      })
    },

    useLink(secret, name, before) {
      return recorded('credential.refused', { data: { how: 'browser link' } }, async () => {
        try {
          const link = await lookAtInvitation(store.db, secret, 'browser', clock.now())
          const identity = await invited(store, link, 'user')
          const actor = nameOf(identity)
          await audit.append({ type: 'invitation.used', actor, data: { invitation: link.id, how: 'browser' } })
          await audit.append({ type: 'factor.enrolled', actor, data: { kind: 'browser', name: name.slice(0, LONGEST_NAME), invitation: link.id } })
          // The same browser once more: its old cookie is overwritten, and must not stay worth something to whoever copied it.
          const known = await browserOf(before)
          const older = known?.identity_id === identity.id ? [known.id] : []
          const added = await store.write(async (trx) => {
            await useInvitation(trx, secret, 'browser', clock.now())
            if (older.length > 0) await trx.updateTable('browsers').set({ revoked_at: clock.now() }).where('id', 'in', older).execute()
            return addBrowser(trx, identity.id, name)
          })
          await dropSurplus(identity.id, [...older, ...added.surplus])
          return { secret: added.secret, expiresAt: added.expiresAt }
        } catch (error) {
          if (error instanceof ChaperoneError && (error.code === 'invitation_invalid' || error.code === 'identity_disabled')) throw linkRefused(error)
          throw error
        }
      })
    },

    enrol({ secret, code, name, before }) {
      return recorded('credential.refused', { data: { how: 'enrol' } }, async () => {
        let added: Awaited<ReturnType<typeof addBrowser>> | undefined
        const identity = await acceptInvitation(parts, recorded, { secret, code }, async (trx, { id }) => {
          added = await addBrowser(trx, id, name)
        })
        if (!added) throw new ChaperoneError('internal', 'The browser was not enrolled.')
        await dropSurplus(identity.id, added.surplus)
        return { browser: { secret: added.secret, expiresAt: added.expiresAt }, session: await begin(identity, { browserId: added.id, before }) }
      })
    },

    async known(secret) {
      const browser = await browserOf(secret)
      return browser && { name: browser.name }
    },

    signIn(secret, code, coming) {
      return recorded('credential.refused', { data: { how: 'browser' } }, async () => {
        // Without the browser nobody gets to guess codes, or to close a person's factor by guessing.
        const browser = await browserOf(secret)
        const identity = browser && (await findIdentity(store.db, { id: browser.identity_id }))
        if (!identity) throw refused()
        const actor = nameOf(identity)
        const data = { how: 'browser', browser: browser.id }
        await recorded('factor.refused', { actor, data }, () =>
          verifyFactor(store, keyring, identity.id, code, clock).catch((error: unknown) => {
            throw error instanceof ChaperoneError && error.code === 'factor_invalid' ? refused(error) : error
          }),
        )
        await audit.append({ type: 'factor.used', actor, data })
        await store.write((trx) => trx.updateTable('browsers').set({ last_used_at: clock.now() }).where('id', '=', browser.id).execute())
        return begin(identity, { ...coming, browserId: browser.id })
      })
    },

    async open(secret) {
      if (!SECRET.test(secret)) throw new ChaperoneError('unauthenticated', 'You are not signed in.')
      const hash = sha256(secret)
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

    async browsers({ principal }) {
      const rows = await store.db
        .selectFrom('browsers')
        .selectAll()
        .where('identity_id', '=', principal.identityId)
        .where('revoked_at', 'is', null)
        .where('expires_at', '>', clock.now())
        .orderBy('last_used_at', 'desc')
        .execute()
      return rows.map(({ id, name, created_at, last_used_at, expires_at }) => ({
        id,
        name,
        createdAt: created_at,
        lastUsedAt: last_used_at,
        expiresAt: expires_at,
      }))
    },

    async forget(session, id) {
      const { identityId } = session.principal
      const row = await store.db
        .selectFrom('browsers')
        .select(['id', 'name'])
        .where('id', '=', id)
        .where('identity_id', '=', identityId)
        .where('revoked_at', 'is', null)
        .executeTakeFirst()
      if (!row) throw new ChaperoneError('not_found', 'There is no such browser.')
      await audit.append({ type: 'factor.removed', ...actingIn(session, () => undefined), data: { kind: 'browser', browser: id, name: row.name } })
      await store.write((trx) => trx.updateTable('browsers').set({ revoked_at: clock.now() }).where('id', '=', id).execute())
      await dropSurplus(identityId, [id])
    },
  }

  /** What is signed in with browsers that are known no more ends with them. */
  async function dropSurplus(identityId: string, browserIds: readonly string[]): Promise<void> {
    const rows = browserIds.length === 0 ? [] : await rowsOf(identityId).where('browser_id', 'in', browserIds).execute()
    await endThose(rows, 'browser')
  }
}
