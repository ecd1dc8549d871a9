import { lockCopied } from '../identity/copied.ts'
import { makeLock } from '../identity/locks.ts'
import { makeThrottle } from '../network/throttle.ts'
import { type Oauth, type OauthParts, openOauth } from '../signin/oauth/oauth.ts'
import type { Write } from '../store/store.ts'
import type { LockTable } from '../store/tables.ts'
import { every } from './every.ts'

/** How often what the OAuth server kept, and is over, is thrown away. */
const SWEEP_MS = 60_000
/** A whole company may stand behind one address, and each of its clients refreshes every ten minutes. */
const CLIENTS = { burst: 300, perSecond: 20 }

/** Of clients that register themselves: a team that begins on one morning, and no more than a few dozen that nobody uses. */
const REGISTRATIONS = { burst: 30, perSecond: 1 / 60 }

/** Of one session; each is a lock for the minutes that its token would have lived. */
const GIVEN_BACK = { burst: 10, perSecond: 1 / 60 }

interface Parts extends Omit<OauthParts, 'throttle' | 'copied' | 'stopCredential'> {
  readonly raised: (epoch: number) => Promise<void>
  readonly told: (trx: Write, made: LockTable, name: string) => Promise<void>
}

/** The OAuth server, and what must be waited for when it stops. */
export function serveOauth(parts: Parts): { readonly oauth: Oauth; readonly stop: () => Promise<void> } {
  const { store, audit, clock, told, raised, log } = parts
  const givenBack = makeThrottle(clock, GIVEN_BACK)
  const oauth = openOauth({
    ...parts,
    throttle: { strangers: makeThrottle(clock), clients: makeThrottle(clock, CLIENTS), registrations: makeThrottle(clock, REGISTRATIONS) },
    async copied(session, credential) {
      const { epoch } = await lockCopied({ store, audit, clock, told }, session, credential)
      if (epoch !== undefined) await raised(epoch)
    },
    async stopCredential({ credentialId, notAfter, identityId, kind, name, sessionId }, reason) {
      // Every decision looks through the locks in force: one agent that takes tokens and gives them back is not to fill them.
      givenBack(sessionId)
      await audit.append({
        type: 'lock.made',
        actor: { id: identityId, kind, name },
        data: { kind: 'credential', target: credentialId, name: `a token of ${name}`, reason, expiresAt: notAfter },
      })
      const ask = { kind: 'credential', target: credentialId, reason, madeBy: 'given-back', expiresAt: notAfter } as const
      const { epoch } = await store.reduce((trx) => makeLock(trx, { ...ask, now: clock.now() }).then(() => undefined))
      await raised(epoch)
    },
  })
  const stop = every(
    clock,
    SWEEP_MS,
    () => oauth.sweep(),
    (error) => log(error, 'oauth'),
  )
  return { oauth, stop }
}
