import { createHash } from 'node:crypto'
import type { Parked } from '../../../access/types.ts'
import { canonicalJson } from '../../../encoding/canonical-json.ts'
import type { LiveSession } from '../../../identity/types.ts'
import type { Handles } from '../handles.ts'
import { edited, remade, spanAt, without } from '../text/json-text.ts'
import { OUR_META } from '../text/meta.ts'
import { canBeAsked } from '../translation/input-responses.ts'
import { INVALID_PARAMS, isObject, ProtocolError, type Request } from '../wire.ts'
import { boundCall } from './exact-call.ts'
import { plainly } from './written.ts'

/**
 * The rounds of a modern client (2026-07-28, multi round trips) in which Chaperone has a part. Each request of a client is
 * described, judged and recorded from scratch; what it brings back in `requestState` only says which of these it is:
 *
 *   waiting   it was answered by us, before a server saw anything of it: a human is asked. Whatever the client answers to our
 *             question approves nothing; the retry finds the decision by its own digest, and none that changed a byte of it.
 *   further   a server that ran under an approval asked back. The one approval covers the call with all its rounds: the state
 *             names the permit of the round before, and the guard lets that be followed once (`Asking.continues`). So a state
 *             that is brought twice, or with other arguments, starts nothing: it is no second call.
 *
 * A further round of what no approval let run, and a rule wants asked now, is refused: there the same call is begun anew.
 */
export type Round =
  | { readonly kind: 'waiting'; readonly request: string; readonly round: number; readonly since: number }
  | { readonly kind: 'further'; readonly permit: string; readonly until: number; readonly state: string | null }

export interface Opened {
  /** the request as it would be without us: the server's own state in its place, or none */
  readonly message: Request
  readonly round: Round | undefined
  /** the client did not want to wait */
  readonly declined: boolean
}

export interface Rounds {
  /** What the request brings back of ours. Throws ProtocolError for what was given to somebody else, for another call, or is forged. */
  opened(resourceId: string, session: LiveSession, message: Request, now: number): Promise<Opened>
  /** The answer of a server that asks back while it runs under an approval: its state, if it has one, inside ours. */
  continued(
    resourceId: string,
    session: LiveSession,
    message: Request,
    text: string,
    by: { readonly permit: string; readonly until: number },
  ): Promise<string>
  /** `input_required` until a human has said yes. */
  parked(resourceId: string, session: LiveSession, message: Request, parked: Parked, what: Asked): Promise<string>
}

interface Asked {
  readonly round: number
  readonly since: number
  /** what the client declares: by this it is asked, in the first round; undefined: it was asked already */
  readonly capabilities: Readonly<Record<string, unknown>> | undefined
  /** the name of the server */
  readonly server: string
}

/** Our question among those of the round. */
const KEY = 'approval'

export function makeRounds(handles: Pick<Handles, 'seal' | 'open'>): Rounds {
  const put = (resourceId: string, session: LiveSession, message: Request, round: Round) =>
    handles.seal(resourceId, session, message, canonicalJson({ ...round, call: digestOf(message) }))

  return {
    async opened(resourceId, session, message, now) {
      const text = await handles.open(resourceId, session, message)
      if (text === undefined) return { message, round: undefined, declined: false }
      const { call, ...round } = JSON.parse(text) as Round & { readonly call: string }
      const same = call === digestOf(message)
      if (round.kind === 'waiting') {
        const answer = isObject(message.params.inputResponses) ? message.params.inputResponses[KEY] : undefined
        const declined = isObject(answer) && (answer.action === 'decline' || answer.action === 'cancel')
        // Of another call it says nothing: that is a new question.
        return { message: bare(message), round: same ? round : undefined, declined: same && declined }
      }
      if (!same || now >= round.until) {
        const why = same ? 'is too old' : 'belongs to another request'
        throw new ProtocolError(INVALID_PARAMS, `The requestState ${why}: begin again without it.`, { id: message.id, http: 200, code: 'ambiguous' })
      }
      return { message: withState(message, round.state), round, declined: false }
    },

    async continued(resourceId, session, message, text, by) {
      const result = spanAt(text, ['result'])
      if (!result || text[result.start] !== '{') return text
      const type = spanAt(text, ['result', 'resultType'])
      if (!type || JSON.parse(text.slice(type.start, type.end)) !== 'input_required') return text
      const span = spanAt(text, ['result', 'requestState'])
      const own: unknown = span ? JSON.parse(text.slice(span.start, span.end)) : null
      if (own !== null && typeof own !== 'string') return text
      const state = await put(resourceId, session, message, { kind: 'further', ...by, state: own })
      return edited(text, [{ ...result, text: remade(text, { requestState: JSON.stringify(state) }, undefined, result.start) }])
    },

    async parked(resourceId, session, message, parked, { round, since, capabilities, server }) {
      const requestState = await put(resourceId, session, message, { kind: 'waiting', request: parked.request, round, since })
      const question = capabilities && questionFor(capabilities, parked, `${plainly(String(message.params.name ?? message.params.uri))} on ${server}`)
      const { request, url, expiresAt, approvers } = parked
      const result = {
        resultType: 'input_required',
        ...(question ? { inputRequests: { [KEY]: question } } : {}),
        requestState,
        _meta: { [`${OUR_META}parked`]: { request, url, expiresAt, approvers }, [`${OUR_META}origin`]: 'proxy' },
      }
      const id = spanAt(message.text, ['id'])!
      return `{"jsonrpc":"2.0","id":${message.text.slice(id.start, id.end)},"result":${JSON.stringify(result)}}`
    },
  }
}

const digestOf = (message: Request): string => createHash('sha256').update(boundCall(message)).digest('base64url')

/** Nothing of our round is for the server. */
function bare(message: Request): Request {
  const { requestState: _, inputResponses: __, ...params } = message.params
  return { ...message, params, text: without(without(message.text, ['params', 'requestState']), ['params', 'inputResponses']) }
}

function withState(message: Request, state: string | null): Request {
  if (state === null) {
    const { requestState: _, ...params } = message.params
    return { ...message, params, text: without(message.text, ['params', 'requestState']) }
  }
  const span = spanAt(message.text, ['params', 'requestState'])!
  const text = edited(message.text, [{ ...span, text: JSON.stringify(state) }])
  return { ...message, params: { ...message.params, requestState: state }, text }
}

/** How the person at the client hears of it. Undefined: this client can be asked nothing. */
function questionFor(capabilities: Readonly<Record<string, unknown>>, parked: Parked, what: string): object | undefined {
  const method = 'elicitation/create'
  const url = { mode: 'url', url: parked.url, message: waitingFor(parked, what) }
  if (canBeAsked(capabilities, method, url)) return { method, params: url }
  const requestedSchema = { type: 'object', properties: { wait: { type: 'boolean', title: 'Wait for the decision', default: true } } }
  const form = { mode: 'form', message: `${waitingFor(parked, what)} The page: ${parked.url}`, requestedSchema }
  return canBeAsked(capabilities, method, form) ? { method, params: form } : undefined
}

/** One sentence for the person at the client, who may be none of those who can say yes. */
export const waitingFor = (parked: Parked, what: string): string =>
  `${what} runs when ${parked.approvers} said yes to exactly this call (request ${parked.request}). What is answered here approves nothing.`
