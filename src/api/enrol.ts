import { z } from 'zod'
import { TTL } from '../ca/types.ts'
import type { EnrolBegin, EnrolFinish, Join, Login } from './contract.ts'
import { credentialAnswer } from './credential.ts'
import type { ApiParts } from './parts.ts'
import { anonymous, type Route } from './route.ts'
import { codeText, csrText, duration, nameText, purposeText, secretText, ttlText } from './words.ts'

const SMALL = 64 * 1024
const proof = { by: 'proof' } as const

/** The ways in without a certificate. Each brings its own proof; `signin/` checks it. */
export function enrolRoutes(parts: ApiParts): readonly Route[] {
  const { signin } = parts
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
      handle: async ({ body }) => credentialAnswer(parts, await signin.login(body)),
    }),
    anonymous<Join>({
      method: 'POST',
      path: '/v1/join',
      who: proof,
      limit: SMALL,
      body: z.strictObject({ token: secretText, csr: csrText, purpose: purposeText.optional(), ttl: ttlText.optional() }),
      handle: async ({ body: { ttl, ...ask } }) =>
        credentialAnswer(parts, await signin.join({ ...ask, ...(ttl === undefined ? {} : { ttlMs: duration(ttl, TTL, 'A credential') }) })),
    }),
  ]
}
