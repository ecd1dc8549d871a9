import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import { type Era, MODERN_VERSIONS } from '../era.ts'
import { BareStatus } from '../types.ts'
import { isObject, ProtocolError } from '../wire.ts'

/** How a server wants to be spoken to. A server of both eras is `modern` for a modern client, and `legacy` for a legacy one. */
export type Spoken = Era | 'old-sse'

/** What was measured of one server, for one era of clients. */
export interface Verdict {
  get(): Spoken | undefined
  set(spoken: Spoken): void
  forget(): void
  /** One measurement at a time, however many ask. One that failed was its caller's: who waited with it measures anew. */
  once(measure: () => Promise<Spoken>): Promise<Spoken>
}

/**
 * Remembers how servers are spoken to. A stale verdict for the legacy era would work silently for ever, so all of them end;
 * one for the modern era also ends when the server contradicts it. All of a server's callers share what Chaperone shows to it,
 * so one verdict holds for all: the authorization context is the document, whose change forgets it.
 */
export function verdicts(clock: Clock, keptMs: number): (server: string, spec: string, client: Era) => Verdict {
  const known = new Map<string, { readonly spec: string; spoken: Spoken | undefined; until: number; measuring: Promise<Spoken> | undefined }>()
  return (server, spec, client) => {
    const key = `${client} ${server}`
    const entry = () => {
      const before = known.get(key)
      if (before?.spec === spec) return before
      const fresh = { spec, spoken: undefined, until: 0, measuring: undefined }
      known.set(key, fresh)
      return fresh
    }
    const set = (spoken: Spoken) => Object.assign(entry(), { spoken, until: clock.now() + keptMs })
    const get = () => {
      const { spoken, until } = entry()
      return until > clock.now() ? spoken : undefined
    }
    return {
      get,
      set,
      forget: () => void known.delete(key),
      once(measure) {
        const mine = entry()
        const run = () => {
          const measuring = measure()
            .then((spoken) => {
              set(spoken)
              return spoken
            })
            .finally(() => {
              if (mine.measuring === measuring) mine.measuring = undefined
            })
          mine.measuring = measuring
          return measuring
        }
        return mine.measuring?.catch(() => mine.measuring ?? run()) ?? run()
      },
    }
  }
}

/** Error codes that only a server of the modern era gives. */
const MODERN_CODES: readonly unknown[] = [-32020, -32021, -32022]

/** What the answer to `server/discover` says. */
export function eraByAnswer(text: string): Era {
  let answer: unknown
  try {
    answer = JSON.parse(text)
  } catch {
    return 'legacy'
  }
  if (!isObject(answer)) return 'legacy'
  if (isObject(answer.error)) return MODERN_CODES.includes(answer.error.code) ? 'modern' : 'legacy'
  const versions = isObject(answer.result) ? answer.result.supportedVersions : undefined
  return Array.isArray(versions) && versions.some((version) => MODERN_VERSIONS.includes(version as string)) ? 'modern' : 'legacy'
}

/**
 * What it says that there was no JSON-RPC answer to `server/discover`. A refusal to talk to us at all, a server that is down,
 * and silence over HTTP are no evidence (reference: client guidance of 2026-07-28): those are thrown on.
 */
export function eraByFailure(error: unknown, transport: 'http' | 'stdio'): Era {
  if (error instanceof ProtocolError) return 'legacy'
  if (error instanceof BareStatus && error.status >= 400 && error.status < 500 && ![401, 403, 408, 429].includes(error.status)) return 'legacy'
  // Some servers end, and some are silent, at a first message that is no `initialize`.
  if (transport === 'stdio' && error instanceof ChaperoneError && (error.code === 'upstream_timeout' || error.code === 'upstream_unavailable'))
    return 'legacy'
  throw error
}
