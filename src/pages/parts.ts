import type { ApiParts } from '../api/parts.ts'
import type { BrowserSignin } from '../signin/browser.ts'
import type { Passkeys } from '../signin/passkey.ts'

/** Everything the pages need; put together by `server/`. */
export interface PagesParts
  extends Pick<
    ApiParts,
    'requests' | 'signin' | 'store' | 'state' | 'link' | 'places' | 'audit' | 'guard' | 'chaperone' | 'clock' | 'trustDomain' | 'log'
  > {
  readonly browsers: BrowserSignin
  readonly passkeys: Passkeys
}
