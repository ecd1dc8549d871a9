import { z } from 'zod'
import { type RecordRow, readRecord, searchRecords } from '../audit/query.ts'
import { readTransaction } from '../audit/transaction.ts'
import { openLogForReading, type VerifyOptions, type VerifyReport, verifyLog } from '../audit/verify.ts'
import { ChaperoneError } from '../errors.ts'
import { ruleTitle } from '../policy/rule-title.ts'
import { approvalsOf, approvedBy } from './audit-approvals.ts'
import type { AuditDetail, AuditPage, AuditRow, AuditRule } from './audit-contract.ts'
import { readAuditQuery, readRuleWish } from './audit-query.ts'
import { ruleFor } from './audit-rule.ts'
import { type ResourceNames, storyOf } from './audit-story.ts'
import { actorOf } from './caller.ts'
import type { ApiParts } from './parts.ts'
import { type AskedInSession, type Route, signedIn } from './route.ts'
import { makeTail } from './tail.ts'

const read = { by: 'verbs', anyOf: ['audit.read'] } as const
const RESOURCE_KINDS = ['mcp', 'postgres']

/** The record, for those who may read it. Who reads is itself recorded, with what he looked for. */
export function auditRoutes(parts: ApiParts): { readonly routes: readonly Route[]; close(): void } {
  const { audit, clock } = parts
  const nameOf: ResourceNames = (id) => {
    const found = RESOURCE_KINDS.flatMap((kind) => parts.state.current().list(kind)).find(({ resource }) => resource.id === id)
    return found && `${found.resource.kind}/${found.resource.name}`
  }
  const tail = makeTail(audit, clock)
  let verifying = false
  const reading = ({ session, permit }: AskedInSession<unknown>, what: Readonly<Record<string, unknown>>) =>
    audit.append({ ...actorOf(session), type: 'audit.read', ...(permit ? { permit: permit.id } : {}), data: what })

  const routes = [
    signedIn({
      method: 'GET',
      path: '/v1/audit',
      who: read,
      summary: () => 'search the record',
      async handle(asked): Promise<AuditPage> {
        const query = await readAuditQuery(parts, asked.query)
        await reading(asked, { op: 'search', query })
        const { rows, ...more } = await searchRecords(parts.store.db, query)
        const approvals = await approvalsOf(
          parts.store.db,
          rows.map(({ envelope }) => envelope),
        )
        return { records: rows.map((row) => rowOf(row, nameOf, approvals)), ...more }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/audit/records/:id',
      who: read,
      summary: ({ params }) => `read record ${params.id}`,
      async handle(asked): Promise<AuditDetail> {
        const { id = '' } = asked.params
        await reading(asked, { op: 'show', record: id.slice(0, 64) })
        const found = await readRecord(parts.store.db, id)
        if (!found) throw new ChaperoneError('not_found', 'There is no such record.')
        const { envelope, leafHash, position, bodies, outcome } = found
        const transaction = await readTransaction(parts.store.db, found)
        const approval = (await approvalsOf(parts.store.db, [envelope])).get(envelope.request ?? '')
        return {
          envelope,
          ...(approval ? { approval } : {}),
          ...(outcome ? { outcome } : {}),
          ...(transaction ? { transaction } : {}),
          leafHash,
          ...(position === null ? {} : { position }),
          bodies: bodies.map(({ name, bytes }) => (bytes === null ? { name, erased: true } : { name, text: Buffer.from(bytes).toString() })),
        }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/audit/records/:id/rule',
      who: read,
      summary: ({ params }) => `draft a rule from record ${params.id}`,
      async handle(asked): Promise<AuditRule> {
        const { id = '' } = asked.params
        await reading(asked, { op: 'rule', record: id.slice(0, 64) })
        return await ruleFor(parts, id, readRuleWish(asked.query))
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/audit/tail',
      who: read,
      summary: () => 'watch the record',
      async handle(asked) {
        await reading(asked, { op: 'tail' })
        const { permit, session } = asked
        if (!permit) throw new ChaperoneError('internal', 'A watch needs a permit.')
        return tail.open(session, permit.signal, (envelope) => rowOf({ envelope, position: null }, nameOf))
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
    signedIn<{ checkpoint?: string }>({
      method: 'POST',
      path: '/v1/audit/verify',
      who: read,
      limit: 64 * 1024,
      body: z.strictObject({ checkpoint: z.string().min(1).max(16_384).optional() }),
      summary: () => 'verify the record',
      async handle(asked) {
        // It reads everything with several threads: one at a time, or the data plane would wait for it.
        if (verifying) throw new ChaperoneError('too_many', 'The record is being verified already.', { fix: 'Wait for that to end.' })
        verifying = true
        try {
          await reading(asked, { op: 'verify' })
          return await verified(asked.body)
        } finally {
          verifying = false
        }
      },
    }),
  ]

  async function verified(options: VerifyOptions): Promise<VerifyReport> {
    const log = await openLogForReading(parts.store)
    try {
      return await verifyLog(log, { ...options, threads: 1 }) // more would compete with the data plane
    } finally {
      await log.close()
    }
  }

  return { routes, close: () => tail.close() }
}

function resultOf(outcome: RecordRow['outcome']): Pick<AuditRow, 'outcome' | 'result'> {
  if (!outcome) return {}
  const { status, ...result } = outcome
  return { outcome: status, ...(Object.keys(result).length > 0 ? { result } : {}) }
}

/** One line of a listing. */
function rowOf(
  { envelope, position, statement, arguments: asked, outcome = envelope.outcome }: RecordRow,
  nameOf: ResourceNames,
  approvals: Awaited<ReturnType<typeof approvalsOf>> = new Map(),
): AuditRow {
  const { id, at, type, node, seq, actor, chain, session, action, decision, purpose, request } = envelope
  const rule = decision?.rule
  const used = approvedBy(envelope)
  return {
    id,
    at,
    type,
    node,
    seq,
    ...(position === null ? {} : { position }),
    ...(actor ? { actor: actor.name } : {}),
    ...(chain ? { chain: chain.map((link) => link.name) } : {}),
    ...(session === undefined ? {} : { session }),
    ...(action
      ? { resource: `${action.resource.kind ?? action.kind}/${action.resource.name}`, action: action.summary, effects: action.effects }
      : storyOf(envelope, nameOf)),
    ...(decision ? { verdict: decision.verdict, reason: decision.reason } : {}),
    ...(rule ? { rule: ruleTitle(rule) } : {}),
    ...(request === undefined ? {} : { request }),
    ...(used === undefined ? {} : { approval: approvals.get(used) ?? { request: used, by: [] } }),
    ...(decision?.shadow ? { shadow: `${decision.shadow.verdict}: ${ruleTitle(decision.shadow.rule)}` } : {}),
    ...(purpose === undefined ? {} : { purpose }),
    ...(action?.facts ? { facts: action.facts } : {}),
    ...resultOf(outcome),
    ...(statement === undefined ? {} : { statement }),
    ...(asked === undefined ? {} : { arguments: asked }),
  }
}
