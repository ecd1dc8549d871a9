import type { TestContext } from 'node:test'
import type { JWTPayload } from 'jose'
import { fakeAuthority } from '../../../test/fakes/authority.ts'
import { forgingIssuer } from '../../../test/fakes/forging-issuer.ts'
import type { Draft } from '../../audit/record.ts'
import { directorySpec } from '../../catalog/directory.ts'
import { ChaperoneError } from '../../errors.ts'
import { openIssuerKeys } from '../../identity/joining/issuer-keys.ts'
import { openOutgoing } from '../../vault/outbound.ts'
import { browserPlace } from '../place.fixture.ts'
import { openBackChannel } from './back-channel.ts'
import { openDirectories } from './directories.ts'
import { openProviders } from './openid.ts'
import { openRecheck } from './recheck.ts'
import { keepSignIns } from './sign-ins.ts'

const REDIRECT = 'https://chaperone.example.org/signin/with/company/callback'
export const EVENTS = { 'http://schemas.openid.net/event/backchannel-logout': {} }
export const RSA_512 = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-512' }
export const MINUTE = 60_000
export const authority = await fakeAuthority()

/** People who sign in at a provider that is told what to say, with what hears of their end. */
export async function place(t: TestContext, spec: Record<string, unknown> = {}) {
  const here = await browserPlace(t)
  // Real time, so that the tokens of the provider, and ours, are of one moment.
  here.clock.advance(Date.now() - here.clock.now())
  const forging = await forgingIssuer(authority)
  t.after(() => forging.close())
  const document = (more: Record<string, unknown>, name = 'company') =>
    here.directories.set(
      name,
      directorySpec.parse({
        ...{ issuer: forging.issuer, client_id: 'chaperone', client_secret: { secret: 'company' }, ca: authority.certificate },
        ...{ allow_private: true, create: true, ...spec, ...more },
      }),
    )
  document({})
  const signIns = keepSignIns(here)
  const outgoing = openOutgoing({ clock: here.clock, env: {} })
  const failures: string[] = []
  const record: { broken: boolean; before?: (() => Promise<void>) | undefined } = { broken: false }
  const audit = {
    async append(draft: Draft) {
      if (record.broken) throw new ChaperoneError('audit_unavailable', 'The record cannot be written, so nothing may happen.')
      await record.before?.()
      return here.audit.append(draft)
    },
  }
  const parts = {
    ...here,
    audit,
    raised: async () => {},
    administratorLeft: async () => {},
    told: async () => {},
    signIns,
    providers: openProviders({ outgoing, reveal: async () => 'a secret of the client', clock: here.clock }),
    documents: () => [...here.directories].map(([name, one]) => ({ name, spec: one })),
    failed: (error: Error) => void failures.push(error.message),
  }
  const directories = openDirectories(parts)
  const keys = openIssuerKeys({ open: ({ ca, allowPrivate }) => outgoing.asFetch({ ca, allowPrivate }), clock: here.clock })
  const channel = openBackChannel({ ...parts, keys, throttle: () => {}, log: () => {} })
  const arrive = async (claims: JWTPayload = {}) => {
    forging.claims = claims
    const { url, cookie } = await directories.begin('company', { redirect: REDIRECT, next: '/requests' })
    return directories.finish('company', new URL(`${REDIRECT}?${forging.approve(url)}`), cookie.secret)
  }
  /** There and back, into a browser: the id of the session. */
  const signIn = async (claims: JWTPayload = {}) => {
    const { identity, directory, subject, factor, signIn: id } = await arrive(claims)
    await here.browsers.begin(identity, { from: { directory, subject, factor, signIn: id } })
    const row = await here.store.db.selectFrom('sessions').select('id').where('joined', 'like', `%${id}%`).executeTakeFirstOrThrow()
    return { session: row.id, identity, signIn: id! }
  }
  let ids = 0
  const claims = (more: JWTPayload = {}): JWTPayload => {
    const now = Math.floor(here.clock.now() / 1000)
    return { iss: forging.issuer, aud: 'chaperone', iat: now, exp: now + 120, jti: `logout-${++ids}`, events: EVENTS, ...more }
  }
  const signOut = async (more: JWTPayload, header?: Record<string, unknown>) =>
    channel.signedOut('company', await forging.signed(JSON.parse(JSON.stringify(claims(more))), header))
  const over = async (session: string) =>
    (await here.store.db.selectFrom('sessions').select('end_reason').where('id', '=', session).executeTakeFirstOrThrow()).end_reason
  return { ...here, forging, document, directories, channel, arrive, signIn, claims, signOut, over, failures, record, recheck: openRecheck(parts) }
}

export const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error) => error.code,
  )
