/**
 * Every failure Chaperone can name, in one closed table.
 *
 * The same code stands in the error a client sees, in the record, on the console and in the documentation
 * (docs/reference/errors.md is generated from this table). `message` may be shown to whoever asked; `detail` is for the
 * operator's log only.
 */

/** How one reason is said in each protocol. `jsonrpc` codes lie outside the range that JSON-RPC and MCP reserve. */
interface Reason {
  readonly http: number
  readonly jsonrpc: number
  /** PostgreSQL error code, https://www.postgresql.org/docs/current/errcodes-appendix.html */
  readonly sqlstate: string
  /** exit code of the CLI */
  readonly exit: number
  readonly meaning: string
}

const reason = (http: number, jsonrpc: number, sqlstate: string, exit: number, meaning: string): Reason => ({
  http,
  jsonrpc,
  sqlstate,
  exit,
  meaning,
})

export const REASONS = {
  // Decisions
  allowed: reason(200, 0, '00000', 0, 'A rule of a role allows the action.'),
  denied_by_rule: reason(403, 40301, '42501', 3, 'A deny rule of a role refuses the action.'),
  denied_by_guardrail: reason(403, 40302, '42501', 3, 'A guardrail, which holds for everybody, refuses the action.'),
  no_rule: reason(403, 40303, '42501', 3, 'No role of the identity allows the action.'),
  approval_required: reason(403, 40304, '42501', 3, 'A human must say yes first.'),
  approval_unavailable: reason(
    403,
    40305,
    '42501',
    3,
    'A rule asks for approval, and here nobody can be asked (an open transaction, a message without an answer).',
  ),
  approval_denied: reason(403, 40317, '42501', 3, 'Somebody was asked about exactly this, and said no.'),
  approval_used: reason(403, 40318, '42501', 3, 'The approval of exactly this was used already; it counts once.'),
  join_refused: reason(403, 40320, '28000', 4, 'What was shown to join does not prove what the agent may join by.'),
  consent_required: reason(403, 40321, '28000', 4, 'The person on whose behalf it would be must agree first.'),
  delegation_refused: reason(403, 40322, '42501', 3, 'Nobody can hand on more than he has, or to whom he may not.'),
  directory_refused: reason(403, 40323, '28000', 4, "The company's directory does not say of this person what it must."),
  approval_refused: reason(403, 40319, '42501', 3, 'Who decides about a request must be somebody else, and one whom its rule names.'),
  delegation_exceeded: reason(403, 40306, '42501', 3, 'A link of the delegation chain does not allow the action.'),
  not_understood: reason(403, 40307, '42501', 3, 'What the action does cannot be known for sure, so no rule can allow it.'),
  policy_error: reason(403, 40308, '42501', 3, 'Deciding failed; a failure never allows.'),
  quarantined: reason(
    403,
    40316,
    '42501',
    3,
    'The definition of the tool, prompt or template changed, or was never approved; an administrator must look at it.',
  ),
  rate_limited: reason(429, 42902, '53300', 5, 'A rule limits how often this may be done.'),
  budget_spent: reason(429, 42903, '53300', 5, 'A rule limits how much of this may be done, and it is used up.'),
  obligation_unsupported: reason(403, 40309, '42501', 3, 'The rule demands something that cannot be kept here (a mask, a cap).'),

  // Who is asking
  unauthenticated: reason(401, 40101, '28000', 4, 'No valid credential was presented.'),
  credential_expired: reason(401, 40102, '28000', 4, 'The credential is past its end.'),
  credential_invalid: reason(401, 40103, '28000', 4, 'The credential is malformed, forged, or from another authority.'),
  session_ended: reason(401, 40104, '57P01', 4, 'The session is over.'),
  identity_disabled: reason(401, 40105, '28000', 4, 'The identity is disabled or deleted.'),
  locked: reason(403, 40310, '57P01', 3, 'A lock stops this identity, session or resource.'),
  factor_required: reason(403, 40311, '28000', 4, 'A second factor of the last five minutes is needed.'),
  factor_invalid: reason(403, 40312, '28000', 4, 'The second factor is wrong, was used already, or too many were tried.'),
  invitation_invalid: reason(403, 40313, '28000', 4, 'The invitation or join token is unknown, used or expired.'),
  issue_refused: reason(403, 40314, '28000', 4, 'The certificate cannot be issued as asked.'),

  // What was asked
  malformed: reason(400, 40001, '08P01', 2, 'The message cannot be read.'),
  ambiguous: reason(400, 40002, '08P01', 2, 'The message could be read in two ways (a duplicate key, a case variant), so it is refused.'),
  too_large: reason(413, 41301, '54000', 2, 'The message is over its limit.'),
  too_slow: reason(408, 40801, '57014', 2, 'The message took too long to arrive.'),
  too_many: reason(429, 42901, '53300', 5, 'Too many at once; try again later.'),
  not_found: reason(404, 40401, '3D000', 6, 'There is no such thing, or not for this identity.'),
  conflict: reason(409, 40901, '55000', 6, 'The state has changed, or the name is taken.'),
  unsupported: reason(501, 50101, '0A000', 2, 'This is not supported.'),
  foreign_origin: reason(403, 40315, '28000', 4, 'The Host or Origin header is not one of ours.'),
  invalid_document: reason(422, 42201, '22023', 7, 'A document is not valid.'),
  usage: reason(400, 40003, '22023', 2, 'The command or request is used wrongly.'),

  // Us, and what is behind us
  audit_unavailable: reason(503, 50301, '58030', 5, 'The record cannot be written, so nothing may happen.'),
  store_unavailable: reason(503, 50302, '58030', 5, 'The store does not answer.'),
  lease_lapsed: reason(503, 50303, '57P03', 5, 'This node cannot prove that it knows the latest changes.'),
  upstream_unavailable: reason(502, 50201, '08006', 5, 'The resource cannot be reached.'),
  upstream_timeout: reason(504, 50401, '57014', 5, 'The resource did not answer in time.'),
  upstream_login_required: reason(502, 50202, '28000', 5, 'The resource wants a login that somebody must give first.'),
  isolation_unavailable: reason(503, 50304, '58000', 8, 'The server process cannot be isolated on this machine.'),
  draining: reason(503, 50305, '57P01', 5, 'Chaperone is shutting down.'),
  already_running: reason(409, 40902, '55006', 5, 'Another Chaperone runs on this data directory.'),
  key_mismatch: reason(500, 50001, '58000', 8, 'The root key does not open this store.'),
  schema_newer: reason(500, 50002, '58000', 8, 'The store was written by a newer Chaperone.'),
  record_broken: reason(500, 50003, '58000', 9, 'The record does not verify.'),
  unavailable_here: reason(500, 50004, '58000', 8, 'This machine lacks something that is needed.'),
  internal: reason(500, 50005, 'XX000', 1, 'A fault of Chaperone itself.'),
} as const satisfies Record<string, Reason>

export type ReasonCode = keyof typeof REASONS

/** A failure with a code from {@link REASONS}. */
export class ChaperoneError extends Error {
  readonly code: ReasonCode
  /** For the log, never for the client. */
  readonly detail: string | undefined
  /** What the person can do about it, one sentence. */
  readonly fix: string | undefined

  constructor(code: ReasonCode, message: string, more: { detail?: string; fix?: string; cause?: unknown } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause })
    this.name = 'ChaperoneError'
    this.code = code
    this.detail = more.detail
    this.fix = more.fix
  }
}

/** The error as a `ChaperoneError`; anything unexpected becomes `internal`, its text kept for the log only. */
export function toChaperoneError(error: unknown): ChaperoneError {
  if (error instanceof ChaperoneError) return error
  const detail = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return new ChaperoneError('internal', 'Something went wrong inside Chaperone.', { detail, cause: error })
}
