import { mkdir } from 'node:fs/promises'
import { type Api, openApi } from '../client/api.ts'
import { openProfiles, type Profile } from '../client/profile.ts'
import { beginEnrolment } from '../client/sign-in.ts'
import { ChaperoneError } from '../errors.ts'
import { fromBase32, stepAt, totpCode } from '../signin/totp.ts'

const MINUTE = 60_000

/** A person of the demo: signed in for real, by invitation and second factor, with an authenticator that is a function. */
export interface Person {
  readonly name: string
  readonly profile: Profile
  /** $CHAPERONE_HOME of this person */
  readonly home: string
  readonly api: Api
  /** Gives a second factor, as chaperone would ask for it: when the last one has grown old, or `anew`. */
  freshFactor(anew?: 'anew'): Promise<void>
}

/** Signs a person in for the first time, as `chaperone login` does, and keeps the profile under `home`. */
export async function enrol(name: string, invitation: string, home: string): Promise<Person> {
  const enrolment = await beginEnrolment(invitation)
  const secret = fromBase32(enrolment.offer.totp.secret)
  if (!secret) throw new ChaperoneError('internal', 'The offered TOTP secret is not base32.')
  // A code works once, so each next one is of a later step; the server accepts one step ahead.
  let used = 0
  const nextCode = () => {
    used = Math.max(used + 1, stepAt(Date.now()))
    return totpCode(secret, used)
  }
  const profile = await enrolment.finish(nextCode()).finally(() => enrolment.close())
  await mkdir(home, { mode: 0o700 })
  await openProfiles(home).save(profile)
  const api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile })
  return {
    name,
    profile,
    home,
    api,
    // Enrolment was a second factor of a moment ago; only when that has grown old is another one needed.
    freshFactor: async (anew) => {
      const { session } = await api.call<{ session: { factorAt?: number } }>('GET', '/v1/whoami')
      if (anew || session.factorAt === undefined || session.factorAt < Date.now() - 4 * MINUTE)
        await api.call('POST', '/v1/factor', { code: nextCode() })
    },
  }
}
