import { FACTOR_FRESH_MS } from '../access/administration.ts'
import type { AuditLog } from '../audit/record.ts'
import { readCsr } from '../ca/csr.ts'
import { type CertificateAuthority, TTL } from '../ca/types.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { findIdentity, type IdentityRecord } from '../identity/directory.ts'
import { lookAtInvitation } from '../identity/invitations.ts'
import type { Joining } from '../identity/joining/joins.ts'
import type { LiveSession, Sessions, StartSession } from '../identity/types.ts'
import { newId } from '../ids.ts'
import type { Keyring } from '../keys/types.ts'
import type { Store, Write } from '../store/store.ts'
import { factorInvalid, offerFactor, verifyFactor } from './factor.ts'
import { acceptInvitation, invited, nameOf } from './invited.ts'
import { issueCredential, type SignedIn } from './issue.ts'
import { type JoinByProof, type JoinByToken, type JoinedIn, openJoin } from './join.ts'
import { recordRefusals } from './recorded.ts'
import { doesCount, type OwnCounts } from './standing.ts'
import { otpauthUri, toBase32 } from './totp.ts'

export interface SigninParts {
  readonly store: Store
  readonly keyring: Keyring
  readonly ca: Pick<CertificateAuthority, 'issueIdentity'>
  readonly sessions: Pick<Sessions, 'start' | 'mayStart' | 'factorGiven' | 'end'>
  readonly joining: Joining
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly trustDomain: string
  readonly ownCounts: OwnCounts
}

export interface Offer {
  readonly name: string
  readonly trustDomain: string
  /** base 32, and the line behind the QR code */
  readonly totp: { readonly secret: string; readonly uri: string }
}

/** First contact and return. Every success and every refusal is a record; what is used up is recorded first. */
export interface Signin {
  /** Looks at the invitation, without using it up, and offers a TOTP secret to enrol. Throws `invitation_invalid`. */
  beginEnrol(secret: string): Promise<Offer>
  /** Uses the invitation up: device and factor are enrolled, a session begins. Throws `invitation_invalid`, `factor_invalid`, `issue_refused`. */
  finishEnrol(ask: { readonly secret: string; readonly csr: string; readonly code: string }): Promise<SignedIn>
  /** A CSR signed by an enrolled device's key, and a code. Throws `factor_invalid`, whichever of name, device and code was wrong. */
  login(ask: { readonly name: string; readonly csr: string; readonly code: string }): Promise<SignedIn>
  /** The device of this person that made the CSR, as whoever counts calls it; undefined for any other. */
  knows(ask: { readonly name: string; readonly csr: string }): Promise<string | undefined>
  /** An agent comes in, by a one-time token or by what a document wants shown. Throws `invitation_invalid`, `join_refused`, `issue_refused`. */
  join(ask: JoinByToken | JoinByProof): Promise<JoinedIn>
  /** What a proof must hold that is made for this moment. */
  challenge(): Promise<{ readonly nonce: string; readonly notAfter: number }>
  /** A second factor inside a person's own session. Returns until when it counts (ms since 1970). Throws `factor_invalid`. */
  factor(session: LiveSession, code: string): Promise<{ readonly until: number }>
}

/** A person's laptops and workstations; beyond that the oldest is forgotten. */
const MOST_DEVICES = 10

/** One answer for a wrong name, device and code: nobody learns names here. */
const signinRefused = (cause?: unknown) =>
  new ChaperoneError('factor_invalid', 'The name, the device or the code is not right.', {
    fix: 'Check the name and wait for the next code; a new device needs an invitation.',
    cause,
  })

