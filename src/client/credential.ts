import type { Credential } from '../api/contract.ts'
import type { Clock } from '../clock.ts'
import { systemClock } from '../clock.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { type Api, openApi } from './api.ts'
import { type KeyPair, makeKeyPair } from './key-pair.ts'
import { type Profile, profileOf } from './profile.ts'
import type { SharedCredential } from './shared-credential.ts'

/** The servers side of keeping a credential: three requests, so that tests need no server. */
export interface Issuer {
  /** The first credential, with the key that it is for. */
  begin(): Promise<Held>
  /** A new one for the same session, asked for with the one that is held. */
  renew(held: Held, csr: string): Promise<Credential>
  /** Shows the credential over its own mTLS connection; that alone moves the deadline of what is connected (design 3.2). */
  prove(held: Held): Promise<void>
  /** Ends the session, so that what is left of the credential's life is worth nothing. Absent where the session is not ours alone. */
  end?(held: Held): Promise<void>
}

/** A credential in use. `profile` has the addresses and authorities that came with it. */
export interface Held {
  readonly key: string
  readonly certificate: string
  /** ms since 1970, by the server's clock */
  readonly notAfter: number
  readonly profile: Profile
}

export interface Keeper {
  /** The newest proven credential: for connections made from now on. */
  current(): Held
  /** Called with each new one, after it was proven. */
  onRenew(see: (held: Held) => void): void
  /** Aborted with a ChaperoneError when the credential has ended and could not be renewed. */
  readonly signal: AbortSignal
  /** Why the credential is no longer good, when the server says so; asked after a connection was cut without a word. */
  whyCut?(): Promise<ChaperoneError | undefined>
  close(): Promise<void>
}

export interface KeeperOptions {
  readonly clock?: Clock
  /** 0 (inclusive) to 1 (exclusive); spreads the renewals of many agents that began together */
  readonly random?: () => number
  readonly keyPair?: () => KeyPair
  /** Told of each renewal that failed; the next is tried by itself. */
  readonly onTrouble?: (error: ChaperoneError) => void
  /** server's clock minus ours, in ms */
  readonly skewMs?: () => number
  /** Set when other processes may begin with the same credential. */
  readonly shared?: SharedCredential
}

export function heldOf(address: string, key: string, credential: Credential): Held {
  return { key, certificate: credential.certificate, notAfter: credential.notAfter, profile: profileOf(address, key, credential) }
}

/** Three of them fit into the second half of the shortest life, 30 s. */
const REQUEST_MS = 5000
/** Renewed between 45 and 55 % of the life that is left. */
const JITTER = 0.1
const FIRST_RETRY_MS = 500
const LONGEST_RETRY_MS = 15_000

/** After these nothing will be renewed any more, so asking again only makes noise. */
const FINAL = new Set(['session_ended', 'identity_disabled', 'locked', 'credential_expired', 'credential_invalid', 'unauthenticated'])

/**
 * Keeps a credential of minutes alive for as long as its session lives: a new key and certificate at half life, proven
 * before it is used. Rejects when the first one cannot be had.
 */
