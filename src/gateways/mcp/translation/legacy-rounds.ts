import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import type { McpLimits } from '../limits.ts'
import { membersOf, onOneLine, type Span, spanAt } from '../text/json-text.ts'
import { sseEvent } from '../text/sse.ts'
import type { Asker } from '../types.ts'
import { isObject, readUpstream } from '../wire.ts'
import { type LegacyClient, mayAsk } from './legacy-handshake.ts'
import type { Members } from './modern-envelope.ts'

/** One thing that a server wants to know before it goes on. */
interface Wish {
  /** the server's own name for it */
  readonly key: string
  readonly method: string
  readonly params: Readonly<Record<string, unknown>>
  /** as the server wrote them */
  readonly paramsText: string | undefined
}

/** An `input_required` result. */
export interface Required {
  readonly wishes: readonly Wish[]
  /** JSON text; ours to give back exactly, and not to look into */
  readonly state: string | undefined
}

/** Methods whose answer may ask for more (specification 2026-07-28, multi round-trip requests). */
export const MAY_REQUIRE: ReadonlySet<string> = new Set(['tools/call', 'prompts/get', 'resources/read'])

/** Reads an `input_required` result. Throws `upstream_unavailable` when it cannot be read as one, `ambiguous` when in two ways. */
export function readRequired(text: string, result: Readonly<Record<string, unknown>>, limits: Pick<McpLimits, 'asks'>): Required {
  const members = membersOf(text, spanAt(text, ['result'])!.start)
  const { inputRequests = {}, requestState } = result
  if (!isObject(inputRequests) || (requestState !== undefined && typeof requestState !== 'string')) throw unreadable()
  const state = members.get('requestState')
  const spans: ReadonlyMap<string, Span> = result.inputRequests === undefined ? new Map() : membersOf(text, members.get('inputRequests')!.start)
  if (spans.size === 0 && !state) throw unreadable()
  if (spans.size > limits.asks) throw new ChaperoneError('too_many', `The MCP server asks for more than ${limits.asks} things at once.`)
  const wishes = [...spans].map(([key, span]): Wish => {
    const input = inputRequests[key]
    if (!isObject(input) || typeof input.method !== 'string' || (input.params !== undefined && !isObject(input.params))) throw unreadable()
    const at = membersOf(text, span.start).get('params')
    return { key, method: input.method, params: input.params ?? {}, paramsText: at && text.slice(at.start, at.end) }
  })
  return { wishes, state: state && text.slice(state.start, state.end) }
}

const unreadable = () => new ChaperoneError('upstream_unavailable', 'The MCP server asks for something that cannot be read.')

interface RoundParts {
  readonly name: string
  readonly client: LegacyClient
  readonly asker: Asker
  /** where the client gets what is asked: the stream of its own request */
  readonly answer: Answer
  /** the call is over: nothing is asked any more */
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly limits: Pick<McpLimits, 'askMs'>
  /** never used twice */
  readonly newId: () => string
}

/** The call cannot go on, and why: for whoever called. */
export class CannotAsk extends ChaperoneError {}

/**
 * Asks the client for all that is required, one after the other: people are asked one question at a time. Resolves with the
 * members that the repeated call carries. Rejects with CannotAsk, or why `signal` aborted.
 */
export async function inquire(required: Required, parts: RoundParts): Promise<Members> {
  const { name, client, answer } = parts
  for (const { method, params } of required.wishes) {
    if (!answer.streams)
      throw new CannotAsk('unsupported', `The MCP server ${name} asks for more (${shown(method)}), and this client reads no event stream.`)
    if (!mayAsk(client, method, params))
      throw new CannotAsk('unsupported', `The MCP server ${name} asks for ${shown(method)}, which this client does not offer.`)
  }
  const inputs: string[] = []
  for (const wish of required.wishes) inputs.push(`${JSON.stringify(wish.key)}:${await ask(wish, parts)}`)
  return [
    ...(required.wishes.length > 0 ? [['inputResponses', `{${inputs.join(',')}}`] as const] : []),
    ...(required.state === undefined ? [] : [['requestState', required.state] as const]),
  ]
}

const shown = (method: string) => method.slice(0, 128)

/** The client's result for one wish, as it wrote it. */
async function ask({ method, params, paramsText }: Wish, parts: RoundParts): Promise<string> {
  const { name, asker, answer, signal, clock, limits, newId } = parts
  if (signal.aborted) throw signal.reason
  const id = newId()
  // The era of the client knows a page that was opened by an id, which the server's era has none of.
  const opened = method === 'elicitation/create' && params.mode === 'url' && params.elicitationId === undefined
  const body = opened ? withMember(paramsText!, `"elicitationId":${JSON.stringify(newId())}`) : paramsText
  const text = `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"method":${JSON.stringify(method)}${body === undefined ? '' : `,"params":${body}`}}`

  const { promise, resolve } = Promise.withResolvers<string | ChaperoneError>()
  const cut = () => resolve(signal.reason as ChaperoneError)
  signal.addEventListener('abort', cut)
  const late = () => {
    withdraw(id, parts)
    resolve(
      JSON.stringify({ error: { message: `nobody answered for ${limits.askMs / 1000} s`, data: { origin: 'proxy', reason: 'upstream_timeout' } } }),
    )
  }
  void asker.asked(readUpstream(onOneLine(text)), answer).then(resolve, (error: unknown) => resolve(failed(name, method, String(error))))
  const disarm = clock.at(clock.now() + limits.askMs, late)
  const reply = await promise
  disarm()
  signal.removeEventListener('abort', cut)
  if (typeof reply === 'string') return resultOf(name, method, reply)
  withdraw(id, parts)
  throw reply
}

const withMember = (object: string, member: string) => `{${member}${membersOf(object).size > 0 ? ',' : ''}${object.trimStart().slice(1)}`

/** Nobody waits for the answer any more: whoever is looking at the question is told. */
function withdraw(id: string, { asker, answer }: RoundParts): void {
  const text = JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id, reason: 'The call is over.' } })
  if (asker.told(readUpstream(text)) && answer.began === 'stream' && !answer.gone) void answer.write(sseEvent(text))
}

/**
 * An error of the client has no place in `inputResponses`. For elicitation it is what it means there: nobody answered
 * (`cancel`), or Chaperone forbids the question (`decline`). For sampling and roots there is no such word: the call ends.
 */
function resultOf(name: string, method: string, reply: string): string {
  const span = spanAt(reply, ['result'])
  if (span) return reply.slice(span.start, span.end)
  const { error } = JSON.parse(reply) as { error?: { message?: unknown; data?: { origin?: unknown; reason?: unknown } } }
  if (method !== 'elicitation/create') throw failed(name, method, error?.message)
  const forbidden = error?.data?.origin === 'proxy' && error.data.reason !== 'upstream_timeout' && error.data.reason !== 'too_many'
  return forbidden ? '{"action":"decline"}' : '{"action":"cancel"}'
}

const failed = (name: string, method: string, why: unknown) =>
  new CannotAsk('unsupported', `${shown(method)}, which the MCP server ${name} asked for, failed: ${String(why ?? 'no reason given').slice(0, 500)}`)
