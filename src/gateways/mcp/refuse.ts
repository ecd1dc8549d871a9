import { randomUUID } from 'node:crypto'
import { type Parked, Refusal } from '../../access/types.ts'
import { formatDuration } from '../../encoding/duration.ts'
import { instantText } from '../../encoding/moment.ts'
import { type ChaperoneError, REASONS, type ReasonCode } from '../../errors.ts'
import { ruleTitle } from '../../policy/rule-title.ts'
import type { Way } from '../../policy/types.ts'
import { LoginRequired } from '../../vault/logins.ts'
import { OUR_META } from './text/meta.ts'
import { INVALID_PARAMS, ProtocolError, type RequestId } from './wire.ts'

/** An error as it goes to the client: an HTTP status and one JSON-RPC message. */
export interface Reply {
  readonly status: number
  readonly message: Readonly<Record<string, unknown>>
  /** what HTTP has a header of its own for */
  readonly headers?: Readonly<Record<string, string>>
}

/** What was asked, as far as it is known. */
export interface Asked {
  readonly id?: RequestId | undefined
  readonly method?: string | undefined
  /** name of the server, as the client wrote it */
  readonly server: string
  readonly tool?: string | undefined
  /** True when the server itself may be seen: then only the item is missing. */
  readonly serverVisible?: boolean
  /** The client has said that it can show a page to its person (elicitation by URL, 2025-11-25). */
  readonly opensPages?: boolean
  /** see `McpCaller` */
  readonly stepUp?: string
}

/** Codes that concern the request as HTTP: a client must authenticate, shrink or resend it. All others travel in the answer. */
const BY_STATUS = new Set<ReasonCode>([
  ...(['unauthenticated', 'credential_expired', 'credential_invalid', 'session_ended', 'identity_disabled'] as const),
  ...(['malformed', 'ambiguous', 'usage', 'too_large', 'too_slow', 'too_many', 'not_found', 'draining', 'foreign_origin'] as const),
  ...(['rate_limited', 'budget_spent'] as const),
])

/**
 * The refusal or failure in the protocol's own form. A refused tool call is a tool result with `isError`: a model reads
 * that, while clients show a JSON-RPC error to nobody. What may not be seen answers as what does not exist (rule 8).
 */
export function replyTo(error: ChaperoneError, asked: Asked): Reply {
  if (error instanceof ProtocolError) {
    return { status: error.http, message: failure(asked.id ?? error.id, error.jsonrpc, error.message, { ...dataOf(error), ...error.data }) }
  }
  if (error.code === 'not_found' && asked.serverVisible && asked.id !== undefined) return hidden(asked)
  // Whether the server does not exist, or only not for this identity, must not be told apart: no decision, no rule, no id.
  if (error.code === 'not_found')
    return { status: 404, message: failure(asked.id, REASONS.not_found.jsonrpc, noServer(asked.server), { reason: 'not_found', origin: 'proxy' }) }
  const login = [error, error.cause].find((one) => one instanceof LoginRequired)
  if (login?.link !== undefined && asked.opensPages && asked.id !== undefined) {
    const elicitations = [{ mode: 'url', elicitationId: randomUUID(), url: login.link, message: login.message }]
    return { status: 200, message: failure(asked.id, URL_REQUIRED, sentence(error), { ...dataOf(error), elicitations }) }
  }
  const told = error instanceof Refusal && asked.id !== undefined && asked.method === 'tools/call' ? toolRefusal(error, asked, asked.id) : undefined
  // MCP authorization, scope challenge: only where a wider token would help, or a client would ask its person again and again.
  if (asked.stepUp !== undefined && error instanceof Refusal && error.code === 'delegation_exceeded' && error.decision.limit?.alone) {
    const message = told ?? failure(asked.id, REASONS[error.code].jsonrpc, sentence(error), dataOf(error))
    return { status: 403, message, headers: { 'www-authenticate': asked.stepUp } }
  }
  if (told) return { status: 200, message: told }
  // An error with status 200 to the question of the era would answer it: "not modern" (reference clients).
  const status = BY_STATUS.has(error.code) || asked.id === undefined || asked.method === 'server/discover' ? REASONS[error.code].http : 200
  const message = failure(asked.id, REASONS[error.code].jsonrpc, sentence(error), dataOf(error))
  return status === 429 ? { status, message, headers: { 'retry-after': String(retryAfter(error)) } } : { status, message }
}

/** 2025-11-25, client/elicitation: the client shows the page, and asks again when its person has been there. */
const URL_REQUIRED = -32042

/** Seconds. What has no limit of a rule behind it is a moment's crowd. */
const retryAfter = (error: ChaperoneError) => (error instanceof Refusal ? error.decision.retryAfter : undefined) ?? 1

const noServer = (server: string) => `There is no MCP server ${JSON.stringify(server.slice(0, 128))}, or not for this identity.`

/** The error that the SDK's servers give for a name they do not have. */
function hidden(asked: Asked): Reply {
  const data = { origin: 'proxy' }
  const what = asked.tool === undefined ? `Not found: ${asked.method ?? ''}` : `Unknown tool: ${asked.tool}`
  return { status: 200, message: failure(asked.id, INVALID_PARAMS, what, data) }
}

function failure(id: RequestId | undefined, code: number, message: string, data: Record<string, unknown>): Record<string, unknown> {
  return { jsonrpc: '2.0', ...(id === undefined ? {} : { id }), error: { code, message, data } }
}

