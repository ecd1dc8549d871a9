import type { z } from 'zod'
import type { JoinMethod } from './method.ts'
import { type IssuerSpec, oidcSpec, proveByToken } from './oidc.ts'
import { afterSlash, githubSubject, whole } from './telling.ts'
import { placeFaults, tokenProof } from './workload-token.ts'

const ISSUER = 'https://token.actions.githubusercontent.com'

/** https://docs.github.com/en/actions/reference/security/oidc */
const CLAIMS = [
  'actor',
  'actor_id',
  'base_ref',
  'check_run_id',
  'enterprise',
  'enterprise_id',
  'environment',
  'environment_node_id',
  'event_name',
  'head_ref',
  'job_workflow_ref',
  'job_workflow_sha',
  'ref',
  'ref_protected',
  'ref_type',
  'repository',
  'repository_id',
  'repository_owner',
  'repository_owner_id',
  'repository_visibility',
  'run_attempt',
  'run_id',
  'run_number',
  'runner_environment',
  'sha',
  'sub',
  'workflow',
  'workflow_ref',
  'workflow_sha',
]

export const githubSpec = oidcSpec.extend({ issuer: oidcSpec.shape.issuer.default(ISSUER) })

/** A job of GitHub Actions (`permissions: id-token: write`). It may ask for a new token at any time while it runs. */
export const github: JoinMethod<IssuerSpec, z.infer<typeof tokenProof>> = {
  name: 'github',
  spec: githubSpec.prefault({}),
  proof: tokenProof,
  claims: CLAIMS,
  // Everybody on GitHub has tokens of this issuer; and anybody may call a public workflow, so `job_workflow_ref` does not say whose it is.
  telling: {
    repository: afterSlash,
    repository_id: whole,
    repository_owner: whole,
    repository_owner_id: whole,
    enterprise: whole,
    enterprise_id: whole,
    sub: githubSubject,
  },
  provableAgain: true,
  faults: placeFaults,
  prove: ({ token }, spec, context) => proveByToken(token, spec, context, 'github'),
}
