import { type Parked, Refusal } from '../../access/types.ts'
import { formatDuration } from '../../encoding/duration.ts'
import { instantText } from '../../encoding/moment.ts'
import { ChaperoneError, REASONS, type ReasonCode } from '../../errors.ts'
import { ruleTitle } from '../../policy/rule-title.ts'
import type { Decision } from '../../policy/types.ts'
import type { Described } from './describe.ts'
import { readErrorFields } from './wire/server.ts'
import { errorMessage, fieldsMessage } from './wire/write.ts'

/** query_canceled */
const CANCELED = '57014'

/** What cannot be parsed gets the server's own code for it, so that a client says "syntax error" as it would anyway. */
const SYNTAX_ERROR = '42601'

/**
 * The refusal or failure as an ErrorResponse: what clients and models show is the message, DETAIL and HINT. `about` is the
 * statement that was refused, when it was one; `around`: how it could be written instead.
 */
export function refusalMessage(error: ChaperoneError, severity: 'ERROR' | 'FATAL', about?: Described, around?: string): Buffer {
  if (error instanceof UnknownName) return errorMessage({ severity, sqlstate: error.sqlstate, message: error.message })
  if (error instanceof Cancelled) return errorMessage({ severity, sqlstate: CANCELED, message: error.message })
  if (error instanceof Withdrawn) return withdrawnMessage(error)
  if (!(error instanceof Refusal)) {
    return errorMessage({
      severity,
      sqlstate: sqlstateOf(error),
      message: `Chaperone: ${error.message}`,
      detail: `reason ${error.code}`,
      hint: error.fix,
    })
  }
  // What may not be seen is what does not exist: no rule, no decision (rule 8).
  if (error.code === 'not_found') return noDatabase(severity)
  const { rule, reason } = error.decision
  if (about?.unread === 'syntax') return syntaxError(error, severity, about)
  if (error.parked) return parkedMessage(error, error.parked, severity, about)
  const by = rule ? `, ${ruleTitle(rule)}` : ''
  const what = about && about.unread === undefined ? `: ${about.summary}` : ''
  return errorMessage({
    severity,
    sqlstate: REASONS[reason].sqlstate,
    message: `Chaperone refused this${what}. ${error.message}${around === undefined ? '' : ` ${around}`}`,
    detail: `reason ${reason}${by}, decision ${error.decisionId}${waysIn(error.decision.ways)}`,
    hint: `${unseenIn(error.decision, about)}${hintOf(error)}`,
  })
}

/**
 * Code that nobody can look into may touch any table: a rule that denies some counts for it, and one that allows some does not
 * (`rules.ts`). From the tables in the text that could not be guessed.
 */
function unseenIn({ rule, reason }: Decision, about: Described | undefined): string {
  const denied = rule?.section === 'deny'
  if (!about?.opaque || (!denied && reason !== 'no_rule')) return ''
  const code = about.functions.length > 0 ? `: ${about.functions.join(', ')}` : ''
  const why = about.kind === 'listen' ? 'what others notify may be of any table' : `code runs in it that cannot be looked into${code}`
  const so = denied ? 'a rule that denies tables counts for it' : 'a rule that allows only some tables does not'
  return `What it touches cannot be told from its text (${why}), so ${so}. `
}

function hintOf({ decision, hint }: Refusal): string {
  if (decision.reason === 'approval_denied')
    return 'Nothing reached the database. A human has said no to exactly this: do not try it in another way, and do not ask again without a new reason.'
  if (hint !== undefined) return hint
  const [way] = decision.ways ?? []
  if (way) {
    const time = formatDuration(Math.min(way.maxMs ?? ASKED_MS, ASKED_MS))
    return `Nothing reached the database. You may ask for the role ${way.role}: chaperone requests ask ${way.role} --for ${time} --reason "..."`
  }
  return 'Nothing reached the database. Do not try it in another way; ask the person you work for, and name the decision.'
}

/** What somebody might ask for who is in no hurry to give it back. */
const ASKED_MS = 10 * 60_000

const waysIn = (ways: Decision['ways']) =>
  ways && ways.length > 0
    ? `, may be asked for: ${ways.map(({ role, maxMs }) => `role ${role}${maxMs === undefined ? '' : ` (at most ${formatDuration(maxMs)})`}`).join(', ')}`
    : ''

/** It waits for a human, and nobody waits with it any more. */
function parkedMessage({ decisionId, decision }: Refusal, parked: Parked, severity: 'ERROR' | 'FATAL', about: Described | undefined): Buffer {
  return errorMessage({
    severity,
    sqlstate: REASONS[decision.reason].sqlstate,
    message: `Chaperone has asked a human about this${about ? `: ${about.summary}` : ''}. Request ${parked.request} is not answered yet.`,
    detail: `reason ${decision.reason}, request ${parked.request}, ${parked.url}, who can say yes: ${parked.approvers}, open until ${instantText(parked.expiresAt)}, decision ${decisionId}`,
    hint: 'Nothing reached the database. Send exactly the same statement again, on its own, once it is approved: then it runs once.',
  })
}

