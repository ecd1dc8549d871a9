import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { ChaperoneError } from '../../errors.ts'
import type { Store } from '../../store/store.ts'
import type { Cookie } from '../browser.ts'
import { keepChallenges } from '../challenges.ts'

/** Somebody is on the way to a directory and back. Kept here, and used once; the browser has only a secret that says it is the same one. */
export interface Flow {
  readonly directory: string
  /** What the provider must be, as of when he left: a document that was changed meanwhile is another provider. */
  readonly issuer: string
  readonly clientId: string
  readonly redirect: string
  readonly nonce: string
  readonly verifier: string
  /** where to go afterwards: one of our own pages */
  readonly next: string
  /** He asked the provider for a sign-in of this moment. */
  readonly fresh: boolean
  /** He is signed in here, and wants the account to be his own. */
  readonly link?: { readonly identityId: string; readonly sessionId: string }
}

interface Kept extends Flow {
  readonly stateHash: string
  readonly browserHash: string
}

/** A person finds his telephone for the second factor at the directory within this. */
export const FLOW_MS = 10 * 60_000

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const same = (a: string, b: string) => timingSafeEqual(createHash('sha256').update(a).digest(), createHash('sha256').update(b).digest())
const secret = () => randomBytes(32).toString('base64url')

/** One answer for every cause: it was begun elsewhere, is over, or came back already. */
const lost = (detail: string) =>
  new ChaperoneError('directory_refused', 'This sign-in was not begun in this browser, took too long, or came back already.', {
    fix: 'Begin again on the sign-in page.',
    detail,
  })

export function keepFlows(store: Store, now: () => number) {
  const challenges = keepChallenges(store, now, { lifeMs: FLOW_MS })
  return {
    async begin(flow: Flow): Promise<{ readonly state: string; readonly cookie: Cookie }> {
      const [rest, browser] = [secret(), secret()]
      const kept: Kept = { ...flow, stateHash: sha256(rest), browserHash: sha256(browser) }
      const id = await challenges.put(undefined, { for: 'directory', kept })
      return { state: `${id}.${rest}`, cookie: { secret: browser, expiresAt: now() + FLOW_MS } }
    },

    /** What was begun with this `state` in this browser; it is used up, whatever comes of it. Throws `directory_refused`. */
    async take(state: string | null, browser: string | undefined): Promise<Flow> {
      const [id = '', rest = ''] = (state ?? '').split('.')
      if (!/^chl_[0-9a-z]{26}$/.test(id)) throw lost('no state')
      // Without the browser's half nothing is used up: who only knows the address must not end somebody else's sign-in.
      if (browser === undefined) throw lost('no cookie')
      const asked = (await challenges
        .take(undefined, id, (data) => isFlow(data) && same(data.kept.browserHash, sha256(browser)))
        .catch(() => undefined)) as { readonly kept: Kept } | undefined
      if (!asked) throw lost('unknown, used or of another browser')
      const { stateHash, browserHash: _, ...flow } = asked.kept
      if (!same(stateHash, sha256(rest))) throw lost('wrong state')
      return flow
    },
  }
}

const isFlow = (data: unknown): data is { readonly kept: Kept } => (data as { for?: unknown }).for === 'directory'
