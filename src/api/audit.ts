import { z } from 'zod'
import type { Envelope } from '../audit/record.ts'
import { ChaperoneError } from '../errors.ts'
import type { AuditRow } from './contract.ts'
import { actorOf } from './credentials.ts'
import type { ApiParts } from './parts.ts'
import { type AskedInSession, type Route, signedIn } from './route.ts'
import { makeTail } from './tail.ts'

const read = { by: 'verbs', anyOf: ['audit.read'] } as const

/** The record, for those who may read it. Who reads is itself recorded, with what he looked for. */
export function auditRoutes(parts: ApiParts): { readonly routes: readonly Route[]; close(): void } {
  const { audit, clock } = parts
  const tail = makeTail(audit, clock)
  const reading = ({ session, permit }: AskedInSession<unknown>, what: Readonly<Record<string, unknown>>) =>
    audit.append({ ...actorOf(session), type: 'audit.read', ...(permit ? { permit: permit.id } : {}), data: what })

  const routes = [
    signedIn({
      method: 'GET',
      path: '/v1/audit/tail',
      who: read,
      summary: () => 'watch the record',
      async handle(asked) {
        await reading(asked, { op: 'tail' })
        const { permit, session } = asked
        if (!permit) throw new ChaperoneError('internal', 'A watch needs a permit.')
        return tail.open(session.id, permit.signal, rowOf)
      },
    }),
    signedIn({
      method: 'POST',
      path: '/v1/audit/checkpoint',
      who: read,
      body: z.strictObject({}),
      summary: () => 'sign a checkpoint',
      handle: () => audit.checkpoint(),
    }),
  ]
  return { routes, close: () => tail.close() }
}

/** One line of a listing. */
export function rowOf(envelope: Envelope & { readonly position?: number | null }): AuditRow {
  const { id, at, type, node, seq, position, actor, chain, session, action, decision, purpose, outcome } = envelope
  const rule = decision?.rule
  return {
    id,
    at,
    type,
    node,
    seq,
    ...(typeof position === 'number' ? { position } : {}),
    ...(actor ? { actor: actor.name } : {}),
    ...(chain ? { chain: chain.map((link) => link.name) } : {}),
    ...(session === undefined ? {} : { session }),
    ...(action
      ? { resource: `${action.resource.kind ?? action.kind}/${action.resource.name}`, action: action.summary, effects: action.effects }
      : {}),
    ...(decision ? { verdict: decision.verdict, reason: decision.reason } : {}),
    ...(rule ? { rule: `${rule.document}.${rule.section}[${rule.index}]` } : {}),
    ...(purpose === undefined ? {} : { purpose }),
    ...(outcome ? { outcome: outcome.status } : {}),
  }
}
