import { OAuthError, refreshAuthorization } from '@modelcontextprotocol/client'
import { ChaperoneError } from '../errors.ts'
import { readChallenge, scopesOf } from './challenge.ts'
import { aboutLogin } from './credential-notes.ts'
import { connectPage, keyText, type LoginContext, LoginRequired, type LoginServer, subjectOf, type UpstreamLogins } from './logins.ts'
import { grantOf, masked, NotBound } from './oauth-grant.ts'
import { fitsDocument, type HeldLogin, type LoginKey, type LoginRow } from './oauth-rows.ts'

/** A row that was read is believed for so long: short enough that a removed login counts at once, long enough for a burst. */
const KEPT_MS = 1_000
const MOST_KEPT = 10_000
/** A token is refreshed so long before its end, or when a quarter of its life is left. */
const AHEAD_MS = 60_000
/**
 * A node that claimed a refresh and died keeps the others from it for so long: longer than it may take to read the client's
 * secret and to ask twice (with another proof), since two that use one refresh token end the login (RFC 9700 section 4.14).
 */
const CLAIM_MS = 40_000
/** How often a node looks whether another one has finished. */
const LOOK_MS = 200
/** After a failure of the authorization server a token that still works is used for so long without asking again. */
const BACKOFF_MS = 5_000

interface Kept {
  readonly until: number
  readonly row: Promise<LoginRow | undefined>
}

/** Access tokens: there when they are needed, refreshed by one at a time, never shown. */
export function loginTokens(context: LoginContext): Pick<UpstreamLogins, 'of'> & { forget(key: LoginKey): void } {
  const { rows, clock, audit, heard } = context
  const kept = new Map<string, Kept>()
  const refreshing = new Map<string, Promise<LoginRow | undefined>>()
  const notBefore = new Map<string, number>()
  /** What was given and could not be stored yet: the refresh token before it is used up, so losing this one would lose the login. */
  const unsaved = new Map<string, { readonly next: HeldLogin; readonly version: number }>()

  const forget = (key: LoginKey) => void kept.delete(keyText(key))

  const read = (key: LoginKey): Promise<LoginRow | undefined> => {
    const text = keyText(key)
    const known = kept.get(text)
    if (known && known.until > clock.now()) return known.row
    const row = rows.read(key).then((found) => {
      if (found) audit.addSecrets(masked(found.held))
      return found
    })
    if (kept.size >= MOST_KEPT) kept.clear()
    kept.set(text, { until: clock.now() + KEPT_MS, row })
    row.catch(() => kept.delete(text))
    return row
  }

  const fits = ({ spec }: LoginServer, { held }: LoginRow): boolean => fitsDocument(spec, held)

  /** `turnedDown`: the token is worth nothing, although it is not over. */
  const refresh = (server: LoginServer, key: LoginKey, row: LoginRow, turnedDown = false): Promise<LoginRow | undefined> => {
    const text = keyText(key)
    const running = refreshing.get(text)
    if (running) return running
    const mine = refreshOnce(server, key, row, turnedDown).finally(() => {
      refreshing.delete(text)
      forget(key)
    })
    refreshing.set(text, mine)
    return mine
  }

  /** The row as it is afterwards; the old one when another node is at it and the old token still works. */
  const refreshOnce = async (server: LoginServer, key: LoginKey, row: LoginRow, turnedDown: boolean): Promise<LoginRow | undefined> => {
    const { held, version } = row
    if (held.refresh === undefined || held.over) return row
    const text = keyText(key)
    if (unsaved.get(text)?.version !== version) {
      unsaved.delete(text)
      if (!(await rows.claim(key, version, CLAIM_MS)))
        return turnedDown || expired(held, clock.now()) ? await awaitOther(key, version) : ((await rows.read(key)) ?? undefined)
      try {
        const next = await ask(server, held)
        if (unsaved.size >= MOST_KEPT) unsaved.delete(unsaved.keys().next().value!)
        unsaved.set(text, { next, version })
      } catch (error) {
        return await failed(server, key, row, error)
      }
    }
    // Removed or replaced meanwhile: what was just given is for nobody.
    const saved = await rows.change(key, unsaved.get(text)!.next, version)
    unsaved.delete(text)
    if (saved) await record(server, key, 'refreshed', held)
    return await rows.read(key)
  }

  const ask = async (server: LoginServer, held: HeldLogin): Promise<HeldLogin> => {
    const tokens = await refreshAuthorization(held.issuer, {
      ...(held.metadata ? { metadata: held.metadata } : {}),
      clientInformation: await context.withSecret(server, held.client),
      refreshToken: held.refresh!,
      ...(held.resource === undefined ? {} : { resource: held.resource }),
      fetchFn: await context.tokenFetch(server, held),
    })
    const grant = grantOf(tokens, {
      asked: held.granted ?? held.scope,
      now: clock.now(),
      key: held.key,
      // What was bound once stays bound: a bearer token in its place would be a step down that nobody asked for.
      binding: held.key === undefined ? 'none' : 'required',
    })
    audit.addSecrets(masked(grant))
    return { ...held, ...grant, granted: grant.granted ?? held.granted }
  }

  const failed = async (server: LoginServer, key: LoginKey, row: LoginRow, error: unknown): Promise<LoginRow | undefined> => {
    const { held, version } = row
    if (!endsLogin(error) && !(error instanceof NotBound)) {
      await rows.release(key, version)
      if (notBefore.size >= MOST_KEPT) notBefore.clear()
      notBefore.set(keyText(key), clock.now() + BACKOFF_MS)
      if (expired(held, clock.now())) throw unavailable(held.issuer, error)
      return row
    }
    await rows.change(key, { ...held, over: true }, version)
    await record(server, key, 'ended', held)
    return await rows.read(key)
  }

  const awaitOther = async (key: LoginKey, version: number): Promise<LoginRow | undefined> => {
    const end = clock.now() + CLAIM_MS
    while (clock.now() < end) {
      const row = await rows.read(key)
      if (!row || row.version !== version) return row
      // It gave up: who would ask at once now would only be the next to fail.
      if (row.claimedUntil === null) throw unavailable(row.held.issuer, undefined)
      await new Promise<void>((wake) => clock.at(clock.now() + LOOK_MS, wake))
    }
    throw new ChaperoneError('upstream_timeout', 'The token for the MCP server is being refreshed, and that does not end.')
  }

  const record = (server: LoginServer, { subject }: LoginKey, what: string, { issuer }: HeldLogin) =>
    audit.append({ type: 'upstream.login', data: { what, server: { id: server.id, name: server.name }, subject, issuer } })

  const usable = async (server: LoginServer, key: LoginKey): Promise<LoginRow | undefined> => {
    let row = await read(key)
    if (!row || !fits(server, row)) return undefined
    if (due(row.held, clock.now())) {
      if ((notBefore.get(keyText(key)) ?? 0) <= clock.now()) row = await refresh(server, key, row)
      // Without a token it would look as if somebody had to log in.
      else if (expired(row.held, clock.now())) throw unavailable(row.held.issuer, undefined)
    }
    return row && fits(server, row) && !expired(row.held, clock.now()) ? row : undefined
  }

  const of: UpstreamLogins['of'] = (server, chain) => {
    const key = { resource: server.id, subject: subjectOf(server, chain) }
    return {
      async token() {
        const row = await usable(server, key)
        if (row) context.notes?.used(aboutLogin(key))
        return row && { value: row.held.access, prover: row.held.key && (await context.provers.of(row.held.key)) }
      },

      async refused(status, header, used) {
        const challenge = readChallenge(header)
        forget(key)
        const row = await read(key)
        const held = row && fits(server, row) ? row.held : undefined
        // Somebody has refreshed it, or logged in, since the request went out.
        if (held && held.access !== used && !expired(held, clock.now())) return true
        if (status === 403) {
          if (challenge?.error !== 'insufficient_scope') return false
          if (!held) heard.set(key, challenge)
          else await wantMore(server, key, row!, challenge.scope)
          throw loginRequired(server, key, context.places, challenge.scope)
        }
        // A token that is turned down as soon as it was given is not helped by another one.
        if (row && held && held.refresh !== undefined && !held.over && clock.now() - held.obtainedAt > BACKOFF_MS) {
          const next = await refresh(server, key, row, true)
          if (next && fits(server, next) && next.held.access !== used) return true
        }
        if (challenge) heard.set(key, challenge)
        throw loginRequired(server, key, context.places)
      },
    }
  }

  /** The next login asks for what it had and for this (SEP-2350); a refresh cannot widen what was granted (RFC 6749 section 6). */
  const wantMore = async (server: LoginServer, key: LoginKey, { held, version }: LoginRow, scope: string | undefined): Promise<void> => {
    const has = new Set(scopesOf(held.granted ?? held.scope))
    const lacks = scopesOf(scope).filter((one) => !has.has(one))
    if (lacks.length === 0) {
      throw new ChaperoneError('upstream_unavailable', `The MCP server ${server.name} refuses although the login has every scope that it names.`)
    }
    const wanted = scopesOf([held.wanted ?? '', ...lacks].join(' ')).join(' ')
    if (wanted !== held.wanted) await rows.change(key, { ...held, wanted }, version)
    forget(key)
  }

  return { of, forget }
}

