import type { z } from 'zod'
import type { JoinMethod } from './method.ts'
import { type IssuerSpec, oidcSpec, proveByToken } from './oidc.ts'
import { afterSlash, whole } from './telling.ts'
import { placeFaults, tokenProof } from './workload-token.ts'

/** https://docs.gitlab.com/ci/secrets/id_token_authentication/ */
const CLAIMS = [
  'ci_config_ref_uri',
  'ci_config_sha',
  'deployment_action',
  'deployment_tier',
  'environment',
  'environment_action',
  'environment_protected',
  'groups_direct',
  'job_id',
  'job_namespace_id',
  'job_namespace_path',
  'job_project_id',
  'job_project_path',
  'job_source',
  'namespace_id',
  'namespace_path',
  'pipeline_id',
  'pipeline_source',
  'project_id',
  'project_path',
  'project_visibility',
  'ref',
  'ref_path',
  'ref_protected',
  'ref_type',
  'runner_environment',
  'runner_id',
  'sha',
  'sub',
  'user_access_level',
  'user_email',
  'user_id',
  'user_identities',
  'user_login',
]

export const gitlabSpec = oidcSpec.extend({ issuer: oidcSpec.shape.issuer.default('https://gitlab.com') })

/** A job of GitLab CI (`id_tokens:`). Its token is made once, when the job starts: it joins once, for as long as `longest` says. */
export const gitlab: JoinMethod<IssuerSpec, z.infer<typeof tokenProof>> = {
  name: 'gitlab',
  spec: gitlabSpec.prefault({}),
  proof: tokenProof,
  claims: CLAIMS,
  telling: { project_path: afterSlash, project_id: whole, namespace_path: whole, namespace_id: whole, sub: afterSlash },
  provableAgain: false,
  faults: placeFaults,
  prove: ({ token }, spec, context) => proveByToken(token, spec, context, 'gitlab'),
}
