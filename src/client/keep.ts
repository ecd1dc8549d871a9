import { systemClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { issuerOf, type Keeper, keepCredential } from './credential.ts'
import type { Profile } from './profile.ts'
import { sharedCredential } from './shared-credential.ts'

/** Throws `credential_expired`, with how whoever it is signs in again: the server would only say that the certificate is over. */
export function assertSignedIn(profile: Profile): void {
  if (profile.certificate === '' || profile.notAfter <= systemClock.now()) {
    throw new ChaperoneError('credential_expired', `You are no longer signed in as ${profile.identity.name}.`, {
      fix:
        profile.identity.kind === 'user'
          ? 'Sign in again with: chaperone login'
          : 'An agent signs in again with a new join token: chaperone agent join TOKEN',
    })
  }
}

/** A live credential for tools: an agent of the person whose profile it is, or the agent itself. `file`: where the profile lies. */
export async function keepAs(
  profile: Profile,
  file: string,
  ask: { readonly client: string; readonly purpose?: string | undefined; readonly profile?: string | undefined },
  say: (line: string) => void,
): Promise<Keeper> {
  assertSignedIn(profile)
  const { client, purpose, profile: narrowed } = ask
  const issuer = issuerOf(profile, {
    client,
    ...(purpose === undefined ? {} : { purpose }),
    ...(narrowed === undefined ? {} : { profile: narrowed }),
  })
  return keepCredential(issuer, {
    skewMs: issuer.skewMs,
    onTrouble: (error) => say(`the credential could not be renewed: ${error.message}`),
    // What starts later as the same agent begins with the newest credential, not with one that has ended by then.
    ...(profile.identity.kind === 'user' ? {} : { shared: sharedCredential(file) }),
  })
}
