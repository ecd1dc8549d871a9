import { type Parked, Refusal } from '../access/types.ts'
import { InvalidDocuments } from '../documents/plan.ts'
import { REASONS, toChaperoneError } from '../errors.ts'
import type { ErrorBody } from './contract.ts'

/** Never kept anywhere between us and the client: an answer may hold a credential. */
export const HEADERS = { 'Content-Type': 'application/json', 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' } as const

/** The error as the client sees it. `detail` stays here; what nobody foresaw says nothing at all. `verbs`: one of them is what it takes. */
export function errorBody(thrown: unknown, verbs: readonly string[] = []): ErrorBody {
  const error = toChaperoneError(thrown)
  if (error instanceof Refusal) {
    // Chaperone itself is no secret to whoever has a session here: the refusal says what it is (403), not `not_found`.
    const { reason, message, visible } = error.decision
    const { parked } = error
    const voided = parked?.instead === undefined ? '' : ` What was approved as ${parked.instead} comes to something else by now: that yes is void.`
    return {
      error: {
        code: reason,
        message: visible ? message + voided : REASONS[reason].meaning,
        decisionId: error.decisionId,
        ...(parked ? { request: { id: parked.request, url: parked.url, expiresAt: parked.expiresAt, approvers: parked.approvers } } : {}),
        ...(parked
          ? { fix: waitsFor(parked) }
          : error.hint === undefined
            ? { fix: askFor(reason === 'no_rule' ? verbs : []) }
            : { hint: error.hint }),
      },
    }
  }
  return {
    error: {
      code: error.code,
      message: error.message,
      ...(error.fix === undefined ? {} : { fix: error.fix }),
      ...(error instanceof InvalidDocuments ? { problems: error.problems } : {}),
    },
  }
}

const waitsFor = ({ request, approvers, url }: Parked): string =>
  `Who says yes: ${approvers}, at ${url} or with \`chaperone requests approve ${request}\`. Then do the very same once more; a yes counts for one time.`

/** What each call takes stands in the reference; whoever is refused need not look for it. */
const askFor = (verbs: readonly string[]) =>
  verbs.length === 0
    ? 'Ask an administrator for a role that allows it, and name the decision.'
    : `It takes the verb ${verbs.join(' or ')}: ask an administrator for a role that has it, and name the decision.`

export function refuse(thrown: unknown, verbs: readonly string[] = []): Response {
  const body = errorBody(thrown, verbs)
  return new Response(JSON.stringify(body), { status: REASONS[body.error.code].http, headers: HEADERS })
}
