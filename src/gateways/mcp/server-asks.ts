import type { Guard, Outcome } from '../../access/types.ts'
import { findCaseVariants } from '../../encoding/case-variants.ts'
import { parseStrict } from '../../encoding/strict-json.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import type { Connection, LiveSession } from '../../identity/types.ts'
import { describeServerRequest, type Target } from './describe.ts'
import type { Inquiries } from './inquiries.ts'
import type { McpLimits } from './limits.ts'
import { replyToServer } from './refuse.ts'
import { spanAt } from './text/json-text.ts'
import type { Asker } from './types.ts'
import { INVALID_REQUEST, isObject, isRequestId, memberOf, ProtocolError, type UpstreamMessage } from './wire.ts'

interface ServerAsksParts {
  readonly guard: Guard
  readonly session: () => LiveSession
  readonly connection: Connection | undefined
  readonly target: () => Target
  /** Absent in the modern era, where a server asks inside its answer. */
  readonly inquiries: Inquiries | undefined
  readonly limits: Pick<McpLimits, 'lineBytes'>
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

type Params = Readonly<Record<string, unknown>>

const RESULT = ['result']
const ASKING = ['resultType', 'inputRequests', 'requestState']

/**
 * What a server asks of its client: to sample the client's model, to ask the person, to name folders. With the answer data
 * leaves, so each is an action of the server, judged and recorded like a call (issue 3; peers R15).
 */
export function makeServerAsks({ guard, session, connection, target, inquiries, limits, log }: ServerAsksParts): Pick<
  Asker,
  'required' | 'may' | 'asked'
> & {
  /** The server withdraws what it asked: whether the client may be told so as it stands there. */
  withdrawn(message: UpstreamMessage): boolean
} {
  /** One server's ids are not another's. */
  const me = {}

  const admit = async (method: string, params: Params, lossy: ReadonlySet<string>) =>
    guard.admit(session(), describeServerRequest(target(), method, params, lossy), {
      ...(connection ? { connection } : {}),
      bodies: [{ name: 'request', bytes: JSON.stringify(params) }],
    })

  return {
    async may(method, params) {
      const permit = await admit(method, params, new Set())
      return (outcome) => guard.settle(permit, outcome)
    },

    async required(message, text) {
      // A server may write any letter as an escape: then only reading tells.
      if (!/input_?re|\\u/i.test(text)) return text
      const { value, lossy } = parseStrict(text, { maxBytes: limits.lineBytes, maxDepth: 256 })
      const result = isObject(value) ? value.result : undefined
      if (!isObject(result)) {
        if (isObject(value) && findCaseVariants(value, RESULT)[0] !== undefined) throw unreadable(message.method)
        return text
      }
      // A client whose decoder ignores case would be asked by the twin.
      if (findCaseVariants(result, ASKING)[0] !== undefined) throw unreadable(message.method)
      // A task asks inside a result that is `complete` (SEP-2663), and a client may look at nothing but the questions.
      if (result.resultType !== 'input_required' && result.inputRequests === undefined) return text
      const inputs = result.inputRequests ?? {}
      if (!isObject(inputs) || Object.keys(inputs).length > MOST_INPUTS) throw unreadable(message.method)
      for (const [key, input] of Object.entries(inputs)) {
        if (!isObject(input) || typeof input.method !== 'string') throw unreadable(message.method)
        const below = `/result/inputRequests/${key.replaceAll('~', '~0').replaceAll('/', '~1')}/params`
        const mine = new Set([...lossy].filter((pointer) => pointer.startsWith(`${below}/`)).map((pointer) => pointer.slice(below.length)))
        const permit = await admit(input.method, isObject(input.params) ? input.params : {}, mine)
        // The answer, if there is one, comes as a call of the client, which is recorded with it.
        guard.settle(permit, { status: 'ok', facts: { shown: true } })
      }
      return text
    },

    withdrawn(message) {
      const id = memberOf(message, ['params', 'requestId'])
      return isRequestId(id) && inquiries?.withdrawn(id, me) === id
    },

    async asked(message, via, raw) {
      const id = message.id!
      const method = message.method!
      // A ping carries nothing and asks only whether the line is alive; we are its other end.
      if (method === 'ping') return JSON.stringify({ jsonrpc: '2.0', id, result: {} })
      try {
        const span = spanAt(message.text, ['params'])
        const { value, lossy } = span
          ? parseStrict(message.text.slice(span.start, span.end), { maxBytes: limits.lineBytes, maxDepth: 256 })
          : { value: {}, lossy: new Set<string>() }
        const permit = await admit(method, isObject(value) ? value : {}, lossy)
        let outcome: Outcome = { status: 'unknown' }
        try {
          if (!inquiries) throw new ProtocolError(INVALID_REQUEST, 'This version has no requests of servers.', { code: 'unsupported' })
          const answer = await inquiries.ask(message, via, me, permit.signal, raw)
          outcome = outcomeOfAnswer(answer)
          return answer
        } catch (error) {
          outcome = { status: 'failed', facts: { error: toChaperoneError(error).code } }
          throw error
        } finally {
          guard.settle(permit, outcome)
        }
      } catch (error) {
        log('mcp.asked', { server: target().resource.name, method: method.slice(0, 128), error: toChaperoneError(error).message })
        return JSON.stringify(replyToServer(id, toChaperoneError(error)))
      }
    },
  }
}

/** Questions in one answer: each is judged and recorded by itself, and one answer could hold a hundred thousand. */
const MOST_INPUTS = 64

/** What the client said, stored beside the outcome: this is what left. */
function outcomeOfAnswer(text: string): Outcome {
  const error = spanAt(text, ['error'])
  const span = error ?? spanAt(text, ['result'])
  const bodies = span ? [{ name: 'response', bytes: text.slice(span.start, span.end) }] : []
  return { status: error ? 'failed' : 'ok', facts: { bytes: Buffer.byteLength(text) }, bodies }
}

const unreadable = (method: string) =>
  new ChaperoneError('upstream_unavailable', `The server's answer to ${method} asks for something that cannot be read.`)
