import type { AuditLog } from '../../audit/record.ts'
import type { McpServerSpec } from '../../catalog/mcp-server.ts'
import type { Clock } from '../../clock.ts'
import type { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import type { UpstreamLogins } from '../../vault/logins.ts'
import type { Era } from './era.ts'
import { OldSseUpstream } from './http/old-sse.ts'
import { StreamableUpstream } from './http/streamable.ts'
import { UpstreamHttp } from './http/upstream.ts'
import type { Server } from './lanes.ts'
import type { McpLimits } from './limits.ts'
import { type KnownTools, knownTools } from './offers/tools.ts'
import type { Isolator } from './stdio/isolation.ts'
import { stdioPool } from './stdio/process-pool.ts'
import { EitherEra } from './translation/either-era.ts'
import { type Spoken, verdicts } from './translation/spoken.ts'
import type { Asker, Errand, Upstream } from './types.ts'

export interface ServersParts {
  readonly audit: Pick<AuditLog, 'append' | 'addSecrets'>
  readonly reveal: (secret: string) => Promise<string>
  /** Logins at servers that want OAuth; absent where there is no store to keep them. */
  readonly logins?: Pick<UpstreamLogins, 'of'> | undefined
  readonly isolator: Isolator
  readonly clock: Clock
  readonly limits: McpLimits
  readonly log: (what: string, facts: Record<string, unknown>) => void
}

export interface Ask {
  readonly era: Era
  readonly session: LiveSession
  readonly server: Server
  readonly asker: Asker
  readonly errand: Errand
  readonly ended: (why: ChaperoneError) => void
  /** A way to the server is over: what answers on the next one may be another program. */
  readonly anew?: () => void
}

export interface Servers {
  upstream(ask: Ask): Upstream
  /** What a server says of its tools, for all who use it: it is the same program. */
  tools(server: Server): KnownTools
  /** stdio processes that run, for metrics */
  readonly running: number
  /** Resolves when every process of ours is gone. */
  close(): Promise<void>
}

/** What is sealed is one under any name of a header. */
const isCredential = ([name, value]: [string, McpServerSpec['headers'][string]]) => typeof value !== 'string' || CREDENTIALS.has(name.toLowerCase())
const CREDENTIALS: ReadonlySet<string> = new Set(['authorization', 'cookie', 'x-api-key', 'api-key'])

/** A revealed secret is used again for so long: short enough that a rotated one counts at once, long enough for a burst. */
const SECRET_MS = 1_000

/** What is known of each server of the catalog in this process: its connections, its tools, how it fared. */
export function makeServers({ audit, reveal, logins, isolator, clock, limits, log }: ServersParts): Servers {
  const http = new Map<string, { readonly spec: string; readonly server: UpstreamHttp }>()
  const tools = new Map<string, { readonly spec: string; readonly known: KnownTools }>()
  const verdictOf = verdicts(clock, limits.eraMs)

  const values = async (record: McpServerSpec['env']): Promise<Record<string, string>> => {
    const out: Record<string, string> = {}
    for (const [name, value] of Object.entries(record)) {
      out[name] = typeof value === 'string' ? value : await reveal(value.secret)
      if (typeof value !== 'string') audit.addSecrets([out[name]])
    }
    return out
  }

  const stdio = stdioPool({ isolator, audit, clock, limits, log, values })

  const briefly = (load: () => Promise<Record<string, string>>) => {
    let kept: { readonly until: number; readonly value: Promise<Record<string, string>> } | undefined
    return () => {
      if (!kept || kept.until <= clock.now()) {
        const value = load()
        kept = { until: clock.now() + SECRET_MS, value }
        value.catch(() => {
          kept = undefined
        })
      }
      return kept.value
    }
  }

  const httpServer = ({ resource, spec }: Server, url: string): UpstreamHttp => {
    const text = JSON.stringify(spec)
    const known = http.get(resource.id)
    if (known?.spec === text) return known.server
    known?.server.close()
    const server = new UpstreamHttp({
      name: resource.name,
      url,
      ca: spec.ca,
      headers: briefly(() => values(spec.headers)),
      credential: spec.auth !== undefined || Object.entries(spec.headers).some(isCredential),
      clock,
      limits,
      log,
    })
    http.set(resource.id, { spec: text, server })
    return server
  }

  /** The server as this session speaks to it: with its login where the document asks for one. */
  const httpFor = ({ server, session }: Ask, url: string): UpstreamHttp => {
    const { resource, spec } = server
    const shared = httpServer(server, url)
    if (spec.auth === undefined || logins === undefined) return shared
    return shared.as(logins.of({ id: resource.id, name: resource.name, spec }, session.principal.chain))
  }

  const raw = (ask: Ask, spoken: Spoken, asker: Asker, over: (why: ChaperoneError) => void): Upstream => {
    const { spec, resource } = ask.server
    const ended = (why: ChaperoneError) => {
      ask.anew?.()
      over(why)
    }
    const modern = spoken === 'modern'
    if (spec.url !== undefined) {
      const way = { name: resource.name, server: httpFor(ask, spec.url), asker, clock, limits, log, ended }
      return spoken === 'old-sse' ? new OldSseUpstream(way) : new StreamableUpstream({ ...way, modern })
    }
    return stdio.open({ era: modern ? 'modern' : 'legacy', session: ask.session, server: ask.server, asker, ended })
  }

  return {
    upstream(ask) {
      const { spec, resource } = ask.server
      return new EitherEra({
        name: resource.name,
        era: ask.era,
        transport: spec.url === undefined ? 'stdio' : 'http',
        verdict: verdictOf(resource.id, JSON.stringify(spec), ask.era),
        raw: (spoken, asker, ended) => raw(ask, spoken, asker, ended),
        asker: ask.asker,
        errand: ask.errand,
        clock,
        limits,
        log,
        ended: ask.ended,
      })
    },

    tools({ resource, spec }) {
      const text = JSON.stringify(spec)
      const before = tools.get(resource.id)
      if (before?.spec === text) return before.known
      // Applied anew it may be another program: what the old one said of its tools would speak for tools that it never had.
      const known = knownTools()
      tools.set(resource.id, { spec: text, known })
      return known
    },

    get running() {
      return stdio.running
    },

    async close() {
      for (const { server } of http.values()) server.close()
      await stdio.close()
    },
  }
}
