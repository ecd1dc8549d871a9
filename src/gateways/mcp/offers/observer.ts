import type { PinActor, PinBook, PinnedServer, Seen } from '../../../catalog/pin-book.ts'
import { isUsable, type PinKind, type Subject } from '../../../catalog/pins.ts'
import { findCaseVariants } from '../../../encoding/case-variants.ts'
import { ChaperoneError } from '../../../errors.ts'
import { edited, membersOf, type Span, spanAt } from '../text/json-text.ts'
import { isObject } from '../wire.ts'
import { type Item, type Listing, quarantinedMeta } from './filter.ts'
import type { KnownTools } from './tools.ts'

/** The lists whose items have definitions that a model reads. Resources are data. */
const KIND_OF: Readonly<Record<string, PinKind>> = {
  'tools/list': 'tool',
  'prompts/list': 'prompt',
  'resources/templates/list': 'template',
}

/** The list that must have been seen before a message is sent: what it names may have another definition by now. */
export const LIST_BEFORE: Readonly<Record<string, string>> = { 'tools/call': 'tools/list', 'prompts/get': 'prompts/list' }

interface ObserverParts {
  readonly pins: Pick<PinBook, 'of' | 'observe'>
  readonly tools: KnownTools
  readonly server: () => PinnedServer
  /** whose list it is */
  readonly who: () => PinActor
}

/**
 * Watches what one lane's server says of what it offers, before the client hears it. Each lane by itself: a server may show
 * another definition to another identity, and a process that was started again may be another program.
 */
export interface Observer {
  /** Undefined when nothing in the list is new; else resolves when it is stored (then it may be asked what is usable). Rejects when it cannot be. */
  list(method: string, listing: Listing): Promise<void> | undefined
  /** Whether the item may be shown as it stands there: its definition is the one that holds. Resources always are. */
  usable(method: string, item: Item): boolean
  /** Takes instructions out of the answer to `initialize` or `server/discover` while they wait for an administrator. */
  instructions(text: string): Promise<string>
  /**
   * The list that must be seen before this message, when this lane has not seen it since it began, since the server said that
   * it changed, or since somebody decided about a definition.
   */
  wanted(method: string): string | undefined
  /** Has the list brought, once for all who ask meanwhile. Resolves when it was seen, and when it could not be had: then what the store knows decides. */
  have(list: string, bring: () => Promise<void>): Promise<void>
  /** The server said that a list changed. */
  changed(list: string): void
  /** It may be another program from now on: nothing of it was seen yet. */
  anew(): void
}

export function makeObserver({ pins, tools, server, who }: ObserverParts): Observer {
  /** by list: the newest decision about a definition when it was seen */
  const looked = new Map<string, number>()
  const underWay = new Map<string, Promise<void>>()
  const current = () => pins.of(server().id)

  return {
    list(method, { items, last }) {
      const kind = KIND_OF[method]
      if (kind === undefined) return undefined
      const there = current()
      if (last) looked.set(method, there.decidedAt)
      const news: Seen[] = []
      for (const item of items) {
        const subject = subjectOf(kind, item)
        if (!subject) continue
        const definition = tools.define(subject, item)
        const pin = there.get(kind, subject.name)
        if (pin?.approved !== definition.sha256 && pin?.pending !== definition.sha256) news.push({ ...subject, definition })
      }
      return news.length === 0 ? undefined : pins.observe(server(), news, who())
    },

    usable(method, item) {
      const kind = KIND_OF[method]
      if (kind === undefined) return true
      const subject = subjectOf(kind, item)
      const pin = subject && current().get(kind, subject.name)
      return pin !== undefined && isUsable(pin) && pin.approved === tools.define(subject!, item).sha256
    },

    async instructions(text) {
      refuseTwin(text)
      const span = spanAt(text, ['result', 'instructions'])
      const value: unknown = span && JSON.parse(text.slice(span.start, span.end))
      // Nothing is said to the model.
      if (!span || value === null || value === '') return text
      const subject = { kind: 'instructions', name: '' } as const
      const item: Item = { value, text: text.slice(span.start, span.end), exact: true }
      const definition = tools.define(subject, item)
      const known = () => current().get('instructions', '')
      const before = known()
      if (before?.approved !== definition.sha256 && before?.pending !== definition.sha256) {
        await pins.observe(server(), [{ ...subject, definition }], who())
      }
      const pin = known()
      if (pin && isUsable(pin) && pin.approved === definition.sha256) return text
      return withoutMember(text, spanAt(text, ['result'])!, 'instructions')
    },

    wanted(method) {
      const list = LIST_BEFORE[method]
      return list === undefined || looked.get(list) === current().decidedAt ? undefined : list
    },
    have(list, bring) {
      const other = underWay.get(list)
      if (other) return other
      const { decidedAt } = current()
      const mine = bring().finally(() => {
        underWay.delete(list)
        // Tried once: a server that has no such list is not asked before every call.
        looked.set(list, decidedAt)
      })
      underWay.set(list, mine)
      return mine
    },
    changed: (list) => void looked.delete(list),
    anew: () => looked.clear(),
  }
}

/** What an item of a list is called; undefined when it has no name and so is none. */
function subjectOf(kind: PinKind, { value }: Item): Subject | undefined {
  if (!isObject(value)) return undefined
  const name = kind === 'template' ? value.uriTemplate : value.name
  return typeof name === 'string' ? { kind, name } : undefined
}

/** A client whose decoder ignores case would read `Instructions`, of which no pin knows (peers R01). */
function refuseTwin(text: string): void {
  const result = spanAt(text, ['result'])
  if (!result || text[result.start] !== '{') return
  if (findCaseVariants(Object.fromEntries([...membersOf(text, result.start).keys()].map((key) => [key, true])), WORDS).length > 0)
    throw new ChaperoneError('upstream_unavailable', "The server's instructions can be read in two ways, so they are not passed on.")
}
const WORDS = ['instructions']

/** The object without one member, and with a word about it in `_meta`; every other byte stays. */
function withoutMember(text: string, object: Span, key: string): string {
  const members = membersOf(text, object.start)
  const others = [...members].filter(([name]) => name !== key && name !== '_meta')
  const parts = others.map(([name, span]) => `${JSON.stringify(name)}:${text.slice(span.start, span.end)}`)
  parts.push(`"_meta":${quarantinedMeta(text, members.get('_meta'), [key])}`)
  return edited(text, [{ ...object, text: `{${parts.join(',')}}` }])
}
