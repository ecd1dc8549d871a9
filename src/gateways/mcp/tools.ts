import { type Annotations, annotationsOf } from './describe.ts'
import { isObject } from './wire.ts'

/** What one server says of its own tools, as last seen by this process. Forgotten when the server says that its list changed. */
export interface KnownTools {
  get(tool: string): Annotations | undefined
  learn(items: readonly unknown[]): void
  forget(): void
}

/** More tools than any server has; a list without end must not fill our memory. */
const MAX_TOOLS = 10_000

export function knownTools(): KnownTools {
  const tools = new Map<string, Annotations>()
  return {
    get: (tool) => tools.get(tool),
    learn(items) {
      for (const item of items) {
        if (!isObject(item) || typeof item.name !== 'string') continue
        // Of two tools with one name the later could speak for the earlier (peers R91): neither is believed.
        const before = tools.get(item.name)
        const now = annotationsOf(item)
        const same = before === undefined || JSON.stringify(before) === JSON.stringify(now)
        if (tools.size < MAX_TOOLS || before) tools.set(item.name, same ? now : {})
      }
    },
    forget: () => tools.clear(),
  }
}
