import { createHash, randomBytes, randomInt } from 'node:crypto'
import type { AuditLog } from '../audit/record.ts'
import { readCsr } from '../ca/csr.ts'
import { type CertificateAuthority, TTL } from '../ca/types.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { findIdentity } from '../identity/directory.ts'
import { actingIn } from '../identity/named.ts'
import type { Factor, LiveSession, Sessions } from '../identity/types.ts'
import { newId } from '../ids.ts'
import { networkOf } from '../network/throttle.ts'
import type { Store } from '../store/store.ts'
import type { DeviceLoginTable } from '../store/tables-identity.ts'
import { holdSignInOf } from './directory/sign-ins.ts'
import { addDevice } from './enrol.ts'
import { nameOf } from './invited.ts'
import { issueCredential, type SignedIn } from './issue.ts'
import { whoGivesWay } from './places.ts'
import { recordRefusals } from './recorded.ts'
import { notVouched, type Standing, type StandingOf, tooLongAgo } from './standing.ts'

export const DEVICE_LIMITS = {
  lifeMs: 10 * 60_000,
  /** how long a yes waits for its terminal, which asks every few seconds: the factor that was given with it is of now */
  yesMs: 60_000,
  /** how often a terminal asks */
  intervalMs: 3_000,
  /** terminals that wait at once; beyond that one of whoever holds the most gives way */
  waiting: 1_000,
  /** of one subscriber, who has a whole /64 of IPv6 addresses */
  waitingOfNetwork: 10,
  /** wrong codes by one person */
  wrongCodes: 5,
} as const

/** RFC 8628 section 6.1: no vowels, so that it spells nothing, and nothing that looks like another letter. 20^8 = 2.5 * 10^10. */
const LETTERS = 'BCDFGHJKLMNPQRSTVWXZ'

/** What the person compares with his terminal, and what he reads of whoever asks. */
export interface Asking {
  readonly id: string
  readonly code: string
  /** address that the terminal asked from */
  readonly cameFrom: string
  /** host name, as it claims: nothing to rely on */
  readonly host: string
  readonly since: number
  readonly expiresAt: number
}

export interface DeviceSignin {
  /** A terminal wants to be signed in. Throws `too_many`. */
  begin(ask: { readonly csr: string; readonly host: string; readonly cameFrom: string }): Promise<{
    /** what it asks again with; known to nobody else */
    readonly device: string
    readonly code: string
    readonly expiresAt: number
    readonly intervalMs: number
  }>
  /** The terminal that waits with this secret, as whoever counts calls it. */
  knows(device: string): Promise<string | undefined>
  /** The terminal asks again. Throws `factor_invalid` when nobody said yes in time, or somebody said no. */
  poll(
    device: string,
  ): Promise<{ readonly state: 'pending' | 'slow_down'; readonly intervalMs: number } | { readonly state: 'signed in'; readonly as: SignedIn }>
  /** Who asks with this code. Throws `not_found`; `too_many` after five wrong ones. */
  look(session: LiveSession, code: string): Promise<Asking>
  /** What the person must give with his yes. */
  needs(session: LiveSession): Promise<Standing['needs']>
  /** He says yes or no. `factor`: what he gave with it, for this alone. Throws `not_found`, `factor_required`. */
  decide(session: LiveSession, id: string, verdict: 'yes' | 'no', factor: Factor | undefined): Promise<void>
}

