import type { AuditLog } from '../../audit/record.ts'
import type { McpServerSpec } from '../../catalog/mcp-server.ts'
import type { Clock } from '../../clock.ts'
import type { ChaperoneError } from '../../errors.ts'
import type { LiveSession } from '../../identity/types.ts'
import { Child } from './child.ts'
import type { Era } from './era.ts'
import type { Isolator } from './isolation.ts'
import type { Server } from './lanes.ts'
import type { McpLimits } from './limits.ts'
import { StdioUpstream } from './stdio.ts'
import { StreamableUpstream } from './streamable.ts'
import { type KnownTools, knownTools } from './tools.ts'
import { type Asker, NotSent, type Upstream } from './types.ts'
import { HttpServer } from './upstream.ts'

export interface ServersParts {
  readonly audit: Pick<AuditLog, 'append' | 'addSecrets'>
  readonly reveal: (secret: string) => Promise<string>
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
  readonly ended: (why: ChaperoneError) => void
}

export interface Servers {
  upstream(ask: Ask): Upstream
  /** What a server says of its tools, for all who use it: it is the same program. */
  tools(server: Server): KnownTools
  close(): void
}

/** A revealed secret is used again for so long: short enough that a rotated one counts at once, long enough for a burst. */
const SECRET_MS = 1_000
/** A child that lived for so long did not crash at its start. */
const STEADY_MS = 60_000

/** What is known of each server of the catalog in this process: its connections, its tools, how it fared. */
export function makeServers({ audit, reveal, isolator, clock, limits, log }: ServersParts): Servers {
  const http = new Map<string, { readonly spec: string; readonly server: HttpServer }>()
  const tools = new Map<string, { readonly spec: string; readonly known: KnownTools }>()
  const falls = new Map<string, { count: number; until: number }>()
  /** A stale verdict for the legacy era would work silently for ever, so it ends. */
  const legacyUntil = new Map<string, number>()
  const fallKey = ({ session, server }: Ask) => `${server.resource.id} ${session.principal.identityId}`

  const values = async (record: McpServerSpec['env']): Promise<Record<string, string>> => {
    const out: Record<string, string> = {}
    for (const [name, value] of Object.entries(record)) {
      out[name] = typeof value === 'string' ? value : await reveal(value.secret)
      if (typeof value !== 'string') audit.addSecrets([out[name]])
    }
    return out
  }

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

  const httpServer = ({ resource, spec }: Server, url: string): HttpServer => {
    const text = JSON.stringify(spec)
    const known = http.get(resource.id)
    if (known?.spec === text) return known.server
    known?.server.close()
    const server = new HttpServer({ name: resource.name, url, ca: spec.ca, headers: briefly(() => values(spec.headers)), clock, limits })
    http.set(resource.id, { spec: text, server })
    return server
  }

  /** Refuses to start what just kept ending, instead of holding the caller: a model can be told, a hanging call cannot. */
  const mayStart = (key: string, name: string): void => {
    const left = (falls.get(key)?.until ?? 0) - clock.now()
    if (left > 0) {
      throw new NotSent(
        'upstream_unavailable',
        `The MCP server ${name} keeps ending; it is started again in ${Math.ceil(left / 1000)} s at the earliest.`,
        { fix: 'See the log of Chaperone for what it wrote to stderr.' },
      )
    }
  }
  const fell = (key: string, lived: number): void => {
    if (falls.size > 10_000) falls.clear()
    const count = lived >= STEADY_MS ? 1 : (falls.get(key)?.count ?? 0) + 1
    // One fall may be chance; from the second on it doubles.
    const wait = count < 2 ? 0 : Math.min(limits.backoffMs, 500 * 2 ** Math.min(count - 1, 20))
    falls.set(key, { count, until: clock.now() + wait })
  }

  const startChild = async (
    ask: Ask,
    command: readonly string[],
    line: (text: string) => void,
    ended: (why: ChaperoneError) => void,
  ): Promise<Child> => {
    const { session, server } = ask
    const { resource, spec } = server
    const key = fallKey(ask)
    mayStart(key, resource.name)
    const launch = await isolator.prepare(resource, { ...spec, command })
    try {
      // npx and uvx do not start without a home; the child's own folder is the only one it may write to.
      const env = { PATH: process.env.PATH ?? '/usr/bin:/bin', HOME: launch.home, ...(await values(spec.env)) }
      const record = {
        actor: { id: session.principal.identityId, name: session.principal.name, kind: session.principal.kind },
        session: session.id,
        data: { server: { id: resource.id, name: resource.name }, isolation: launch.how, ...(launch.uid === undefined ? {} : { uid: launch.uid }) },
      }
      await audit.append({ ...record, type: 'server.started', data: { ...record.data, command: command[0], environment: Object.keys(spec.env) } })
      const startedAt = clock.now()
      return new Child({
        name: resource.name,
        launch,
        env,
        clock,
        limits,
        line,
        ended(why, { code, signal, stderr, stopped }) {
          if (!stopped) fell(key, clock.now() - startedAt)
          log('mcp.child.ended', { server: resource.name, code, signal, stopped, why: why.message, stderr: stderr.slice(-4000) })
          audit
            .append({ ...record, type: 'server.stopped', data: { ...record.data, code, signal, reason: why.code } })
            .catch((error: unknown) => log('mcp.child.record', { server: resource.name, error: String(error) }))
          ended(why)
        },
      })
    } catch (error) {
      launch.release()
      throw error
    }
  }

  return {
    upstream(ask) {
      const { spec, resource } = ask.server
      const modern = ask.era === 'modern'
      if (spec.url !== undefined)
        return new StreamableUpstream({
          name: resource.name,
          modern,
          server: httpServer(ask.server, spec.url),
          asker: ask.asker,
          clock,
          limits,
          log,
          ended: ask.ended,
        })
      const command = spec.command!
      const era = {
        isLegacy: () => (legacyUntil.get(resource.id) ?? 0) > clock.now(),
        sawLegacy() {
          legacyUntil.set(resource.id, clock.now() + limits.eraMs)
          // Ending at a message of another era is no fall.
          falls.delete(fallKey(ask))
        },
      }
      return new StdioUpstream({
        name: resource.name,
        modern,
        start: (line, ended) => startChild(ask, command, line, ended),
        era,
        asker: ask.asker,
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

    close() {
      for (const { server } of http.values()) server.close()
    },
  }
}
