import type { ChaperoneError } from '../errors.ts'
import type { DeviceSigninParts } from '../signin/device.ts'
import { openDeviceSignin } from '../signin/device.ts'
import { type DirectoriesParts, openDirectories } from '../signin/directory/directories.ts'
import { openProviders, type ProvidersParts } from '../signin/directory/openid.ts'
import { openSecondStep } from '../signin/directory/second-step.ts'
import { createScim, type ScimParts } from '../signin/scim/app.ts'

interface CompanyParts
  extends Omit<DirectoriesParts, 'providers'>,
    ProvidersParts,
    DeviceSigninParts,
    Pick<ScimParts, 'places' | 'administratorLeft' | 'told'> {
  readonly sessions: DirectoriesParts['sessions'] & DeviceSigninParts['sessions']
  readonly guesses: (address: string, door: string) => void
  readonly log: (error: ChaperoneError, where: string) => void
}

/** People who come by the company's directories: how they sign in, in a browser and in a terminal, and what the directories say of them. */
export function openCompany(parts: CompanyParts) {
  return {
    devices: openDeviceSignin(parts),
    directories: openDirectories({ ...parts, providers: openProviders(parts) }),
    secondStep: openSecondStep(parts),
    standingOf: parts.standingOf,
    scim: createScim({ ...parts, throttle: (address) => parts.guesses(address, 'scim') }),
  }
}
