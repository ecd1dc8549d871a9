import type { ApiParts } from '../api/parts.ts'
import type { BrowserSignin } from '../signin/browser.ts'
import type { DeviceSignin } from '../signin/device.ts'
import type { Directories } from '../signin/directory/directories.ts'
import type { SecondStep } from '../signin/directory/second-step.ts'
import type { Oauth } from '../signin/oauth/oauth.ts'
import type { Passkeys } from '../signin/passkey.ts'
import type { StandingOf } from '../signin/standing.ts'

/** Everything the pages need; put together by `server/`. */
export interface PagesParts
  extends Pick<
    ApiParts,
    | 'logins'
    | 'sessions'
    | 'requests'
    | 'signin'
    | 'guesses'
    | 'store'
    | 'state'
    | 'link'
    | 'places'
    | 'audit'
    | 'guard'
    | 'chaperone'
    | 'clock'
    | 'trustDomain'
    | 'log'
  > {
  readonly browsers: BrowserSignin
  readonly passkeys: Passkeys
  readonly directories: Directories
  readonly secondStep: SecondStep
  readonly devices: DeviceSignin
  readonly standingOf: StandingOf
  readonly oauth: Pick<Oauth, 'waiting' | 'ask' | 'agree' | 'refuse'>
}
