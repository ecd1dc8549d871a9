import { aws } from './aws.ts'
import { boundKey } from './bound-key.ts'
import { github } from './github.ts'
import { gitlab } from './gitlab.ts'
import { kubernetes } from './kubernetes.ts'
import type { JoinMethod, JoinMethodName } from './method.ts'
import { oidc } from './oidc.ts'
import { x509 } from './x509.ts'

/** Every way to join by a document. A new one is a file, and a line here. */
// biome-ignore lint/suspicious/noExplicitAny: the table holds methods of many specs; each reads its own with its own schema
export const METHODS: Readonly<Record<JoinMethodName, JoinMethod<any, any>>> = { oidc, github, gitlab, kubernetes, aws, 'bound-key': boundKey, x509 }
