import { z } from 'zod'
import type { JoinMethod, KeyPlace } from './method.ts'
import { claimsOfToken, issuerBlock, placeFaults, tokenProof, verifyWorkloadToken } from './workload-token.ts'

const issuer = z
  .url({ protocol: /^https$/ })
  .max(512)
  .describe('exactly as `iss` of its tokens; its keys are found by discovery')
const once = z.boolean().default(true).describe('each token lets in once; `false` where a workload has the same one for a while')

export const oidcSpec = z.strictObject({ issuer, once, ...issuerBlock })

export type IssuerSpec = z.infer<typeof oidcSpec>

export const placeOf = ({ issuer, jwks, ca, allow_private }: Omit<IssuerSpec, 'once'>): KeyPlace => ({
  issuer,
  jwks,
  ca,
  allowPrivate: allow_private,
})

/** Every issuer of signed tokens: a CI, a cloud, a SPIRE server, one's own. */
export const oidc: JoinMethod<IssuerSpec, z.infer<typeof tokenProof>> = {
  name: 'oidc',
  spec: oidcSpec,
  proof: tokenProof,
  provableAgain: true,
  faults: placeFaults,
  prove: ({ token }, spec, context) => proveByToken(token, spec, context, 'oidc'),
}

/** What the methods with a known issuer share. */
export async function proveByToken(token: string, spec: IssuerSpec, context: Parameters<typeof oidc.prove>[2], method: string) {
  const { payload, once } = await verifyWorkloadToken(token, placeOf(spec), context, method)
  return {
    subject: String(payload.sub),
    claims: claimsOfToken(payload),
    ...(spec.once ? { once: { key: `${spec.issuer}\n${once.key}`, until: once.until } } : {}),
  }
}