/** A JSON-RPC error to a server whose own request is not answered by the client. It learns nothing of identities and roles. */
export function replyToServer(id: RequestId, error: ChaperoneError): Record<string, unknown> {
  const why = error instanceof Refusal ? 'Chaperone does not allow this request of a server.' : error.message
  return failure(id, error instanceof ProtocolError ? error.jsonrpc : REASONS[error.code].jsonrpc, why, { reason: error.code, origin: 'proxy' })
}

function dataOf(error: ChaperoneError): Record<string, unknown> {
  return { ...refusalFacts(error), origin: 'proxy' }
}

function refusalFacts(error: ChaperoneError): Record<string, unknown> {
  if (!(error instanceof Refusal)) return { reason: error.code, ...(error.fix === undefined ? {} : { fix: error.fix }) }
  const { rule, reason, link, retryAfter, ways = [] } = error.decision
  const { parked } = error
  return {
    reason,
    ...(rule ? { rule: { document: rule.document, kind: rule.kind, section: rule.section, index: rule.index } } : {}),
    link,
    decision: error.decisionId,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(retryAfter === undefined ? {} : { retryAfter }),
    ...(parked ? { parked: { ...parked, how: 'send the same call again, unchanged' } } : {}),
    ...(ways.length > 0 ? { request: ways.map(requestable), how: REQUEST } : {}),
  }
}

/** The tool by which an agent asks, in data. */
const REQUEST = { server: 'chaperone', tool: 'request_access' } as const

const requestable = ({ role, maxMs, reason }: Way) => ({
  role,
  ...(maxMs === undefined ? {} : { max: formatDuration(maxMs) }),
  ...(reason === undefined ? {} : { reason }),
})

/** What a model reads of the ways to ask. */
function waysText(ways: readonly Way[]): string {
  const each = ways.slice(0, MOST_WAYS).map(({ role, maxMs, reason }) => {
    const limits = [
      ...(maxMs === undefined ? [] : [`for at most ${formatDuration(maxMs)}`]),
      ...(reason === 'required' || typeof reason === 'object' ? ['with a reason'] : []),
    ]
    return `the role ${role}${limits.length > 0 ? ` (${limits.join(', ')})` : ''}`
  })
  const more = ways.length > MOST_WAYS ? ` and ${ways.length - MOST_WAYS} more` : ''
  return `You may ask for ${each.join(' or ')}${more}: call the tool request_access of the MCP server chaperone, then try again.`
}
const MOST_WAYS = 5

const sentence = (error: ChaperoneError) => (error instanceof Refusal ? refusalText(error) : [error.message, error.fix].filter(Boolean).join(' '))

/** One short paragraph that a model can act on and a person can quote. */
function refusalText(error: Refusal, what?: string): string {
  const { reason, rule, retryAfter, ways = [] } = error.decision
  if (error.parked) return parkedText(error, error.parked, what)
  const by = rule ? `, ${ruleTitle(rule)}` : ''
  return [
    `Chaperone refused ${what ?? 'this'}: ${error.message}`,
    `Reason: ${reason}${by}.`,
    `Decision: ${error.decisionId}.`,
    retryAfter !== undefined
      ? 'Nothing was sent to the server. Wait as long as it says, then send the same call again.'
      : nextStep(error, reason, ways),
  ].join(' ')
}

function nextStep(error: Refusal, reason: ReasonCode, ways: readonly Way[]): string {
  const known = NEXT[reason]
  if (known !== undefined) return `Nothing was sent to the server. ${known}`
  if (ways.length > 0) return `Nothing was sent to the server. ${waysText(ways)}`
  if (error.hint !== undefined) return `To ask for it: ${error.hint}`
  return 'Nothing was sent to the server. Do not try again in another way; ask the person you work for.'
}

/** What to do where the usual advice would be wrong. */
const NEXT: Partial<Readonly<Record<ReasonCode, string>>> = {
  approval_denied: 'It was decided by a human: do not try again in another way. The same call can be asked about again later.',
  approval_used: 'One approval is one call. Send it again only if it must run a second time: then a human is asked anew.',
  approval_unavailable: 'Nobody was asked about it.',
}

/** Somebody was asked, and has not answered: the model must know that, and what makes it go on. */
function parkedText({ message, decision: { rule } }: Refusal, { request, url, expiresAt, approvers }: Parked, what = 'this'): string {
  const by = rule ? `, ${ruleTitle(rule)}` : ''
  return [
    `Chaperone has not let ${what} through yet: ${message}`,
    `Reason: approval_required${by}. Nothing was sent to the server.`,
    `A human was asked: request ${request}, until ${instantText(expiresAt)}. Who can say yes, at ${url}: ${approvers}.`,
    'Send the same call again, unchanged, after that: it runs once. A call that differs in anything needs a yes of its own.',
  ].join(' ')
}

function toolRefusal(error: Refusal, asked: Asked, id: RequestId): Record<string, unknown> {
  const text = refusalText(error, `the call of ${asked.tool ?? 'the tool'} on ${asked.server}`)
  return {
    jsonrpc: '2.0',
    id,
    result: {
      // The modern era requires it; the legacy one ignores it.
      resultType: 'complete',
      content: [{ type: 'text', text }],
      isError: true,
      _meta: { [`${OUR_META}refusal`]: refusalFacts(error), [`${OUR_META}origin`]: 'proxy' },
    },
  }
}