export async function keepCredential(issuer: Issuer, options: KeeperOptions = {}): Promise<Keeper> {
  const clock = options.clock ?? systemClock
  const random = options.random ?? Math.random
  const keyPair = options.keyPair ?? makeKeyPair
  const now = () => clock.now() + (options.skewMs?.() ?? 0)
  const over = new AbortController()
  const watchers: ((held: Held) => void)[] = []
  let cancelTimer = () => {}
  let cancelDeadline = () => {}

  let held = await issuer.begin()
  /** Issued, and perhaps shown already: it takes the place of the one that is held. To renew that one again would look like a copy at work. */
  let next: Held | undefined

  const end = (error: ChaperoneError) => {
    cancelTimer()
    cancelDeadline()
    if (!over.signal.aborted) over.abort(error)
  }

  const wakeIn = (ms: number, wake: () => void) => clock.at(clock.now() + Math.max(0, ms), wake)

  const plan = () => {
    const left = held.notAfter - now()
    cancelDeadline()
    cancelDeadline = wakeIn(left, () => end(new ChaperoneError('credential_expired', 'The credential has ended and could not be renewed.')))
    // A certificate that reaches the end of its session is the last one. X.509 counts whole seconds, a session does not.
    if (held.profile.sessionUntil - held.notAfter < 1000) return
    cancelTimer()
    cancelTimer = wakeIn((left / 2) * (1 + JITTER * (random() - 0.5) * 2), () => void attempt(FIRST_RETRY_MS))
  }

  const attempt = async (retryMs: number): Promise<void> => {
    try {
      next ??= await renewed()
      await issuer.prove(next)
      if (over.signal.aborted) return
      held = next
      next = undefined
      plan()
      for (const see of watchers) see(held)
    } catch (cause) {
      if (over.signal.aborted) return
      const error = toChaperoneError(cause)
      options.onTrouble?.(error)
      if (FINAL.has(error.code)) return end(error)
      const wait = retryMs * (0.5 + random())
      if (now() + wait < held.notAfter) cancelTimer = wakeIn(wait, () => void attempt(Math.min(retryMs * 2, LONGEST_RETRY_MS)))
    }
  }

  const renewNow = async (): Promise<Held> => {
    const pair = keyPair()
    return heldOf(held.profile.address, pair.key, await issuer.renew(held, pair.csr))
  }

  const renewed = async (): Promise<Held> => {
    const { shared } = options
    if (!shared) return renewNow()
    return shared.exclusively(async () => {
      const there = await shared.read()
      // The agent has joined anew since, or is signed out: what is there is no longer ours.
      if (there?.profile.session !== held.profile.session) return renewNow()
      if (there.notAfter > held.notAfter) return there
      const fresh = await renewNow()
      // Saved before it is shown: until then the one before may be asked again, by whoever begins with it (a crash lies between).
      await shared.save(fresh)
      return fresh
    })
  }

  plan()
  return {
    current: () => held,
    onRenew: (see) => void watchers.push(see),
    signal: over.signal,
    async whyCut() {
      if (over.signal.aborted) return toChaperoneError(over.signal.reason)
      try {
        await issuer.prove(held)
        return undefined
      } catch (cause) {
        const error = toChaperoneError(cause)
        if (!FINAL.has(error.code)) return undefined
        end(error)
        return error
      }
    },
    async close() {
      if (over.signal.aborted) return
      end(new ChaperoneError('session_ended', 'Closed.'))
      // The server ends it anyway when the credential does: a failure here costs minutes at the most.
      await issuer.end?.(held).catch((error: unknown) => options.onTrouble?.(toChaperoneError(error)))
    },
  }
}

/**
 * The issuer of what runs at the user. A person's own credential is never used for tools (design 3.3): with a person's
 * profile it asks for an agent of that person, `boris/<client>`; an agent's own credential is used and renewed as it is.
 */
export function issuerOf(
  profile: Profile,
  ask: { readonly client: string; readonly purpose?: string; readonly profile?: string },
): Issuer & { skewMs(): number } {
  let skew = 0
  const as = async <T>(
    held: { readonly key: string; readonly certificate: string },
    authorities: string,
    work: (api: Api) => Promise<T>,
  ): Promise<T> => {
    const api = openApi({ address: profile.address, authorities, identity: held, timeoutMs: REQUEST_MS })
    try {
      return await work(api)
    } finally {
      skew = api.skewMs ?? skew
      api.close()
    }
  }
  const isPerson = profile.identity.kind === 'user'
  return {
    skewMs: () => skew,
    async begin() {
      if (!isPerson) return { key: profile.key, certificate: profile.certificate, notAfter: profile.notAfter, profile }
      const { key, csr } = makeKeyPair()
      const body = { client: ask.client, csr, ...(ask.purpose === undefined ? {} : { purpose: ask.purpose }) }
      // With less than he has himself: a session of its own, under limits that he wrote down.
      const [path, whole] = ask.profile === undefined ? ['/v1/clients', body] : ['/v1/runs', { ...body, profile: ask.profile }]
      return heldOf(profile.address, key, await as(profile, profile.bundles.server, (api) => api.call<Credential>('POST', path, whole)))
    },
    renew: (held, csr) => as(held, held.profile.bundles.server, (api) => api.call<Credential>('POST', '/v1/renew', { csr })),
    prove: (held) => as(held, held.profile.bundles.server, async (api) => void (await api.call('POST', '/v1/prove', {}))),
    // An agent's session belongs to whatever else runs as that agent, so only the one that was begun here is ended.
    ...(isPerson
      ? { end: (held: Held) => as(held, held.profile.bundles.server, async (api) => void (await api.call('POST', '/v1/logout', {}))) }
      : {}),
  }
}
