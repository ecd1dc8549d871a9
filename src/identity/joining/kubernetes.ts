import type { JWTPayload } from 'jose'
import { z } from 'zod'
import type { Claims, JoinMethod } from './method.ts'
import { notEverything, whole } from './telling.ts'
import { issuerBlock, placeFaults, tokenProof, verifyWorkloadToken } from './workload-token.ts'

export const kubernetesSpec = z.strictObject({
  issuer: z
    .url({ protocol: /^https$/ })
    .max(512)
    .default('https://kubernetes.default.svc.cluster.local')
    .describe('`iss` of its tokens: kubectl get --raw /.well-known/openid-configuration'),
  api: z
    .url({ protocol: /^https$/ })
    .max(512)
    .optional()
    .describe('where the API server is reached, when its keys are fetched from there (`/openid/v1/jwks`)'),
  once: z
    .boolean()
    .default(false)
    .describe('each token lets in once; the kubelet keeps one for most of its life, so a restarted pod would wait for the next'),
  ...issuerBlock,
})
export type KubernetesSpec = z.infer<typeof kubernetesSpec>

const record = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}

/** https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens */
function claimsOf(payload: JWTPayload): Claims {
  const about = record(payload['kubernetes.io'])
  const [account, pod, node] = [record(about.serviceaccount), record(about.pod), record(about.node)]
  const all = {
    sub: payload.sub,
    namespace: about.namespace,
    service_account: account.name,
    service_account_uid: account.uid,
    pod: pod.name,
    pod_uid: pod.uid,
    node: node.name,
    node_uid: node.uid,
  }
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => typeof entry[1] === 'string' && entry[1] !== ''))
}

/**
 * A service account of a cluster, by a token that the kubelet writes into the pod for us alone (`serviceAccountToken.audience`).
 * The tokens of the old kind have no end and no audience, and are refused like anything else without them.
 */
export const kubernetes: JoinMethod<KubernetesSpec, z.infer<typeof tokenProof>> = {
  name: 'kubernetes',
  spec: kubernetesSpec.prefault({}),
  proof: tokenProof,
  claims: ['sub', 'namespace', 'service_account', 'service_account_uid', 'pod', 'pod_uid', 'node', 'node_uid'],
  // Whoever may make pods in some namespace of the cluster has a token of it.
  telling: { namespace: notEverything, service_account_uid: whole, sub: notEverything },
  provableAgain: true,
  faults: placeFaults,
  async prove({ token }, { issuer, api, once, jwks, ca, allow_private }, context) {
    const jwksUri = api === undefined ? undefined : `${api.replace(/\/$/, '')}/openid/v1/jwks`
    const found = await verifyWorkloadToken(token, { issuer, jwks, jwksUri, ca, allowPrivate: allow_private }, context, 'kubernetes')
    return {
      subject: String(found.payload.sub),
      claims: claimsOf(found.payload),
      ...(once ? { once: { key: `${issuer}\n${found.once.key}`, until: found.once.until } } : {}),
    }
  },
}
