import { createHash, randomBytes } from 'node:crypto'
import type {
  AuthenticationResponseJSON,
  PublicKeyCredentialCreationOptionsJSON,
  PublicKeyCredentialRequestOptionsJSON,
  RegistrationResponseJSON,
} from '@simplewebauthn/server'
import { z } from 'zod'
import { hasFreshFactor } from '../access/administration.ts'
import type { AuditLog, Draft } from '../audit/record.ts'
import type { Clock } from '../clock.ts'
import { canonicalJson } from '../encoding/canonical-json.ts'
import { ChaperoneError } from '../errors.ts'
import { findIdentity } from '../identity/directory.ts'
import { actingIn } from '../identity/named.ts'
import type { LiveSession, Sessions } from '../identity/types.ts'
import type { Store } from '../store/store.ts'
import type { PasskeyTable } from '../store/tables-signin.ts'
import type { BrowserSignin, Coming, Cookie } from './browser.ts'
import { keepChallenges } from './challenges.ts'
import { nameOf } from './invited.ts'
import { recordRefusals } from './recorded.ts'
import type { OwnCounts } from './standing.ts'

/** Where the browser stands: passkeys belong to a host name, and answers say which page asked. */
export interface Place {
  readonly rpId: string
  /** `https://host[:port]` */
  readonly origin: string
}

export interface KnownPasskey {
  readonly id: string
  readonly name: string
  readonly createdAt: number
  readonly lastUsedAt?: number
}

/** A question for the browser's `navigator.credentials`, and the id by which it is answered. */
export interface Question<Options> {
  readonly challenge: string
  readonly options: Options
}

/**
 * Passkeys (WebAuthn level 3), always with user verification: what signs is a thing that the person has, opened by something he is or
 * knows, so it is both factors in one. Every question is answered once, within minutes.
 */
export interface Passkeys {
  /** For a person who has just given a second factor: a stolen cookie must not enrol a key of the thief. Throws `factor_required`, `too_many`. */
  startAdding(session: LiveSession, place: Place): Promise<Question<PublicKeyCredentialCreationOptionsJSON>>
  add(session: LiveSession, answer: Answer, name: string, place: Place): Promise<void>
  startSignIn(place: Place): Promise<Question<PublicKeyCredentialRequestOptionsJSON>>
  /** `browser`: the cookie of the browser, if it is known. Throws `factor_invalid`, whatever the cause; `too_many` where a role leaves no room. */
  signIn(answer: Answer, place: Place, coming?: Coming & { readonly browser?: string | undefined }): Promise<Cookie>
  /** Asks for a yes to exactly this: what is signed is a hash over it. `what` is plain JSON. */
  startFactor(session: LiveSession, what: unknown, place: Place): Promise<Question<PublicKeyCredentialRequestOptionsJSON>>
  /** The second factor of this session, given for exactly `what`. Throws `factor_invalid`. */
  factor(session: LiveSession, answer: Answer, what: unknown, place: Place): Promise<void>
  list(session: LiveSession): Promise<readonly KnownPasskey[]>
  remove(session: LiveSession, id: string): Promise<void>
}

export interface Answer {
  readonly challenge: string
  /** what the browser's `toJSON` made */
  readonly response: unknown
}

interface PasskeyParts {
  readonly store: Store
  readonly sessions: Pick<Sessions, 'factorGiven'>
  readonly browsers: Pick<BrowserSignin, 'begin'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly trustDomain: string
  readonly ownCounts: OwnCounts
}

const MOST_PASSKEYS = 10
const LONGEST_NAME = 64
/** EdDSA, ES256, RS256: what authenticators have. */
const ALGORITHMS = [-8, -7, -257]

const refused = (cause?: unknown) =>
  new ChaperoneError('factor_invalid', 'The passkey was not accepted.', { fix: 'Try again, or use a code of your authenticator app.', cause })

const text = z.string().max(16_384)
const common = { id: text, rawId: text, type: z.literal('public-key'), authenticatorAttachment: z.string().max(32).nullish() }
const assertion = z.object({
  ...common,
  response: z.object({ clientDataJSON: text, authenticatorData: text, signature: text, userHandle: text.nullish() }),
})
const attestation = z.object({
  ...common,
  response: z.object({ clientDataJSON: text, attestationObject: text, transports: z.array(z.string().max(32)).max(8).nullish() }),
})

interface SignInQuestion {
  readonly for: 'sign-in'
  readonly challenge: string
}
const isSignIn = (data: unknown): data is SignInQuestion => (data as { readonly for?: unknown }).for === 'sign-in'

/** Loaded when somebody uses a passkey: 150 ms that the start does not need. */
const webauthn = () => import('@simplewebauthn/server')

