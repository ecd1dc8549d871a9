import { createHash, randomBytes } from 'node:crypto'
import { type DirectorySpec, directorySpec } from '../../catalog/directory.ts'
import { parseDuration } from '../../encoding/duration.ts'
import { ChaperoneError } from '../../errors.ts'
import { findIdentity, type IdentityRecord } from '../../identity/directory.ts'
import type { AccountTable } from '../../store/tables-identity.ts'
import type { Cookie } from '../browser.ts'
import { nameOf } from '../invited.ts'
import { recordRefusals } from '../recorded.ts'
import { addAccount, namedByDocument, nameFrom, personFor, subjectKey } from './accounts.ts'
import { type Claims, type Introduced, toldBy } from './claims.ts'
import { type Flow, keepFlows } from './flows.ts'
import { followWith } from './follow.ts'
import type { Providers } from './openid.ts'
import { changed, isHere, type PeopleParts } from './people.ts'
import type { SignIns } from './sign-ins.ts'

/** Signing in at the directories of the company (OpenID Connect). Every success and every refusal is a record. */
export interface Directories {
  /** Those one can sign in at, by name. */
  list(): readonly { readonly name: string; readonly title: string }[]
  /** Where the browser goes, and the cookie that says later that it is the same one. Throws `not_found`, `directory_refused`, `upstream_unavailable`. */
  begin(directory: string, ask: BeginAt): Promise<{ readonly url: string; readonly cookie: Cookie }>
  /** The accounts that lead to this person. */
  accountsOf(identityId: string): Promise<readonly { readonly directory: string; readonly userName: string }[]>
  /** He came back to `redirect` with these parameters. Throws `directory_refused`, `identity_disabled`. */
  finish(directory: string, came: URL, cookie: string | undefined): Promise<Arrived>
}

export interface BeginAt {
  /** our own address that the provider sends him back to */
  readonly redirect: string
  readonly next: string
  /** He must show himself to the provider now, and not be known by a cookie there. */
  readonly fresh?: boolean
  /** Who is signed in here, has just given a factor, and wants the account to be his. */
  readonly link?: Flow['link']
}

export interface Arrived {
  readonly identity: IdentityRecord
  readonly directory: string
  readonly subject: string
  readonly next: string
  /** The directory vouches for a second factor that counts here. */
  readonly factor: boolean
  /** What his session must name, so that it ends when the provider ends this. */
  readonly signIn?: string
  /** It was to link an account; nobody was signed in by it. */
  readonly linked: boolean
}

export interface DirectoriesParts extends PeopleParts {
  readonly providers: Providers
  readonly signIns: Pick<SignIns, 'keep'>
  /** The `directory` documents that hold now. */
  readonly documents: () => readonly { readonly name: string; readonly spec: unknown }[]
}

const TRIES = 3

