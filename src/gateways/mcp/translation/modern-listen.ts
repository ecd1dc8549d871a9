import type { Outcome, Permit } from '../../../access/types.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { Answer } from '../answer.ts'
import { META_SUBSCRIPTION } from '../era.ts'
import { membersOf, onOneLine, remade, spanAt } from '../text/json-text.ts'
import { sseEvent } from '../text/sse.ts'
import { INVALID_PARAMS, isObject, memberOf, ProtocolError, type Request, type UpstreamMessage } from '../wire.ts'

interface ListensParts {
  readonly capabilities: () => Readonly<Record<string, unknown>>
  /** JSON text of the server's own name, for the closing result */
  readonly info: () => string | undefined
  /** The stream on which the server tells of changes: resolves when it is open, or known to be none. */
  readonly stream: () => Promise<void>
  /** `resources/subscribe` or `resources/unsubscribe`; rejects when the server does not. */
  readonly subscribe: (uri: string, on: boolean) => Promise<void>
  /** Whether the client may get this. */
  readonly may: (message: UpstreamMessage) => boolean
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

interface Listen {
  readonly idText: string
  readonly answer: Answer
  readonly kinds: ReadonlySet<string>
  readonly uris: Set<string>
  /** what comes before the acknowledgement, which must be first */
  early: string[] | undefined
  readonly end: () => void
}

/** The member of the filter for each kind of change, and the capability that a server tells of it by. */
const KINDS = [
  { asked: 'toolsListChanged', method: 'notifications/tools/list_changed', feature: 'tools' },
  { asked: 'promptsListChanged', method: 'notifications/prompts/list_changed', feature: 'prompts' },
  { asked: 'resourcesListChanged', method: 'notifications/resources/list_changed', feature: 'resources' },
] as const

const UPDATED = 'notifications/resources/updated'

export const CHANGES: ReadonlySet<string> = new Set([...KINDS.map(({ method }) => method), UPDATED])

/** Streams of one lane's clients that may be open at once. */
const MAX_LISTENS = 64
/** URIs of one listen; the acknowledgement says which of them count. */
const MAX_URIS = 256
const MAX_EARLY = 64

/** The `subscriptions/listen` streams that one legacy session feeds. */
export class Listens {
  readonly #parts: ListensParts
  readonly #open = new Set<Listen>()
  /** how many listens want each resource */
  readonly #wanted = new Map<string, number>()
  #over = false

  constructor(parts: ListensParts) {
    this.#parts = parts
  }

  get size(): number {
    return this.#open.size
  }

