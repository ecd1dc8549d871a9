import { hostname } from 'node:os'
import type { DeviceBegin, DeviceBegun, DevicePoll, DevicePolled } from '../api/device-contract.ts'
import { type Clock, systemClock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { parseServer } from '../identity/invitations.ts'
import { openApi } from './api.ts'
import { fetchAuthority } from './first-contact.ts'
import { makeKeyPair } from './key-pair.ts'
import { type Profile, profileOf } from './profile.ts'
import { sleepAwake } from './sleep.ts'

/** A terminal that waits to be signed in from a browser. */
export interface DeviceSignIn extends Pick<DeviceBegun, 'code' | 'url' | 'expiresAt'> {
  /** The same address with the code in it: for a browser on this very machine. */
  readonly urlWithCode: string
  /** Resolves when somebody has said yes. Throws `factor_invalid` when nobody did, or somebody said no. */
  finish(stop: AbortSignal): Promise<Profile>
  close(): void
}

/** Where to sign in: a server that this machine knows, or the line that names one (`chaperone://host:port?ca=hash`). */
export async function serverOf(
  given: string | undefined,
  known: () => Promise<Profile>,
): Promise<{ readonly address: string; readonly authorities: string }> {
  if (given === undefined) {
    const profile = await known()
    return { address: profile.address, authorities: profile.bundles.server }
  }
  // What names a server for agents to join (`&for=`) names it for people as well: for whom a proof is made does not matter here.
  const server = parseServer(given.trim().replace(/&for=[^&#\s]{1,600}$/, ''))
  if (!server)
    throw new ChaperoneError('usage', 'This does not name a server: it looks like chaperone://host:port?ca=hash.', {
      fix: 'The page https://<web address>/device shows the whole line.',
    })
  return { address: server.address, authorities: await fetchAuthority(server) }
}

/** The key is made here, and shown before anybody says yes: the certificate will be for it and for no other. */
export async function beginDeviceSignIn(
  { address, authorities }: { readonly address: string; readonly authorities: string },
  clock: Clock = systemClock,
): Promise<DeviceSignIn> {
  const api = openApi({ address, authorities })
  const pair = makeKeyPair()
  try {
    const begin: DeviceBegin = { csr: pair.csr, host: hostname().slice(0, 64) }
    const { device, code, url, expiresAt, intervalMs } = await api.call<DeviceBegun>('POST', '/v1/device/begin', begin)
    return {
      code,
      url,
      expiresAt,
      urlWithCode: `${url}?code=${code}`,
      async finish(stop) {
        let waitMs = intervalMs
        for (;;) {
          await sleepAwake(clock, waitMs, stop)
          if (stop.aborted) throw new ChaperoneError('factor_required', 'You stopped before anybody had said yes; you are not signed in here.')
          const poll: DevicePoll = { device }
          const polled = await api.call<DevicePolled>('POST', '/v1/device/poll', poll)
          if (polled.state === 'signed in') return profileOf(address, pair.key, polled.credential)
          waitMs = polled.intervalMs
        }
      },
      close: () => api.close(),
    }
  } catch (error) {
    api.close()
    throw error
  }
}
