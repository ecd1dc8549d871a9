import { createHash } from 'node:crypto'
import { canonicalJson } from '../../encoding/canonical-json.ts'
import type { ChainLink } from '../../identity/types.ts'
import type { Action, Decision } from '../../policy/types.ts'

/** All that an approval of one exact call holds for (rule 12). Not bound: session and connection, which a client may lose while a human thinks. */
export interface Binding {
  readonly identityId: string
  readonly chain: readonly ChainLink[]
  readonly action: Pick<Action, 'kind' | 'operation' | 'effects'> & { readonly resource: { readonly id: string } }
  /** `resourceDigest` of the document as it is applied now: another address or label is another call */
  readonly resource: string
  /** sha256 hex of the approved definition of the tool */
  readonly definition?: string | undefined
  /** sha256 hex of the canonical text that the gateway made of the call */
  readonly bound: string
}

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

export const resourceDigest = (labels: unknown, spec: unknown): string => sha256(canonicalJson({ labels, spec }))

/** The one name of an exact call: sha256 hex. A byte that differs in anything bound gives another one. Pure. */
export function digestOf({ identityId, chain, action, resource, definition, bound }: Binding, decision: Pick<Decision, 'asks'>): string {
  // Each for whom it asks: `owner` is another person for another link. Their order binds nothing.
  const rules = [...new Set((decision.asks ?? []).map(({ rule, link }) => `${rule.digest} ${link}`))].sort()
  return sha256(
    canonicalJson({
      v: 1,
      identity: identityId,
      chain: chain.map((link) => ({ identity: link.identity, delegation: link.delegation ?? null })),
      resource: { id: action.resource.id, digest: resource },
      kind: action.kind,
      operation: action.operation,
      effects: [...action.effects].sort(),
      definition: definition ?? null,
      rules,
      bound,
    }),
  )
}