  /** Serves one listen until either side ends it. */
  async serve(permit: Permit, message: Request, answer: Answer): Promise<Outcome> {
    const filter = message.params.notifications
    if (!isObject(filter)) throw new ProtocolError(INVALID_PARAMS, '`notifications` is not an object.')
    if (this.#open.size >= MAX_LISTENS) throw new ChaperoneError('too_many', `This session has ${MAX_LISTENS} subscriptions open.`)
    if (!answer.streams) throw new ProtocolError(INVALID_PARAMS, 'The Accept header must name text/event-stream.', { http: 406 })
    const id = spanAt(message.text, ['id'])!
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const kinds = KINDS.filter(({ asked, feature }) => filter[asked] === true && this.#tells(feature, 'listChanged'))
    const listen: Listen = {
      idText: message.text.slice(id.start, id.end),
      answer,
      kinds: new Set(kinds.map(({ method }) => method)),
      uris: new Set(),
      early: [],
      end: resolve,
    }
    const cut = () => reject(permit.signal.reason)
    permit.signal.addEventListener('abort', cut)
    // Nobody waits for it yet while the server is asked; it must not count as unhandled.
    promise.catch(() => {})
    answer.whenGone(resolve)
    this.#open.add(listen)
    try {
      if (this.#over) resolve()
      await Promise.race([promise, this.#begin(listen, filter.resourceSubscriptions)])
      const uris = filter.resourceSubscriptions === undefined ? {} : { resourceSubscriptions: [...listen.uris] }
      const honoured = { ...Object.fromEntries(kinds.map(({ asked }) => [asked, true])), ...uris }
      answer.open()
      await answer.write(sseEvent(this.#acknowledged(listen, honoured)))
      for (const text of listen.early?.splice(0) ?? []) await answer.write(sseEvent(text))
      listen.early = undefined
      // What nothing can come on need not stay open.
      if (listen.kinds.size > 0 || listen.uris.size > 0) await promise
      if (!answer.gone) {
        await answer.write(sseEvent(this.#closing(listen)))
        answer.end()
      }
      return { status: 'ok' }
    } finally {
      permit.signal.removeEventListener('abort', cut)
      this.#open.delete(listen)
      await this.#release(listen)
    }
  }

  #tells(feature: string, what: string): boolean {
    const of = this.#parts.capabilities()[feature]
    return isObject(of) && of[what] === true
  }

  async #begin(listen: Listen, asked: unknown): Promise<void> {
    const { stream, subscribe, log } = this.#parts
    const uris =
      Array.isArray(asked) && this.#tells('resources', 'subscribe') ? new Set(asked.filter((uri) => typeof uri === 'string')) : new Set<string>()
    if (listen.kinds.size > 0 || uris.size > 0) await stream()
    for (const uri of [...uris].slice(0, MAX_URIS)) {
      if (!this.#open.has(listen)) return
      const count = this.#wanted.get(uri) ?? 0
      this.#wanted.set(uri, count + 1)
      listen.uris.add(uri)
      if (count > 0) continue
      try {
        await subscribe(uri, true)
      } catch (error) {
        log('mcp.subscribe', { error: String(error) })
        listen.uris.delete(uri)
        await this.#drop(uri, false)
      }
    }
  }

  async #release(listen: Listen): Promise<void> {
    for (const uri of listen.uris) await this.#drop(uri, true)
  }

  async #drop(uri: string, subscribed: boolean): Promise<void> {
    const left = (this.#wanted.get(uri) ?? 0) - 1
    if (left > 0) {
      this.#wanted.set(uri, left)
      return
    }
    this.#wanted.delete(uri)
    if (!subscribed || this.#over) return
    await this.#parts.subscribe(uri, false).catch((error: unknown) => this.#parts.log('mcp.unsubscribe', { error: String(error) }))
  }

  /** A change that the server tells of: to every listen that asked for it, and to no other. */
  told(message: UpstreamMessage): void {
    // Asked even when nobody listens: what is known of the server's lists ends with it.
    if (!this.#parts.may(message) || this.#open.size === 0) return
    const uri = message.method === UPDATED ? memberOf(message, ['params', 'uri']) : undefined
    for (const listen of this.#open) {
      if (message.method === UPDATED ? !(typeof uri === 'string' && covers(listen.uris, uri)) : !listen.kinds.has(message.method!)) continue
      const text = tagged(message.text, listen.idText)
      if (!listen.early) void listen.answer.write(sseEvent(text))
      else if (listen.early.length < MAX_EARLY) listen.early.push(text)
      else listen.end()
    }
  }

  /** The server is gone: every listen ends with its closing result. */
  end(): void {
    this.#over = true
    for (const listen of [...this.#open]) listen.end()
  }

  #acknowledged({ idText }: Listen, honoured: Record<string, unknown>): string {
    const meta = `{"${META_SUBSCRIPTION}":${idText}}`
    return `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":${meta},"notifications":${JSON.stringify(honoured)}}}`
  }

  #closing({ idText }: Listen): string {
    const info = this.#parts.info()
    const server = info === undefined ? '' : `,"io.modelcontextprotocol/serverInfo":${onOneLine(info)}`
    return `{"jsonrpc":"2.0","id":${idText},"result":{"resultType":"complete","_meta":{"${META_SUBSCRIPTION}":${idText}${server}}}}`
  }
}

/** The resource itself, or one below it: a server may tell of parts of what was subscribed to. */
const covers = (uris: ReadonlySet<string>, uri: string): boolean =>
  uris.has(uri) || [...uris].some((one) => uri.startsWith(one.endsWith('/') ? one : `${one}/`))

function tagged(text: string, idText: string): string {
  const params = spanAt(text, ['params'])
  const at = params && text[params.start] === '{' ? params : undefined
  const meta = at && membersOf(text, at.start).get('_meta')
  const tag = { [META_SUBSCRIPTION]: idText }
  const written = meta && text[meta.start] === '{' ? remade(text, tag, () => false, meta.start) : remade('{}', tag)
  return onOneLine(remade(text, { params: at ? remade(text, { _meta: written }, () => false, at.start) : `{"_meta":${written}}` }))
}
