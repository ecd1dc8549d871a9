import { Refusal } from '../../../access/types.ts'
import { ChaperoneError, toChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import { replyToServer } from '../refuse.ts'
import { onOneLine, remade } from '../text/json-text.ts'
import type { Asker } from '../types.ts'
import { isObject, isRequestId, METHOD_NOT_FOUND, memberOf, ProtocolError, type RequestId, type UpstreamMessage } from '../wire.ts'
import type { Call } from './call.ts'
import { canBeAsked } from './input-responses.ts'
import { CHANGES } from './modern-listen.ts'
import { INTERACTIVE } from './modern-results.ts'
import type { Trail } from './standing-stream.ts'

interface ServerVoiceParts {
  readonly name: string
  /** what the client declares, as the legacy era says it */
  readonly capabilities: Readonly<Record<string, unknown>>
  readonly asker: Asker
  /** a change that the server tells of, for those who listen */
  readonly changed: (message: UpstreamMessage) => void
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

/** What the server asked during one call, so that a stream which is taken up does not ask it twice. */
interface Asked {
  readonly text: string
  readonly answer: Promise<string>
}
/** Questions of one call that are remembered. */
const MAX_ASKED = 64

/**
 * What one legacy server says by itself, during calls and between them: each message finds the call, or the listeners, that
 * it belongs to. Where the server did not say, the likeliest call gets it, and never two.
 */
export class ServerVoice {
  /** calls upstream, by the id that the server knows */
  readonly calls = new Map<number, Call>()
  readonly #parts: ServerVoiceParts
  readonly #owners = new WeakMap<Answer, { readonly call: Call; readonly trail: Trail }>()
  readonly #asked = new WeakMap<Call, Map<RequestId, Asked>>()
  /** questions that policy looks at */
  readonly #judging = new Set<RequestId>()

  constructor(parts: ServerVoiceParts) {
    this.#parts = parts
  }

  /** What comes on this answer belongs to the call; `trail` is how far its stream was read. */
  own(answer: Answer, call: Call, trail: Trail): void {
    this.#owners.set(answer, { call, trail })
  }

  /** What a server says by itself. Returns the text for the stream of `on`, when it belongs there. */
  heard(message: UpstreamMessage, on: Call | undefined): string | undefined {
    try {
      return this.#route(message, on)
    } catch (error) {
      // It can be read in two ways: it is for nobody, and the call that it came on goes on.
      this.#parts.log('mcp.upstream.noise', { server: this.#parts.name, error: String(error) })
      return undefined
    }
  }

  #route(message: UpstreamMessage, on: Call | undefined): string | undefined {
    const { asker, log, name } = this.#parts
    const method = message.method!
    if (CHANGES.has(method)) {
      this.#parts.changed(message)
      return undefined
    }
    if (method === 'notifications/cancelled') {
      const id = memberOf(message, ['params', 'requestId'])
      if (!isRequestId(id)) return undefined
      this.#judging.delete(id)
      for (const call of this.calls.values()) call.withdraw(id)
      return undefined
    }
    const call = method === 'notifications/progress' ? this.#ofToken(message) : (on ?? this.#likely())
    if (!call || LEGACY_ONLY.has(method)) {
      log('mcp.upstream.unheard', { server: name, method })
      return undefined
    }
    if (!asker.told(message)) return undefined
    if (call === on) return call.heard(message)
    call.tell(message)
    return undefined
  }

  #ofToken(message: UpstreamMessage): Call | undefined {
    const token = memberOf(message, ['params', 'progressToken'])
    return typeof token === 'number' ? this.calls.get(token) : undefined
  }

  /** The call that a message without one most likely belongs to: the only one that can be asked, else the newest, tools before others. */
  #likely(): Call | undefined {
    const open = [...this.calls.values()].filter((call) => INTERACTIVE.has(call.message.method))
    return open.length === 1 ? open[0] : (open.findLast((call) => call.message.method === 'tools/call') ?? open.at(-1))
  }

  /** What the raw way to the server gets: it passes everything on, and here it is judged. */
  get asker(): Asker {
    return {
      answered: (_, text) => text,
      required: (_, text) => text,
      may: (method, params) => this.#parts.asker.may(method, params),
      told: () => true,
      asked: (message, via, raw) => this.#answer(message, via, raw),
    }
  }

  /** The answer to a request of the server, under its own id. Never rejects. */
  async #answer(message: UpstreamMessage, via: Answer | undefined, raw: Buffer | undefined): Promise<string> {
    const owner = via && this.#owners.get(via)
    const eventId = raw && /^id: ?(.+)$/m.exec(raw.toString('utf8'))?.[1]?.trim()
    // An event that never reached the tap must not be read again either, when the stream is taken up.
    if (owner && eventId) owner.trail.id = eventId
    const before = owner && this.#asked.get(owner.call)?.get(message.id!)
    if (before?.text === message.text) return before.answer
    const answer = this.#answerTo(message, owner?.call).catch((error: unknown) => JSON.stringify(replyToServer(message.id!, toChaperoneError(error))))
    if (!owner) return answer
    const known = this.#asked.get(owner.call) ?? new Map<RequestId, Asked>()
    this.#asked.set(owner.call, known)
    if (known.size < MAX_ASKED) known.set(message.id!, { text: message.text, answer })
    return answer
  }

  async #answerTo(message: UpstreamMessage, on: Call | undefined): Promise<string> {
    const { capabilities, asker, log, name } = this.#parts
    const id = message.members.get('id')!
    const answer = (result: string) => onOneLine(`{"jsonrpc":"2.0","id":${message.text.slice(id.start, id.end)},"result":${result}}`)
    const method = message.method!
    // A ping carries nothing and asks only whether the line is alive; we are its other end.
    if (method === 'ping') return answer('{}')
    const params = memberOf(message, ['params']) ?? {}
    if (!isObject(params)) throw new ProtocolError(METHOD_NOT_FOUND, '`params` is not an object.')
    if (!canBeAsked(capabilities, method, params)) {
      await this.#recordUnasked(method, params, 'the client cannot be asked this')
      throw new ProtocolError(METHOD_NOT_FOUND, `The client cannot be asked ${method.slice(0, 128)}.`)
    }
    const call = on && INTERACTIVE.has(on.message.method) ? on : this.#likely()
    if (!call) {
      log('mcp.upstream.homeless', { server: name, method })
      await this.#recordUnasked(method, params, 'no call is under way')
      throw new ChaperoneError('unsupported', 'Clients of this version can be asked only during a call.')
    }
    this.#judging.add(message.id!)
    const settle = await call.judging(asker.may(method, params))
    if (!this.#judging.delete(message.id!)) {
      settle({ status: 'failed', facts: { why: 'withdrawn' } })
      throw new ChaperoneError('upstream_unavailable', 'The server has withdrawn its question.')
    }
    const result = await call.ask({ serverId: message.id, method, params: question(message), settle })
    return answer(result)
  }

  /** A question that no client gets stands in the record all the same; what policy says of it changes nothing for the server. */
  async #recordUnasked(method: string, params: Readonly<Record<string, unknown>>, why: string): Promise<void> {
    try {
      const settle = await this.#parts.asker.may(method, params)
      settle({ status: 'failed', facts: { why } })
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
    }
  }
}

/** Notifications that the modern era has no word for. */
const LEGACY_ONLY: ReadonlySet<string> = new Set(['notifications/elicitation/complete', 'notifications/tasks/status'])

/** The parameters as a modern client gets them: without the id that the modern era took away, and without tasks of the legacy one. */
function question(message: UpstreamMessage): string {
  const params = message.members.get('params')
  if (!params) return '{}'
  const url = memberOf(message, ['params', 'mode']) === 'url'
  return onOneLine(remade(message.text, {}, (key) => key === 'task' || (url && key === 'elicitationId'), params.start))
}
