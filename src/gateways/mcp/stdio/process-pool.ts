import { createMasker } from '../../../audit/mask.ts'
import type { AuditLog } from '../../../audit/record.ts'
import type { McpServerSpec } from '../../../catalog/mcp-server.ts'
import type { Clock } from '../../../clock.ts'
import { canonicalJson } from '../../../encoding/canonical-json.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { LiveSession } from '../../../identity/types.ts'
import { personOf } from '../crowd.ts'
import type { Era } from '../era.ts'
import type { Server } from '../lanes.ts'
import type { McpLimits } from '../limits.ts'
import { type Asker, NotSent, type Upstream } from '../types.ts'
import { isObject, type Notification, type Request, sessionGone } from '../wire.ts'
import { Child, type Ended, type EndReason } from './child.ts'
import { environmentFor } from './child-environment.ts'
import { type ChildLimits, childLimits } from './child-limits.ts'
import { Warden } from './child-warden.ts'
import { type Member, NeverSpoke } from './flight.ts'
import { Hub } from './hub.ts'
import type { Isolator } from './isolation.ts'
import { memoryWatch, sweep } from './memory.ts'
import { StdioSession } from './stdio-session.ts'

interface StdioPoolParts {
  readonly isolator: Isolator
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly limits: McpLimits
  readonly log: (what: string, facts: Record<string, unknown>) => void
  /** What a document says of the environment, sealed secrets opened. */
  readonly values: (env: McpServerSpec['env']) => Promise<Record<string, string>>
}

export interface StdioAsk {
  /** what is spoken with the server */
  readonly era: Era
  readonly session: LiveSession
  /** its spec has a `command` */
  readonly server: Server
  readonly asker: Asker
  /** The process of this session has ended, or could not be started. */
  readonly ended: (why: ChaperoneError) => void
}

export interface StdioPool {
  /** A session's way to a stdio server. Nothing runs until something is asked. */
  open(ask: StdioAsk): Upstream
  /** Ends every process. Resolves when all are gone. */
  close(): Promise<void>
  /** processes that run or are about to, for metrics */
  readonly running: number
}

/** Ends that somebody meant, or that a document asks for. */
const EXPECTED: ReadonlySet<EndReason> = new Set(['session_over', 'stopping', 'idle', 'lifetime'])

/** A child that lived for so long did not crash at its start. */
const STEADY_MS = 60_000

