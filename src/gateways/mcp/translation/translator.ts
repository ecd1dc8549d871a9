import type { Clock } from '../../../clock.ts'
import type { ChaperoneError } from '../../../errors.ts'
import type { McpLimits } from '../limits.ts'
import type { Asker, Errand, Upstream } from '../types.ts'

/** What a translator is made of: one client's lane to a server of the other era. */
export interface TranslatorParts {
  /** name of the server in the catalog, for messages */
  readonly name: string
  /**
   * Opens a raw way to the server in its own era; `asker` sees what the server says on it. `ended` is called when that way
   * is over (the process ended, the server forgot the session). May be called again.
   */
  readonly open: (asker: Asker, ended: (why: ChaperoneError) => void) => Upstream
  /** Judges, filters and relays, in the client's era. */
  readonly asker: Asker
  /** For every message of our own: what the client sent has its permit already. */
  readonly errand: Errand
  readonly clock: Clock
  readonly limits: McpLimits
  readonly log: (what: string, facts: Record<string, unknown>) => void
  /** The lane is over and must be opened anew. */
  readonly ended: (why: ChaperoneError) => void
}
