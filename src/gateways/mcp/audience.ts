import type { RightsChange } from '../../access/rights-watch.ts'
import type { LiveSession } from '../../identity/types.ts'
import { HttpAnswer } from './answer.ts'
import { META_SUBSCRIPTION } from './era.ts'
import { sseEvent } from './text/sse.ts'
import type { Visit } from './visit.ts'
import { isObject, type Request } from './wire.ts'

/** The notifications by which a client learns that a list is another one now, and the word of a modern filter that asks for each. */
const LIST_CHANGES: Readonly<Record<string, string>> = {
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
  /** with the rules under which each was told last what there is */
  readonly #listeners = new Map<Listener, string>()
  readonly #concerns: (session: LiveSession, server: string) => boolean
  readonly #rulesOf: RightsChange['rulesOf']

  constructor(concerns: (session: LiveSession, server: string) => boolean, rulesOf: RightsChange['rulesOf'] = () => '') {
    this.#concerns = concerns
    this.#rulesOf = rulesOf
  }

  join(listener: Listener): () => void {
    this.#listeners.set(listener, this.#rulesOf(listener.session.principal.chain))
    return () => this.#listeners.delete(listener)
  }

  /** Rights have changed: whoever has other rules now, or sees a server whose document is another one, is told. */
  async reviewed({ resources, rulesOf }: RightsChange): Promise<void> {
    let turn = 0
    for (const [listener, before] of [...this.#listeners]) {
      if (++turn % AT_ONCE === 0) await new Promise((resolve) => setImmediate(resolve))
      // It has left meanwhile, or was told by a later change.
      if (this.#listeners.get(listener) !== before) continue
      const now = rulesOf(listener.session.principal.chain)
      if (now !== before) this.#listeners.set(listener, now)
      if (now !== before ? now !== '' || listener.server === undefined : this.#concerned(listener, resources)) tellAll(listener)
    }
  }

  /** What there is of these servers has changed. */
  changed(servers: ReadonlySet<string>): void {
    for (const listener of this.#listeners.keys()) if (this.#concerned(listener, servers)) tellAll(listener)
  }

  #concerned({ session, server }: Listener, servers: ReadonlySet<string>): boolean {
    const mine = server === undefined ? [...servers] : servers.has(server) ? [server] : []
    return mine.some((id) => this.#concerns(session, id))
  }
}

/** Compared in one go; then others get their turn. */
const AT_ONCE = 100

const tellAll = ({ tell }: Listener): void => {
  for (const method of Object.keys(LIST_CHANGES)) tell(method)
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
