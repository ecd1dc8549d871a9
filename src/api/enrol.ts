import { z } from 'zod'
import { TTL } from '../ca/types.ts'
import type { EnrolBegin, EnrolFinish, Join, Login } from './contract.ts'
import { credentialAnswer } from './credential.ts'
import type { DeviceBegin, DevicePoll, DevicePolled } from './device-contract.ts'
import type { JoinBy } from './join-contract.ts'
import type { ApiParts } from './parts.ts'
import { anonymous, type Route } from './route.ts'
import { codeText, csrText, duration, nameText, purposeText, secretText, ttlText } from './words.ts'

const SMALL = 64 * 1024
const proof = { by: 'proof' } as const
const joinAsk = { csr: csrText, purpose: purposeText.optional(), ttl: ttlText.optional(), for: ttlText.optional() }
const joinBody = z.union([
  z.strictObject({ token: secretText, as: nameText.optional(), ...joinAsk }),
  z.strictObject({ join: z.string().min(1).max(64), proof: z.record(z.string().max(64), z.unknown()), ...joinAsk }),
])

/** The ways in without a certificate. Each brings its own proof; `signin/` checks it. */
export function enrolRoutes(parts: ApiParts): readonly Route[] {
  const { signin, devices, places } = parts
  return [
    anonymous<EnrolBegin>({
      method: 'POST',
      path: '/v1/enrol/begin',
      who: proof,
      limit: SMALL,
      body: z.strictObject({ secret: secretText }),
      handle: ({ body }) => signin.beginEnrol(body.secret),
    }),
    anonymous<EnrolFinish>({
      method: 'POST',
      path: '/v1/enrol/finish',
      who: proof,
      limit: SMALL,
      body: z.strictObject({ secret: secretText, csr: csrText, code: codeText }),
      handle: async ({ body }) => credentialAnswer(parts, await signin.finishEnrol(body)),
    }),
    anonymous<Login>({
      method: 'POST',
      path: '/v1/login',
      who: proof,
      limit: SMALL,
      body: z.strictObject({ name: nameText, csr: csrText, code: codeText }),
      knows: (body) => signin.knows(body),
      handle: async ({ body }) => credentialAnswer(parts, await signin.login(body)),
    }),
    anonymous<DeviceBegin>({
      method: 'POST',
      path: '/v1/device/begin',
      who: proof,
      limit: SMALL,
      body: z.strictObject({ csr: csrText, host: z.string().max(255) }),
      handle: async ({ body, remote }) => ({ ...(await devices.begin({ ...body, cameFrom: remote })), url: `https://${places.web}/device` }),
    }),
    anonymous<DevicePoll>({
      method: 'POST',
      path: '/v1/device/poll',
      who: proof,
      limit: SMALL,
      body: z.strictObject({ device: secretText }),
      knows: ({ device }) => devices.knows(device),
      async handle({ body }): Promise<DevicePolled> {
        const polled = await devices.poll(body.device)
        return polled.state === 'signed in' ? { state: polled.state, credential: await credentialAnswer(parts, polled.as) } : polled
      },
    }),
    anonymous<Join | JoinBy>({
      method: 'POST',
      path: '/v1/join',
      who: proof,
      limit: SMALL,
      body: joinBody,
      async handle({ body: { ttl, for: life, ...ask } }) {
        const { joins, ...signedIn } = await signin.join({
          ...ask,
          ...(ttl === undefined ? {} : { ttlMs: duration(ttl, TTL, 'A credential') }),
          ...(life === undefined ? {} : { lifeMs: duration(life, TTL, 'A run') }),
        })
        return { ...(await credentialAnswer(parts, signedIn)), ...(joins === undefined ? {} : { joins }) }
      },
    }),
    anonymous({
      method: 'POST',
      path: '/v1/join/challenge',
      who: proof,
      limit: SMALL,
      body: z.strictObject({}),
      handle: () => signin.challenge(),
    }),
  ]
}