/** Who shares which process, what each may cost, how each ended (peers R82, R83, R88-R90). */
export function stdioPool(parts: StdioPoolParts): StdioPool {
  const { clock, limits, log } = parts
  /** processes that more sessions may join, by what these must have in common */
  const open = new Map<string, Hub>()
  /** with the person because of whom it was started */
  const all = new Map<Hub, string>()
  const falls = new Map<string, { count: number; until: number }>()
  const memory = memoryWatch(parts)
  const warden = new Warden(log)
  let closed = false

  const place = (ask: StdioAsk, message: Request | Notification, member: Member): Hub => {
    if (closed) throw new ChaperoneError('draining', 'Chaperone is shutting down.')
    const key = sharedBy(ask, message)
    const hub = (key === undefined ? undefined : open.get(key)) ?? begin(ask, key)
    hub.attach(member)
    return hub
  }

  const begin = (ask: StdioAsk, key: string | undefined): Hub => {
    const { spec, resource } = ask.server
    const person = personOf(ask.session)
    // A client that varies its handshake has a process for each, also of a server that all share.
    if ([...all.values()].filter((other) => other === person).length >= limits.childrenPerPerson)
      throw new ChaperoneError('too_many', `${limits.childrenPerPerson} processes of MCP servers run for you already.`, {
        fix: 'End MCP sessions that you no longer need.',
      })
    const cost = childLimits(spec)
    const bornAt = clock.now()
    let usedAt = bornAt
    let disarm = () => {}
    const idleMs = cost.idleMs ?? limits.idleMs

    const end = (reason: Ended['reason'], why: ChaperoneError) =>
      hub.stop(reason, why).catch((error: unknown) => log('mcp.child.stop', { server: resource.name, error: String(error) }))
    /** Sessions of an old process that is not used get a new one by a new handshake, which the standard provides for. */
    const review = () => {
      if (hub.over) return
      const now = clock.now()
      const old = cost.lifetimeMs !== undefined && now - bornAt >= cost.lifetimeMs
      if (old && key !== undefined && open.get(key) === hub) open.delete(key)
      if (hub.busy) usedAt = now
      else if (old) return void end('lifetime', sessionGone('The process of the MCP server was as old as it may get.'))
      else if (now - usedAt >= idleMs) return void end('idle', sessionGone('The process of the MCP server was idle for too long.'))
      disarm()
      const next = Math.min(usedAt + idleMs, cost.lifetimeMs === undefined || old ? Number.POSITIVE_INFINITY : bornAt + cost.lifetimeMs)
      disarm = clock.at(next, review)
    }

    const hub: Hub = new Hub({
      name: resource.name,
      era: ask.era,
      share: key === undefined ? 'session' : spec.share,
      clock,
      limits: { ...limits, startMs: cost.startMs ?? limits.startMs },
      log,
      start: (on) =>
        startChild(ask, cost, {
          ...on,
          ended(why, facts, lived) {
            if (!facts.stopped && (facts.reason === 'crashed' || facts.reason === 'not_started')) fell(scopeOf(ask), lived, hub.onlyProbed)
            on.ended(why, facts)
          },
        }),
      over() {
        disarm()
        all.delete(hub)
        if (key !== undefined && open.get(key) === hub) open.delete(key)
      },
      quiet() {
        usedAt = clock.now()
        // A process that is too old goes as soon as nothing is under way.
        if (cost.lifetimeMs !== undefined && usedAt - bornAt >= cost.lifetimeMs) review()
      },
      async left(why) {
        // What keeps nothing about its callers may wait for the next one; else it ends with those whose state it holds.
        const waits = spec.share === 'everybody' && key !== undefined && cost.idleMs !== undefined && !closed
        if (hub.members === 0 && !waits) await end(why instanceof NeverSpoke ? why.reason : 'session_over', why)
      },
    })
    all.set(hub, person)
    if (key !== undefined) open.set(key, hub)
    review()
    return hub
  }

  /** Refuses to start what just kept ending, instead of holding the caller: a model can be told, a hanging call cannot. */
  const mayStart = (scope: string, name: string): void => {
    const left = (falls.get(scope)?.until ?? 0) - clock.now()
    if (left > 0) {
      throw new NotSent(
        'upstream_unavailable',
        `The MCP server ${name} keeps ending; it is started again in ${Math.ceil(left / 1000)} s at the earliest.`,
        { fix: 'The log of Chaperone has what it wrote to stderr.' },
      )
    }
  }
  const fell = (scope: string, lived: number, onlyProbed: boolean): void => {
    // Ending at a message of another era is no fall.
    if (onlyProbed) return
    if (falls.size > 10_000) falls.clear()
    const count = lived >= STEADY_MS ? 1 : (falls.get(scope)?.count ?? 0) + 1
    // One fall may be chance; from the second on it doubles.
    const wait = count < 2 ? 0 : Math.min(limits.backoffMs, 500 * 2 ** Math.min(count - 1, 20))
    falls.set(scope, { count, until: clock.now() + wait })
  }

  const startChild = async (
    ask: StdioAsk,
    cost: ChildLimits,
    on: { line(text: string): void; stopping(why: ChaperoneError): void; ended(why: ChaperoneError, facts: Ended, lived: number): void },
  ): Promise<Child> => {
    const { session, server } = ask
    const { resource, spec } = server
    const command = spec.command!
    mayStart(scopeOf(ask), resource.name)
    // A limit that nobody can keep must not look kept (peers R90).
    if (cost.memoryBytes !== undefined && process.platform !== 'linux') {
      throw new ChaperoneError('unavailable_here', `The memory of the MCP server ${resource.name} cannot be limited on this system.`, {
        fix: 'Take `limits.memory` out of its document, or run Chaperone on Linux.',
      })
    }
    const launch = await parts.isolator.prepare(resource, { ...spec, command })
    // Before there is anything to end: from its first moment on the child ends when we do.
    let forget = warden.guard({ mark: launch.mark, group: undefined, folder: launch.cwd })
    try {
      // npx and uvx do not start without a home; the child's own folder is the only one it may write to.
      const whole: Record<string, string> = { PATH: process.env.PATH ?? '/usr/bin:/bin', HOME: launch.home, ...(await parts.values(spec.env)) }
      const { args, env } = environmentFor(launch, whole)
      const record = {
        actor: { id: session.principal.identityId, name: session.principal.name, kind: session.principal.kind },
        session: session.id,
        resource: { id: resource.id, name: resource.name, kind: resource.kind },
        data: {
          server: { id: resource.id, name: resource.name },
          isolation: launch.how,
          share: spec.share,
          ...(launch.uid === undefined ? {} : { uid: launch.uid }),
        },
      }
      await parts.audit.append({
        ...record,
        type: 'server.started',
        data: { ...record.data, command: command[0], environment: Object.keys(spec.env) },
      })
      const startedAt = clock.now()
      let unwatch = () => {}
      const child = new Child({
        name: resource.name,
        launch: { ...launch, args },
        env,
        clock,
        limits,
        ...(cost.outputBytes === undefined ? {} : { outputBytes: cost.outputBytes }),
        sweep,
        line: on.line,
        stopping: on.stopping,
        ended(why, facts) {
          unwatch()
          const { code, signal, reason, stopped, stderr } = facts
          // On record in any case; worth a line in the log only where nobody wanted it to end.
          if (!EXPECTED.has(reason))
            log('mcp.child.ended', {
              server: resource.name,
              reason,
              code,
              signal,
              stopped,
              why: why.message,
              stderr: masked(stderr.slice(-4000), env),
            })
          parts.audit
            .append({ ...record, type: 'server.stopped', data: { ...record.data, code, signal, reason, message: why.message, pid: child.pid } })
            .catch((error: unknown) => log('mcp.child.record', { server: resource.name, error: String(error) }))
          on.ended(why, facts, clock.now() - startedAt)
        },
      })
      forget()
      forget = warden.guard({ mark: launch.mark, group: child.pid, folder: launch.cwd })
      void child.gone.then(forget)
      if (cost.memoryBytes !== undefined) {
        unwatch = memory.watch({ pid: child.pid, mark: launch.mark }, cost.memoryBytes, (resident) => {
          const why = `The MCP server ${resource.name} was ended: it used more memory than its document allows (${spec.limits.memory}).`
          void child.stop(new ChaperoneError('upstream_unavailable', why, { detail: `${resident} bytes resident` }), 'memory')
        })
      }
      return child
    } catch (error) {
      forget()
      launch.release()
      throw error
    }
  }

  return {
    open(ask) {
      const { resource } = ask.server
      return new StdioSession({
        name: resource.name,
        modern: ask.era === 'modern',
        asker: ask.asker,
        hub: (message, member) => place(ask, message, member),
        limits,
        log,
        ended: ask.ended,
      })
    },

    async close() {
      closed = true
      const why = new ChaperoneError('draining', 'Chaperone is shutting down.')
      await Promise.all([...all.keys()].map((hub) => hub.stop('stopping', why)))
      warden.close()
    },

    get running() {
      return all.size
    },
  }
}

