import { factorRequired, hasFreshFactor } from '../access/administration.ts'
import type { AuditLog } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { findIdentity, type IdentityRecord } from '../identity/directory.ts'
import { lookAtInvitation, makeInvitation, useInvitation } from '../identity/invitations.ts'
import { actingIn } from '../identity/named.ts'
import type { LiveSession, Sessions } from '../identity/types.ts'
import type { Keyring } from '../keys/types.ts'
import type { Store } from '../store/store.ts'
import { BROWSER_LIMITS } from './browser-limits.ts'
import { verifyFactor } from './factor.ts'
import { acceptInvitation, invited, nameOf } from './invited.ts'
import { knownBrowsers, LONGEST_BROWSER_NAME } from './known-browsers.ts'
import { recordRefusals } from './recorded.ts'
import { webSessions } from './web-sessions.ts'

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
  readonly from?: { readonly directory: string; readonly subject: string; readonly factor: boolean; readonly signIn?: string | undefined }
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

export function openBrowserSignin(parts: BrowserParts): BrowserSignin {
  const { store, keyring, audit, clock } = parts
  const recorded = recordRefusals(audit)

  const known = knownBrowsers({ store, clock })
  const web = webSessions(parts, known.find)
  const { begin } = web

  return {
    begin,
    open: web.open,
    signOut: web.signOut,
    signOutEverywhere: web.signOutEverywhere,
    browsers: ({ principal }) => known.list(principal.identityId),

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
          await audit.append({
            type: 'factor.enrolled',
            actor,
            data: { kind: 'browser', name: name.slice(0, LONGEST_BROWSER_NAME), invitation: link.id },
          })
          // The same browser once more: its old cookie is overwritten, and must not stay worth something to whoever copied it.
          const same = await known.find(before)
          const older = same?.identity_id === identity.id ? [same.id] : []
          const added = await store.write(async (trx) => {
            await useInvitation(trx, secret, 'browser', clock.now())
            await known.forget(trx, older)
            return known.add(trx, identity.id, name)
          })
          await web.endOf(identity.id, [...older, ...added.surplus])
          return { secret: added.secret, expiresAt: added.expiresAt }
        } catch (error) {
          if (error instanceof ChaperoneError && (error.code === 'invitation_invalid' || error.code === 'identity_disabled')) throw linkRefused(error)
          throw error
        }
      })
    },

    enrol({ secret, code, name, before }) {
      return recorded('credential.refused', { data: { how: 'enrol' } }, async () => {
        let added: Awaited<ReturnType<typeof known.add>> | undefined
        const identity = await acceptInvitation(parts, recorded, { secret, code }, async (trx, { id }) => {
          added = await known.add(trx, id, name)
        })
        if (!added) throw new ChaperoneError('internal', 'The browser was not enrolled.')
        await web.endOf(identity.id, added.surplus)
        return { browser: { secret: added.secret, expiresAt: added.expiresAt }, session: await begin(identity, { browserId: added.id, before }) }
      })
    },

    async known(secret) {
      const browser = await known.find(secret)
      return browser && { name: browser.name }
    },

    signIn(secret, code, coming) {
      return recorded('credential.refused', { data: { how: 'browser' } }, async () => {
        // Without the browser nobody gets to guess codes, or to close a person's factor by guessing.
        const browser = await known.find(secret)
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
        await known.used(browser.id)
        return begin(identity, { ...coming, browserId: browser.id })
      })
    },

    async forget(session, id) {
      const { identityId } = session.principal
      const row = await known.one(identityId, id)
      if (!row) throw new ChaperoneError('not_found', 'There is no such browser.')
      await audit.append({ type: 'factor.removed', ...actingIn(session, () => undefined), data: { kind: 'browser', browser: id, name: row.name } })
      await store.write((trx) => known.forget(trx, [id]))
      await web.endOf(identityId, [id])
    },
  }
}
