import type { Credential } from '../../api/contract.ts'
import type { Limits } from '../../policy/types.ts'
import { type Api, openApi } from '../api.ts'
import { type Held, heldOf, type Issuer } from '../credential.ts'
import { makeKeyPair } from '../key-pair.ts'
import type { Profile } from '../profile.ts'

/** What a run asks for: the body of `POST /v1/runs` without its key. */
export interface RunAsk {
  /** Of a person: what runs, `boris/<client>`. An agent runs as itself. */
  readonly client?: string
  readonly profile?: string
  readonly limits?: Limits
  /** how long at the most: `1h` */
  readonly for?: string
  readonly purpose?: string
}

const REQUEST_MS = 5000

type Ended = Issuer & { skewMs(): number }

/** A session of its own for this run, made from the credential of who is signed in; it ends with the run. */
export function runIssuer(profile: Profile, ask: RunAsk): Ended {
  return issuerFrom((as) => begun(as, profile, ask))
}

async function begun(as: As, profile: Profile, ask: RunAsk): Promise<Held> {
  const { key, csr } = makeKeyPair()
  const credential = await as(profile, profile.bundles.server, (api) => api.call<Credential>('POST', '/v1/runs', { ...ask, csr }))
  return heldOf(profile.address, key, credential)
}

/** The session that joining brings: it is this run's alone, and ends with it. */
export function joinedIssuer(join: () => Promise<Profile>): Ended {
  return issuerFrom(async () => {
    const profile = await join()
    return { key: profile.key, certificate: profile.certificate, notAfter: profile.notAfter, profile }
  })
}

type As = <T>(
  held: { readonly key: string; readonly certificate: string } & ({ readonly profile: Profile } | Profile),
  authorities: string,
  work: (api: Api) => Promise<T>,
) => Promise<T>

function issuerFrom(begin: (as: As) => Promise<Held>): Ended {
  let skew = 0
  const as: As = async (held, authorities, work) => {
    const address = 'profile' in held ? held.profile.address : held.address
    const api = openApi({ address, authorities, identity: held, timeoutMs: REQUEST_MS })
    try {
      return await work(api)
    } finally {
      skew = api.skewMs ?? skew
      api.close()
    }
  }
  const call = (held: Held, path: string, body: unknown) => as(held, held.profile.bundles.server, (api) => api.call<Credential>('POST', path, body))
  return {
    skewMs: () => skew,
    begin: () => begin(as),
    renew: (held, csr) => call(held, '/v1/renew', { csr }),
    prove: async (held) => void (await call(held, '/v1/prove', {})),
    end: async (held) => void (await call(held, '/v1/logout', {})),
  }
}