/** Whom a process belongs to: whoever else it serves would see what it knows of this one. */
function scopeOf({ session, server }: StdioAsk): string {
  const who = server.spec.share === 'everybody' ? '' : session.principal.chain.map(({ identity }) => identity).join('>')
  return `${server.resource.id} ${who}`
}

/** A server may ask these of its client: with two at one process nobody could say whom. */
const ASKABLE = ['sampling', 'elicitation', 'roots', 'tasks']

/**
 * What sessions must have in common to share a process; undefined: this one needs its own. The handshake of the legacy era
 * is sent once, so only a client that would have sent the same one may be given its answer.
 */
function sharedBy(ask: StdioAsk, message: Request | Notification): string | undefined {
  const { spec } = ask.server
  if (spec.share === 'session') return undefined
  const common = [scopeOf(ask), JSON.stringify(spec), ask.era]
  if (ask.era === 'modern') return common.join('\n')
  if (message.method !== 'initialize') return undefined
  const { protocolVersion, capabilities } = message.params
  if (!isObject(capabilities) || ASKABLE.some((name) => Object.hasOwn(capabilities, name))) return undefined
  // A number that a double does not keep would make two handshakes look the same.
  if (message.lossy.size > 0) return undefined
  return [...common, canonicalJson({ protocolVersion, capabilities })].join('\n')
}

function masked(text: string, env: Readonly<Record<string, string>>): string {
  const masker = createMasker()
  const { PATH: _path, HOME: _home, ...secrets } = env
  masker.add(Object.values(secrets).filter((value) => value.length >= 4))
  return masker.text(text).value
}
