import type { ChaperoneError } from '../errors.ts'
import { openIssuerKeys } from '../identity/joining/issuer-keys.ts'
import type { DeviceSigninParts } from '../signin/device.ts'
import { openDeviceSignin } from '../signin/device.ts'
import { openBackChannel } from '../signin/directory/back-channel.ts'
import { type DirectoriesParts, openDirectories } from '../signin/directory/directories.ts'
import { openProviders, type ProvidersParts } from '../signin/directory/openid.ts'
import { openRecheck, type RecheckParts } from '../signin/directory/recheck.ts'
import { openSecondStep } from '../signin/directory/second-step.ts'
import { keepSignIns } from '../signin/directory/sign-ins.ts'
import { createScim, type ScimParts } from '../signin/scim/app.ts'

interface CompanyParts
  extends Omit<DirectoriesParts, 'providers' | 'signIns'>,
    ProvidersParts,
    DeviceSigninParts,
    Pick<RecheckParts, 'keyring'>,
    Pick<ScimParts, 'places' | 'administratorLeft' | 'told'> {
  readonly sessions: DirectoriesParts['sessions'] & DeviceSigninParts['sessions']
  readonly guesses: (address: string, door: string) => void
  readonly log: (error: ChaperoneError, where: string) => void
}

/** People who come by the company's directories: how they sign in, in a browser and in a terminal, and what the directories say of them. */
export function openCompany(parts: CompanyParts) {
  const providers = openProviders(parts)
  const signIns = keepSignIns(parts)
  const open = ({ ca, allowPrivate }: { readonly ca?: string | undefined; readonly allowPrivate: boolean }) =>
    parts.outgoing.asFetch({ ca, allowPrivate })
  return {
    devices: openDeviceSignin(parts),
    directories: openDirectories({ ...parts, providers, signIns }),
    backChannel: openBackChannel({
      ...parts,
      signIns,
      keys: openIssuerKeys({ open, clock: parts.clock }),
      throttle: (address) => parts.guesses(address, 'logout'),
    }),
    recheck: openRecheck({ ...parts, providers, signIns, failed: (error) => parts.log(error, 'recheck') }),
    secondStep: openSecondStep(parts),
    standingOf: parts.standingOf,
    scim: createScim({ ...parts, throttle: (address) => parts.guesses(address, 'scim') }),
  }
}