export function openSignin(parts: SigninParts): Signin {
  const { store, keyring, audit, clock, sessions, trustDomain, ownCounts } = parts

  const recorded = recordRefusals(audit)

  async function begin(
    identity: IdentityRecord,
    spki: Uint8Array,
    ttlMs: number,
    ask: Pick<StartSession, 'how' | 'lifeMs' | 'purpose' | 'factorGiven' | 'issuerId'>,
  ): Promise<SignedIn> {
    const named = nameOf(identity)
    const chain = [{ identity: identity.id }]
    const session = await sessions.start({ identityId: identity.id, chain, ...ask })
    const issuer = ask.issuerId === undefined ? {} : { issuerId: ask.issuerId }
    return issueCredential(parts, { identity: named, session, chain, spki, ttlMs, how: ask.how, ...issuer })
  }

  /** Name and device in one query: a wrong name takes as long as a wrong device. */
  const deviceOf = (name: string, spki: Uint8Array) =>
    store.db
      .selectFrom('devices')
      .innerJoin('identities', 'identities.id', 'devices.identity_id')
      .select(['devices.id', 'identities.id as identityId'])
      .where('devices.public_key', '=', Buffer.from(spki))
      .where('devices.revoked_at', 'is', null)
      .where('identities.name', '=', name)
      .where('identities.kind', '=', 'user')
      .executeTakeFirst()

  return {
    beginEnrol(secret) {
      return recorded('credential.refused', { data: { how: 'enrol' } }, async () => {
        const invitation = await lookAtInvitation(store.db, secret, 'invitation', clock.now())
        const { name } = await invited(store, invitation, 'user')
        const totp = await offerFactor(store, keyring, invitation, clock.now())
        return { name, trustDomain, totp: { secret: toBase32(totp), uri: otpauthUri(`Chaperone ${trustDomain}`, name, totp) } }
      })
    },

    finishEnrol({ secret, csr, code }) {
      return recorded('credential.refused', { data: { how: 'enrol' } }, async () => {
        const { spki } = readCsr(csr)
        const identity = await acceptInvitation(parts, recorded, { secret, code }, (trx, { id }) => addDevice(trx, id, spki, clock.now()))
        const counts = await doesCount(ownCounts, identity.id)
        return begin(identity, spki, TTL.userMs, { how: 'enrol', lifeMs: TTL.userMs, ...(counts ? { factorGiven: true } : {}) })
      })
    },

    login({ name, csr, code }) {
      // What a stranger typed is recorded cut, so that records stay small.
      return recorded('credential.refused', { data: { how: 'login', name: name.slice(0, 64) } }, async () => {
        const { spki } = readCsr(csr)
        // Without the device nobody gets to guess codes, or to close a person's factor by guessing.
        const device = await deviceOf(name, spki)
        const identity = device && (await findIdentity(store.db, { id: device.identityId }))
        if (!identity) throw signinRefused()
        const actor = nameOf(identity)
        await recorded('factor.refused', { actor, data: { how: 'login' } }, () =>
          verifyFactor(store, keyring, identity.id, code, clock).catch((error: unknown) => {
            throw error instanceof ChaperoneError && error.code === 'factor_invalid' ? signinRefused(error) : error
          }),
        )
        if (identity.state !== 'active') throw new ChaperoneError('identity_disabled', 'The identity is disabled or deleted.')
        await ownCounts(identity.id)
        await audit.append({ type: 'factor.used', actor, data: { how: 'login' } })
        return begin(identity, spki, TTL.userMs, { how: 'login', lifeMs: TTL.userMs, factorGiven: true })
      })
    },

    async knows({ name, csr }) {
      let spki: Uint8Array
      try {
        spki = readCsr(csr).spki
      } catch (error) {
        // What is wrong with it is said when it is counted.
        if (error instanceof ChaperoneError) return undefined
        throw error
      }
      const device = await deviceOf(name, spki)
      return device && `device ${device.id}`
    },

    join: openJoin(parts),

    challenge: () => parts.joining.challenge(),

    async factor(session, code) {
      const { principal } = session
      const who = {
        actor: { id: principal.identityId, name: principal.name, kind: principal.kind },
        session: session.id,
        credential: principal.credentialId,
      }
      await recorded('factor.refused', who, async () => {
        // What acts for a person never speaks with his second factor (design 3.3), whoever typed the code.
        if (principal.kind !== 'user' || principal.chain.length > 1) throw factorInvalid()
        session.assertLive()
        await ownCounts(principal.identityId)
        await verifyFactor(store, keyring, principal.identityId, code, clock)
      })
      await audit.append({ type: 'factor.used', ...who })
      const until = clock.now() + FACTOR_FRESH_MS
      await sessions.factorGiven(session.id, 'totp')
      return { until }
    },
  }
}

export async function addDevice(trx: Write, identityId: string, spki: Uint8Array, now: number): Promise<void> {
  const live = await trx
    .selectFrom('devices')
    .select('id')
    .where('identity_id', '=', identityId)
    .where('revoked_at', 'is', null)
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .execute()
  const surplus = live.slice(MOST_DEVICES - 1).map(({ id }) => id)
  if (surplus.length > 0) await trx.updateTable('devices').set({ revoked_at: now }).where('id', 'in', surplus).execute()
  await trx
    .insertInto('devices')
    .values({ id: newId('dev', now), identity_id: identityId, public_key: Buffer.from(spki), created_at: now, revoked_at: null })
    .execute()
}