export interface DeviceSigninParts {
  readonly store: Store
  readonly ca: Pick<CertificateAuthority, 'issueIdentity'>
  readonly sessions: Pick<Sessions, 'start' | 'mayStart'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly standingOf: StandingOf
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const LONGEST_HOST = 64
const gone = () =>
  new ChaperoneError('not_found', 'No terminal waits with this code.', {
    fix: 'Compare it with your terminal; a code lasts ten minutes. Begin again there if need be.',
  })
const refused = (why: string) => new ChaperoneError('factor_invalid', why, { fix: 'Run chaperone login again.' })

/** `bcdf-ghjk`, in any case, with or without the dash. Undefined when it cannot be a code. */
export function codeOf(text: string): string | undefined {
  const letters = text.toUpperCase().replace(/[\s-]+/g, '')
  return /^[BCDFGHJKLMNPQRSTVWXZ]{8}$/.test(letters) ? `${letters.slice(0, 4)}-${letters.slice(4)}` : undefined
}

/**
 * A terminal is signed in from a browser somewhere else, as RFC 8628 does it, at our own server. The certificate is for the key that was
 * shown at the beginning, so what the terminal asks again with is worth nothing to whoever overhears it.
 */
export function openDeviceSignin(parts: DeviceSigninParts): DeviceSignin {
  const { store, audit, clock, sessions, standingOf } = parts
  const recorded = recordRefusals(audit)
  /** Wrong codes by person. A node that starts again forgets them: codes have 34 bits and ten minutes. */
  const wrong = new Map<string, { count: number; until: number }>()

  async function guessed(identityId: string): Promise<never> {
    const now = clock.now()
    for (const [id, { until }] of wrong) if (until <= now) wrong.delete(id)
    const count = (wrong.get(identityId)?.count ?? 0) + 1
    wrong.set(identityId, { count, until: now + DEVICE_LIMITS.lifeMs })
    throw gone()
  }

  const asking = (row: DeviceLoginTable, code: string): Asking => ({
    id: row.id,
    code,
    cameFrom: row.came_from,
    host: row.host,
    since: row.created_at,
    expiresAt: row.expires_at,
  })

  return {
    needs: async (session) => (await standingOf(session)).needs,

    begin({ csr, host, cameFrom }) {
      return recorded('credential.refused', { data: { how: 'device' } }, async () => {
        const { spki } = readCsr(csr)
        const now = clock.now()
        const device = randomBytes(32).toString('base64url')
        const letters = Array.from({ length: 8 }, () => LETTERS[randomInt(LETTERS.length)]).join('')
        const code = codeOf(letters)!
        const expiresAt = now + DEVICE_LIMITS.lifeMs
        await store.write(async (trx) => {
          await trx.deleteFrom('device_logins').where('expires_at', '<=', now).execute()
          const all = await trx.selectFrom('device_logins').select(['id', 'came_from', 'created_at', 'state']).execute()
          const network = networkOf(cameFrom)
          const here = all.filter((row) => networkOf(row.came_from) === network)
          const waiting = all.filter((row) => row.state === 'waiting')
          const full = all.length >= DEVICE_LIMITS.waiting
          const most = full ? whoGivesWay(waiting.map((row) => ({ from: row.came_from, count: 1, since: row.created_at }))) : undefined
          if (here.length >= DEVICE_LIMITS.waitingOfNetwork || (full && !most))
            throw new ChaperoneError('too_many', 'Too many terminals wait to be signed in.', {
              fix: 'Wait ten minutes, or sign in with an invitation.',
            })
          const least = waiting.find((row) => row.came_from === most?.from && row.created_at === most.since)
          if (least) await trx.deleteFrom('device_logins').where('id', '=', least.id).execute()
          await trx
            .insertInto('device_logins')
            .values({
              id: newId('dvl', now),
              device_sha256: sha256(device),
              code_sha256: sha256(code),
              public_key: Buffer.from(spki),
              came_from: cameFrom,
              host: host.slice(0, LONGEST_HOST),
              state: 'waiting',
              identity_id: null,
              session_id: null,
              factor: null,
              last_asked_at: null,
              created_at: now,
              expires_at: expiresAt,
            })
            .execute()
        })
        return { device, code, expiresAt, intervalMs: DEVICE_LIMITS.intervalMs }
      })
    },

    async knows(device) {
      const row = await store.db.selectFrom('device_logins').select('id').where('device_sha256', '=', sha256(device)).executeTakeFirst()
      return row && `terminal ${row.id}`
    },

    async poll(device) {
      const now = clock.now()
      const hash = sha256(device)
      const row = await store.db
        .selectFrom('device_logins')
        .selectAll()
        .where('device_sha256', '=', hash)
        .where('expires_at', '>', now)
        .executeTakeFirst()
      if (!row) throw refused('Nobody said yes in time.')
      if (row.state === 'denied') {
        await store.write((trx) => trx.deleteFrom('device_logins').where('id', '=', row.id).execute())
        throw refused('The answer was no.')
      }
      if (row.state === 'waiting') {
        const early = row.last_asked_at !== null && now - row.last_asked_at < DEVICE_LIMITS.intervalMs / 2
        await store.write((trx) => trx.updateTable('device_logins').set({ last_asked_at: now }).where('id', '=', row.id).execute())
        return { state: early ? 'slow_down' : 'pending', intervalMs: DEVICE_LIMITS.intervalMs * (early ? 2 : 1) }
      }
      return recorded('credential.refused', { data: { how: 'device' } }, async () => {
        const identity = await findIdentity(store.db, { id: row.identity_id! })
        if (identity?.state !== 'active') throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
        const chain = [{ identity: identity.id }]
        await sessions.mayStart(chain)
        // The yes counts once: of two that ask at the same moment, one finds it.
        const used = await store.write((trx) =>
          trx.deleteFrom('device_logins').where('id', '=', row.id).where('state', '=', 'approved').returning('id').executeTakeFirst(),
        )
        if (!used) throw refused('This terminal was signed in already.')
        const from =
          row.session_id === null
            ? undefined
            : await store.db.selectFrom('sessions').select(['joined', 'ended_at']).where('id', '=', row.session_id).executeTakeFirst()
        // Whoever ends what a thief has in a browser ends what he said yes to there as well.
        if (from && from.ended_at !== null) throw refused('The session that said yes has ended since.')
        const session = await sessions.start({
          identityId: identity.id,
          chain,
          how: 'login',
          lifeMs: TTL.userMs,
          cameFrom: row.came_from,
          ...(row.factor === null ? {} : { factorGiven: row.factor as Factor }),
          ...(from?.joined ? { joined: JSON.parse(from.joined) } : {}),
          ...(row.session_id === null ? {} : { still: (trx) => holdSignInOf(trx, row.session_id!) }),
        })
        // With a code of his own he signs in again from here by that alone; without one this key is worth its certificate.
        if (row.factor === 'totp' || row.factor === 'passkey') await store.write((trx) => addDevice(trx, identity.id, row.public_key, now))
        const as = await issueCredential(parts, {
          identity: nameOf(identity),
          session,
          chain,
          spki: row.public_key,
          ttlMs: TTL.userMs,
          how: 'device',
        })
        return { state: 'signed in', as }
      })
    },

    async look(session, text) {
      const { identityId } = session.principal
      const before = wrong.get(identityId)
      if (before && before.count >= DEVICE_LIMITS.wrongCodes && before.until > clock.now())
        throw new ChaperoneError('too_many', 'Too many wrong codes.', { fix: 'Wait ten minutes.' })
      const code = codeOf(text)
      if (code === undefined) return guessed(identityId)
      const row = await store.db
        .selectFrom('device_logins')
        .selectAll()
        .where('code_sha256', '=', sha256(code))
        .where('state', '=', 'waiting')
        .where('expires_at', '>', clock.now())
        .executeTakeFirst()
      return row ? asking(row, code) : guessed(identityId)
    },

    async decide(session, id, verdict, factor) {
      const { principal } = session
      if (principal.kind !== 'user' || principal.chain.length > 1) throw gone()
      session.assertLive()
      const row = await store.db.selectFrom('device_logins').selectAll().where('id', '=', id).where('state', '=', 'waiting').executeTakeFirst()
      if (!row || row.expires_at <= clock.now()) throw gone()
      const who = actingIn(session, () => undefined)
      const { needs: asked, only } = await standingOf(session)
      const given = asked === 'directory' ? 'directory' : asked === 'factor' ? factor : undefined
      if (verdict === 'yes') {
        if (asked === 'factor' && factor === undefined) throw new ChaperoneError('factor_required', 'A code or a passkey is needed with your yes.')
        if (asked === 'again') throw tooLongAgo()
        if (asked === 'unvouched') throw notVouched(only)
        await audit.append({ type: 'factor.used', ...who, data: { how: 'device', from: row.came_from, host: row.host, factor: given ?? 'none' } })
      }
      const changes =
        verdict === 'yes'
          ? ({
              state: 'approved',
              identity_id: principal.identityId,
              session_id: session.id,
              factor: given ?? null,
              expires_at: Math.min(row.expires_at, clock.now() + DEVICE_LIMITS.yesMs),
            } as const)
          : ({ state: 'denied' } as const)
      const { numUpdatedRows } = await store.write((trx) =>
        trx.updateTable('device_logins').set(changes).where('id', '=', id).where('state', '=', 'waiting').executeTakeFirstOrThrow(),
      )
      if (numUpdatedRows !== 1n) throw gone()
    },
  }
}