/** Said at once, while the statement waits. `about`: what it is. */
export const parkedNotice = ({ request, url, approvers, expiresAt }: Parked, about: Described | undefined, waitMs: number): Buffer =>
  errorMessage({
    severity: 'NOTICE',
    sqlstate: '01000',
    message: `Chaperone asks a human about this${about ? `: ${about.summary}` : ''}. Request ${request}: ${url}`,
    detail: `who can say yes: ${approvers}; the question is open until ${instantText(expiresAt)}`,
    hint: `This connection waits up to ${formatDuration(waitMs)} for the answer. After that the same statement can be sent again.`,
  })

/** The client pressed a key: said as the server says it. */
export class Cancelled extends ChaperoneError {
  constructor() {
    super('upstream_timeout', 'canceling statement due to user request')
  }
}

/** What the client is told of a statement to which nobody has a right any more. */
export class Withdrawn extends ChaperoneError {
  constructor(why: ChaperoneError) {
    super(why.code, why.message)
  }
}

/** Said as a database says it, for it is no question of rules: whoever reads it corrects the text and asks nobody. */
function syntaxError({ decision, decisionId }: Refusal, severity: 'ERROR' | 'FATAL', { unclear, unreadAt }: Described): Buffer {
  return errorMessage({
    severity,
    sqlstate: SYNTAX_ERROR,
    // Several statements in one Parse are read well, and are none of what the server would take.
    message: /^it cannot be parsed: (.*)$/s.exec(unclear ?? '')?.[1] ?? `Chaperone refused this: ${unclear ?? 'it cannot be read'}.`,
    detail: `reason ${decision.reason}, decision ${decisionId}`,
    hint: 'Nothing reached the database. Correct the SQL and send it again; it is read with the grammar of PostgreSQL.',
    position: unreadAt,
  })
}

/** A name that the server would not know either: said in its own words and code, by which drivers prepare anew. */
export class UnknownName extends ChaperoneError {
  readonly sqlstate: string

  constructor(what: 'portal' | 'prepared statement', name: string) {
    super('usage', what !== 'portal' && name === '' ? 'unnamed prepared statement does not exist' : `${what} "${name}" does not exist`)
    this.sqlstate = what === 'portal' ? '34000' : '26000'
  }
}

/** SQLSTATE for a failure that is not a decision. */
const sqlstateOf = (error: ChaperoneError) => REASONS[error.code].sqlstate

/** The client's own fault keeps its code; of everything else drivers know 57P01 as "the server ended this", and connect again. */
const OWN_FAULT = new Set<ReasonCode>(['malformed', 'ambiguous', 'too_large', 'unsupported'])

/** The last words on a connection that is cut. */
export function cutMessage(error: ChaperoneError): Buffer {
  const made = lastWords.get(error)
  if (made) return made
  const message = errorMessage({
    severity: 'FATAL',
    sqlstate: OWN_FAULT.has(error.code) ? sqlstateOf(error) : '57P01',
    message: `Chaperone ended this connection: ${error.message}`,
    detail: `reason ${error.code}`,
    hint: error.fix,
  })
  lastWords.set(error, message)
  return message
}

/** A lock ends all connections of a session for one reason: said to each in the same bytes. */
const lastWords = new WeakMap<ChaperoneError, Buffer>()

/** In place of the server's "canceling statement due to user request": nobody has pressed a key. */
export const timeoutMessage = (ms: number) =>
  errorMessage({
    severity: 'ERROR',
    sqlstate: REASONS.upstream_timeout.sqlstate,
    message: `Chaperone cancelled this: it ran longer than the ${formatDuration(ms)} that the rule allows.`,
    detail: 'reason upstream_timeout',
    hint: 'Ask for less at once, or ask the person you work for about the statement_timeout of the rule.',
  })

/** The right to it has ended while it ran, or before it was sent. */
export const withdrawnMessage = (error: ChaperoneError) =>
  errorMessage({
    severity: 'ERROR',
    sqlstate: CANCELED,
    message: `Chaperone cancelled this: ${error.message}`,
    detail: `reason ${error.code}`,
    hint: 'The connection goes on with what your other roles allow. `chaperone requests ways` says which may be asked for.',
  })

/** The answer for a database that is not there, and for one that this identity may not know of. */
export const noDatabase = (severity: 'ERROR' | 'FATAL' = 'FATAL') =>
  errorMessage({
    severity,
    sqlstate: REASONS.not_found.sqlstate,
    message: 'Chaperone: there is no such database, or not for this identity.',
    hint: 'Write the database as RESOURCE/DATABASE; `chaperone db ls` shows what there is.',
  })

/** Said once, before the completion of a result that was cut. */
export const cappedNotice = (most: string) =>
  errorMessage({ severity: 'NOTICE', sqlstate: '01000', message: `Chaperone cut this result at ${most}, as the rule that allows it demands.` })

const CUT = '... (cut by Chaperone)'

/** An error or notice of the server in `left` bytes: its code, and as much of its message as fits. */
export function cutWords(frame: Buffer, left: number): Buffer {
  const fields = readErrorFields(frame)
  const said = Buffer.from(fields.get('M') ?? '')
  let end = Math.min(said.length, Math.max(0, left))
  // Not in the middle of a character.
  while (end > 0 && end < said.length && (said[end]! & 0xc0) === 0x80) end--
  const severity = fields.get('V') ?? 'ERROR'
  const kept = [
    ['S', fields.get('S') ?? severity],
    ['V', severity],
    ['C', fields.get('C') ?? ''],
    ['M', `${said.toString('utf8', 0, end)}${CUT}`],
  ] as const
  return fieldsMessage(frame[0]!, kept)
}