export function openDirectories(parts: DirectoriesParts): Directories {
  const { store, audit, clock, providers, signIns } = parts
  const recorded = recordRefusals(audit)
  const follow = followWith(parts)
  const flows = keepFlows(store, () => clock.now())

  function specOf(name: string): DirectorySpec {
    const found = parts.documents().find((one) => one.name === name)
    const spec = found && directorySpec.parse(found.spec)
    if (spec?.issuer === undefined) throw new ChaperoneError('not_found', 'There is no such directory to sign in at.')
    return spec
  }

  /** The account of whoever has signed in: known, known by SCIM, named by a document, or new. */
  async function accountOf(name: string, spec: DirectorySpec, told: Introduced): Promise<AccountTable> {
    const subject = subjectKey(spec.issuer!, told.sub)
    const known = await store.db.selectFrom('accounts').selectAll().where('directory', '=', name).where('subject', '=', subject).executeTakeFirst()
    if (known) return known
    if (spec.scim && told.match !== undefined) {
      // SCIM told us of him before he came. Only the id that both sides were told to share says so: never a name, never an address of mail.
      const waiting = await store.db
        .selectFrom('accounts')
        .selectAll()
        .where('directory', '=', name)
        .where('external_id', '=', told.match)
        .where('subject', 'is', null)
        .executeTakeFirst()
      if (waiting) {
        const person = await findIdentity(store.db, { id: waiting.identity_id })
        if (person) await audit.append(changed(name, person, 'signed in for the first time', { account: waiting.id, subject: told.sub }))
        await store.write(async (trx) => {
          const { numUpdatedRows } = await trx
            .updateTable('accounts')
            .set({ subject })
            .where('id', '=', waiting.id)
            .where('subject', 'is', null)
            .executeTakeFirstOrThrow()
          if (numUpdatedRows !== 1n) throw new ChaperoneError('conflict', 'Somebody else has just signed in with this account.')
        })
        return { ...waiting, subject }
      }
    }
    const ask = {
      subject,
      userName: told.userName,
      ...(told.email === undefined ? {} : { email: told.email }),
      // So that SCIM, which may hear of him later, finds him.
      ...(spec.scim && told.match !== undefined ? { externalId: told.match } : {}),
    }
    const named = await namedByDocument(store.db, name, { subject: told.sub, userName: told.userName })
    if (!named && !spec.create)
      throw new ChaperoneError('directory_refused', 'You are not known here yet.', {
        fix: 'Ask whoever administers Chaperone to make you known.',
        detail: `${told.userName}, subject ${told.sub}, and the directory does not say create: true`,
      })
    // Also looked at before it is recorded: a name that cannot be had is a refusal, and nothing came of it.
    if (!named && (await findIdentity(store.db, { name: nameFrom(spec, told.userName) }))) throw taken(nameFrom(spec, told.userName))
    const person = named ?? { id: 'new', name: nameFrom(spec, told.userName) }
    await audit.append(changed(name, person, named ? 'linked' : 'came', { subject: told.sub, userName: told.userName }))
    return store.write(async (trx) => {
      const identity = await personFor(trx, name, spec, ask, told.sub, clock.now())
      return addAccount(trx, name, ask, identity, { data: '{}', groups: '[]', now: clock.now() })
    })
  }

  /** Somebody who is signed in here says that this account is his too. */
  async function linkTo(name: string, spec: DirectorySpec, told: Introduced, link: NonNullable<Flow['link']>): Promise<AccountTable> {
    const subject = subjectKey(spec.issuer!, told.sub)
    const identity = await findIdentity(store.db, { id: link.identityId })
    const session = await store.db.selectFrom('sessions').select('ended_at').where('id', '=', link.sessionId).executeTakeFirst()
    if (identity?.state !== 'active' || session?.ended_at !== null)
      throw new ChaperoneError('session_ended', 'You are no longer signed in; nothing was linked.')
    const known = await store.db
      .selectFrom('accounts')
      .selectAll()
      .where('directory', '=', name)
      .where((row) => row.or([row('subject', '=', subject), row('identity_id', '=', identity.id)]))
      .execute()
    if (known.some((one) => one.identity_id === identity.id && one.subject === subject)) return known[0]!
    if (known.length > 0) throw new ChaperoneError('conflict', 'You have an account of this directory already, or this one is somebody else’s.')
    await audit.append(changed(name, identity, 'linked by himself', { subject: told.sub, userName: told.userName, session: link.sessionId }))
    const ask = { subject, userName: told.userName, ...(told.email === undefined ? {} : { email: told.email }) }
    return store.write((trx) => addAccount(trx, name, ask, identity, { data: '{}', groups: '[]', now: clock.now() }))
  }

  return {
    list: () =>
      parts
        .documents()
        .flatMap(({ name, spec }) => {
          const { issuer, title = name } = spec as Partial<DirectorySpec>
          return issuer === undefined ? [] : [{ name, title }]
        })
        .sort((a, b) => (a.name < b.name ? -1 : 1)),

    async accountsOf(identityId) {
      const rows = await store.db
        .selectFrom('accounts')
        .select(['directory', 'user_name'])
        .where('identity_id', '=', identityId)
        .where('deleted_at', 'is', null)
        .orderBy('directory')
        .execute()
      return rows.map((row) => ({ directory: row.directory, userName: row.user_name }))
    },

    async begin(directory, { redirect, next, fresh = false, link }) {
      const spec = specOf(directory)
      const [verifier, nonce] = [randomBytes(32).toString('base64url'), randomBytes(32).toString('base64url')]
      const flow: Flow = {
        directory,
        issuer: spec.issuer!,
        clientId: spec.client_id!,
        redirect,
        nonce,
        verifier,
        next,
        fresh,
        ...(link === undefined ? {} : { link }),
      }
      const { state, cookie } = await flows.begin(flow)
      const challenge = createHash('sha256').update(verifier).digest('base64url')
      const url = await providers.authorizationUrl(directory, spec, { redirect, state, nonce, challenge, fresh })
      return { url: url.href, cookie }
    },

    finish(directory, came, cookie) {
      return recorded('credential.refused', { data: { how: 'directory', directory: directory.slice(0, 64) } }, async () => {
        const begunAt = clock.now()
        // Used up first: what goes wrong from here on is not tried again with the same answer.
        const state = came.searchParams.get('state')
        const flow = await flows.take(state, cookie)
        const spec = specOf(flow.directory)
        // RFC 9700, 4.4: each provider has an address of its own to come back to, so one cannot pass off its answer as another's.
        if (flow.directory !== directory || flow.issuer !== spec.issuer || flow.clientId !== spec.client_id)
          throw new ChaperoneError('directory_refused', 'This sign-in belongs to another directory.', { fix: 'Begin again on the sign-in page.' })
        const { claims, refresh } = await providers.redeem(directory, spec, { ...flow, state: state!, came })
        const told = toldBy(spec, claims, clock.now())
        if (spec.recheck !== undefined && refresh === undefined && !flow.link) throw cannotBeAsked(directory)
        const account = await (flow.link ? linkTo(directory, spec, told, flow.link) : twice(() => accountOf(directory, spec, told)))
        const before = await findIdentity(store.db, { id: account.identity_id })
        if (before?.state !== 'active' || !isHere(account))
          throw new ChaperoneError('identity_disabled', 'You are disabled or deleted here.', {
            detail: `${before?.name}, state ${before?.state}, account ${account.id} ${isHere(account) ? 'here' : 'gone'}`,
          })
        await follow(directory, spec, account, told, { signedIn: true })
        const identity = (await findIdentity(store.db, { id: account.identity_id }))!
        await audit.append({
          type: 'factor.used',
          actor: nameOf(identity),
          data: { how: 'directory', directory, account: account.id, subject: told.sub, secondFactor: told.factor },
        })
        const arrived = { identity, directory, subject: told.sub, next: flow.next, factor: told.factor, linked: flow.link !== undefined }
        return flow.link ? arrived : { ...arrived, signIn: await kept(directory, spec, { identityId: identity.id, begunAt, told, claims, refresh }) }
      })
    },
  }

  function kept(
    directory: string,
    { issuer, recheck }: DirectorySpec,
    {
      identityId,
      begunAt,
      told,
      claims,
      refresh,
    }: { identityId: string; begunAt: number; told: Introduced; claims: Claims; refresh: string | undefined },
  ): Promise<string> {
    return signIns.keep({
      ...{ directory, issuer: issuer!, subject: told.sub, identityId, begunAt },
      sid: typeof claims.sid === 'string' && claims.sid !== '' ? claims.sid.slice(0, 255) : undefined,
      refresh: recheck === undefined || refresh === undefined ? undefined : { token: refresh, everyMs: parseDuration(recheck) },
    })
  }

  /** Of two first sign-ins at once, the second finds what the first has made. */
  async function twice<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work()
      } catch (error) {
        if (!(error instanceof ChaperoneError) || error.code !== 'conflict' || attempt === TRIES) throw error
      }
    }
  }
}

/** An existing person is never taken over by somebody whom a directory calls the same. */
const taken = (name: string) =>
  new ChaperoneError('directory_refused', `The name ${name} is somebody's here already, or was.`, {
    fix: `If that is you: sign in as before and link this account on the account page, or have an administrator write it into the document of ${name}.`,
  })

/** Else his sessions would run to their end whatever becomes of him there, and the document says that they do not. */
const cannotBeAsked = (directory: string) =>
  new ChaperoneError('directory_refused', `Signing in at ${directory} did not work: it could not be asked later whether you are still there.`, {
    fix: 'Whoever administers Chaperone has the provider give refresh tokens to it: most want `offline_access` among `scopes`, and the grant switched on.',
    detail: 'the document says `recheck`, and the provider gave no refresh token',
  })
