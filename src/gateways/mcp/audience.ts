import type { LiveSession } from '../../identity/types.ts'
import { HttpAnswer } from './answer.ts'
import { META_SUBSCRIPTION } from './era.ts'
import { sseEvent } from './text/sse.ts'
import type { Visit } from './visit.ts'
import { isObject, type Request } from './wire.ts'

/** The notifications by which a client learns that a list is another one now, and the word of a modern filter that asks for each. */
export const LIST_CHANGES: Readonly<Record<string, string>> = {
  'notifications/tools/list_changed': 'toolsListChanged',
  'notifications/prompts/list_changed': 'promptsListChanged',
  'notifications/resources/list_changed': 'resourcesListChanged',
}

/** A stream on which a client hears of changes. */
export interface Listener {
  readonly session: LiveSession
  /** id of the one server that it is about; undefined: the endpoint of all */
  readonly server: string | undefined
  tell(method: string): void
}

/**
 * Who hears of changes that no server tells of, because they are ours: a lock hides tools, and lifting it brings them back.
 * `concerns`: whether the listener may see one of these servers at all; to others nothing has changed (rule 8).
 */
export class Audience {
  readonly #listeners = new Set<Listener>()
  readonly #concerns: (session: LiveSession, server: string) => boolean

  constructor(concerns: (session: LiveSession, server: string) => boolean) {
    this.#concerns = concerns
  }

  join(listener: Listener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** What there is of these servers has changed. */
  changed(servers: ReadonlySet<string>): void {
    for (const { session, server, tell } of this.#listeners) {
      const mine = server === undefined ? [...servers] : servers.has(server) ? [server] : []
      if (mine.some((id) => this.#concerns(session, id))) for (const method of Object.keys(LIST_CHANGES)) tell(method)
    }
  }
}

/** Whether the filter of a `subscriptions/listen` asks for it. */
export const asksFor = ({ params }: Request, method: string): boolean =>
  isObject(params.notifications) && params.notifications[LIST_CHANGES[method] ?? ''] === true

/** The stream of a client hears of it, between what its server says. `asked`: a modern one, which says what it wants to hear. Returns what ends that. */
export const hear = (audience: Audience, { caller, answer }: Pick<Visit, 'caller' | 'answer'>, server: string, asked?: Request): (() => void) =>
  audience.join({
    session: caller.session,
    server,
    tell(method) {
      // The first word of a modern stream is its acknowledgement.
      if (!(answer instanceof HttpAnswer) || answer.began !== 'stream' || (asked && !(answer.spoken && asksFor(asked, method)))) return
      const params = asked ? { params: { _meta: { [META_SUBSCRIPTION]: asked.id } } } : {}
      void answer.write(sseEvent(JSON.stringify({ jsonrpc: '2.0', method, ...params })))
    },
  })