const expired = ({ expiresAt }: HeldLogin, now: number): boolean => expiresAt !== undefined && expiresAt <= now

const due = ({ expiresAt, obtainedAt, refresh, over }: HeldLogin, now: number): boolean =>
  expiresAt !== undefined && refresh !== undefined && !over && expiresAt - now <= Math.min(AHEAD_MS, (expiresAt - obtainedAt) / 4)

/** Answers after which no other refresh will do better; everything else may be a passing fault. */
const endsLogin = (error: unknown): boolean =>
  error instanceof OAuthError && ['invalid_grant', 'invalid_client', 'unauthorized_client'].includes(error.code as string)

const unavailable = (issuer: string, error: unknown): ChaperoneError =>
  error instanceof ChaperoneError
    ? error
    : new ChaperoneError('upstream_unavailable', `The token cannot be refreshed at ${issuer}.`, {
        detail: error instanceof Error ? error.name : 'unknown',
      })

function loginRequired({ name, spec }: LoginServer, { subject }: LoginKey, places: LoginContext['places'], scope?: string): ChaperoneError {
  const more = scope === undefined ? '' : ` for ${scope.slice(0, 512)}`
  const fixed = scope !== undefined && spec.auth?.oauth?.scopes !== undefined
  return new LoginRequired(
    subject === '*'
      ? `The MCP server ${name} wants a login${more}, which an administrator must give.`
      : `The MCP server ${name} wants your own login${more}.`,
    {
      fix: `${fixed ? 'Add the scopes to the document of the server, then: ' : ''}chaperone mcp login ${name}`,
      // What everybody uses is given by an administrator, at a command line.
      link: subject === '*' || fixed || !places ? undefined : connectPage(places.web, name),
    },
  )
}