export function openPasskeys({ store, sessions, browsers, audit, clock, trustDomain, ownCounts }: PasskeyParts): Passkeys {
  const recorded = recordRefusals(audit)
  const challenges = keepChallenges(store, () => clock.now())

  const live = (identityId: string) =>
    store.db.selectFrom('passkeys').selectAll().where('identity_id', '=', identityId).where('revoked_at', 'is', null).orderBy('created_at').execute()

  /** Checks an assertion against the key that it names, and moves the key's counter. Returns the key. */
  async function check(
    answer: Answer,
    expectedChallenge: string,
    place: Place,
    identityId: string | undefined,
    who: Partial<Draft>,
  ): Promise<PasskeyTable> {
    const parsed = assertion.safeParse(answer.response)
    if (!parsed.success) throw refused(parsed.error)
    const response = parsed.data
    const row = await store.db.selectFrom('passkeys').selectAll().where('id', '=', response.id).where('revoked_at', 'is', null).executeTakeFirst()
    if (!row || (identityId !== undefined && row.identity_id !== identityId)) throw refused()
    const { userHandle } = response.response
    if (userHandle && Buffer.from(userHandle, 'base64url').toString() !== row.identity_id) throw refused()
    const { verifyAuthenticationResponse } = await webauthn()
    const { verified, authenticationInfo } = await verifyAuthenticationResponse({
      response: { ...response, clientExtensionResults: {} } as AuthenticationResponseJSON,
      expectedChallenge,
      expectedOrigin: place.origin,
      expectedRPID: place.rpId,
      // The counter is held below, in the row itself: two answers at once must not both be newer.
      credential: { id: row.id, publicKey: Uint8Array.from(row.public_key), counter: 0 },
      requireUserVerification: true,
    }).catch((error: unknown) => {
      throw refused(error)
    })
    if (!verified) throw refused()
    const counter = authenticationInfo.newCounter
    const { numUpdatedRows } = await store.write((trx) =>
      trx
        .updateTable('passkeys')
        .set({ counter, last_used_at: clock.now() })
        .where('id', '=', row.id)
        .where('revoked_at', 'is', null)
        // WebAuthn 7.2 step 22: a counter that does not rise is one of a copy. Keys that count nothing always say 0.
        .where('counter', counter === 0 ? '=' : '<', counter)
        .executeTakeFirstOrThrow(),
    )
    if (numUpdatedRows !== 1n) {
      await audit.append({
        type: 'factor.refused',
        ...who,
        data: { ...who.data, kind: 'passkey', passkey: row.id, reason: 'counter', counter, before: row.counter },
      })
      throw refused()
    }
    return row
  }

  const digestOf = (session: LiveSession, nonce: string, what: unknown) =>
    createHash('sha256')
      .update(canonicalJson({ nonce, session: session.id, what }))
      .digest()

  return {
    async startAdding(session, { rpId }) {
      const { principal } = session
      if (principal.kind !== 'user' || principal.chain.length > 1) throw refused()
      if (!hasFreshFactor(session, clock.now())) throw new ChaperoneError('factor_required', 'A code of your authenticator app is needed for this.')
      const keys = await live(principal.identityId)
      if (keys.length >= MOST_PASSKEYS)
        throw new ChaperoneError('too_many', `You have ${MOST_PASSKEYS} passkeys already.`, { fix: 'Remove one that you no longer use.' })
      const { generateRegistrationOptions } = await webauthn()
      const options = await generateRegistrationOptions({
        rpName: `Chaperone ${trustDomain}`,
        rpID: rpId,
        userName: principal.name,
        userDisplayName: principal.name,
        userID: Uint8Array.from(Buffer.from(principal.identityId)),
        attestationType: 'none',
        excludeCredentials: keys.map(({ id, transports }) => ({ id, transports: JSON.parse(transports) as string[] })),
        authenticatorSelection: { residentKey: 'required', requireResidentKey: true, userVerification: 'required' },
        supportedAlgorithmIDs: ALGORITHMS,
      })
      const challenge = await challenges.put(principal.identityId, { for: 'add', session: session.id, challenge: options.challenge })
      return { challenge, options }
    },

    async add(session, answer, name, { rpId, origin }) {
      const { identityId } = session.principal
      const who = { ...actingIn(session, () => undefined), data: { kind: 'passkey' } }
      await recorded('factor.refused', who, async () => {
        const asked = (await challenges.take(identityId, answer.challenge)) as { for: string; session: string; challenge: string }
        if (asked.for !== 'add' || asked.session !== session.id) throw refused()
        const parsed = attestation.safeParse(answer.response)
        if (!parsed.success) throw refused(parsed.error)
        const { verifyRegistrationResponse } = await webauthn()
        const { verified, registrationInfo } = await verifyRegistrationResponse({
          response: { ...parsed.data, clientExtensionResults: {} } as unknown as RegistrationResponseJSON,
          expectedChallenge: asked.challenge,
          expectedOrigin: origin,
          expectedRPID: rpId,
          requireUserVerification: true,
          supportedAlgorithmIDs: ALGORITHMS,
        }).catch((error: unknown) => {
          throw refused(error)
        })
        if (!verified || !registrationInfo) throw refused()
        if ((await live(identityId)).length >= MOST_PASSKEYS) throw new ChaperoneError('too_many', `You have ${MOST_PASSKEYS} passkeys already.`)
        const { credential } = registrationInfo
        const called = name.trim().slice(0, LONGEST_NAME) || 'passkey'
        await audit.append({ type: 'factor.enrolled', ...who, data: { kind: 'passkey', passkey: credential.id, name: called } })
        await store.write(async (trx) => {
          const { numInsertedOrUpdatedRows } = await trx
            .insertInto('passkeys')
            .values({
              id: credential.id,
              identity_id: identityId,
              public_key: Buffer.from(credential.publicKey),
              counter: credential.counter,
              transports: JSON.stringify(parsed.data.response.transports ?? []),
              name: called,
              created_at: clock.now(),
              last_used_at: null,
              revoked_at: null,
            })
            .onConflict((conflict) => conflict.doNothing())
            .executeTakeFirstOrThrow()
          if (numInsertedOrUpdatedRows !== 1n) throw refused()
        })
      })
    },

    async startSignIn({ rpId }) {
      const { generateAuthenticationOptions } = await webauthn()
      const options = await generateAuthenticationOptions({ rpID: rpId, userVerification: 'required' })
      const challenge = await challenges.put(undefined, { for: 'sign-in', challenge: options.challenge })
      return { challenge, options }
    },

    signIn(answer, place, coming) {
      const data = { how: 'passkey' }
      return recorded('credential.refused', { data }, async () => {
        // Strangers on their way to a directory stand among these questions as well, and whoever knows the address of one must not end it.
        const asked = (await challenges.take(undefined, answer.challenge, isSignIn)) as SignInQuestion
        const key = await check(answer, asked.challenge, place, undefined, { data })
        const identity = await findIdentity(store.db, { id: key.identity_id })
        if (identity?.kind !== 'user' || identity.state !== 'active') throw refused()
        await audit.append({ type: 'factor.used', actor: nameOf(identity), data: { ...data, passkey: key.id } })
        return browsers.begin(identity, coming)
      })
    },

    async startFactor(session, what, { rpId }) {
      const { identityId } = session.principal
      const keys = await live(identityId)
      const nonce = randomBytes(32).toString('base64url')
      const { generateAuthenticationOptions } = await webauthn()
      const options = await generateAuthenticationOptions({
        rpID: rpId,
        challenge: Uint8Array.from(digestOf(session, nonce, what)),
        userVerification: 'required',
        allowCredentials: keys.map(({ id, transports }) => ({ id, transports: JSON.parse(transports) as string[] })),
      })
      return { challenge: await challenges.put(identityId, { for: 'factor', nonce }), options }
    },

    async factor(session, answer, what, place) {
      const { principal } = session
      const who = { ...actingIn(session, () => undefined), data: { kind: 'passkey' } }
      const key = await recorded('factor.refused', who, async () => {
        // What acts for a person never speaks with his second factor (design 3.3).
        if (principal.kind !== 'user' || principal.chain.length > 1) throw refused()
        session.assertLive()
        await ownCounts(principal.identityId)
        const asked = (await challenges.take(principal.identityId, answer.challenge)) as { for: string; nonce: string }
        if (asked.for !== 'factor') throw refused()
        // Not the hash that was asked for then, but that of what is to be done now: another byte, and the signature is of something else.
        return check(answer, digestOf(session, asked.nonce, what).toString('base64url'), place, principal.identityId, who)
      })
      await audit.append({
        type: 'factor.used',
        ...who,
        data: { kind: 'passkey', passkey: key.id, what: createHash('sha256').update(canonicalJson(what)).digest('hex') },
      })
      await sessions.factorGiven(session.id, 'passkey')
    },

    async list({ principal }) {
      const keys = await live(principal.identityId)
      return keys.map(({ id, name, created_at, last_used_at }) => ({
        id,
        name,
        createdAt: created_at,
        ...(last_used_at === null ? {} : { lastUsedAt: last_used_at }),
      }))
    },

    async remove(session, id) {
      const key = (await live(session.principal.identityId)).find((one) => one.id === id)
      if (!key) throw new ChaperoneError('not_found', 'There is no such passkey.')
      await audit.append({ type: 'factor.removed', ...actingIn(session, () => undefined), data: { kind: 'passkey', passkey: id, name: key.name } })
      await store.write((trx) => trx.updateTable('passkeys').set({ revoked_at: clock.now() }).where('id', '=', id).execute())
    },
  }
}
