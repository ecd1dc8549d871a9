import type { z } from 'zod'
import type { AccessWish, Requests } from '../../../access/requests/types.ts'
import type { Guard, Resources } from '../../../access/types.ts'
import type { AuditLog } from '../../../audit/record.ts'
import { type McpServerSpec, OWN_SERVER } from '../../../catalog/mcp-server.ts'
import type { PinBook } from '../../../catalog/pin-book.ts'
import type { Clock } from '../../../clock.ts'
import { formatDuration, parseDuration } from '../../../encoding/duration.ts'
import { instantText } from '../../../encoding/moment.ts'
import { ChaperoneError } from '../../../errors.ts'
import { actingIn } from '../../../identity/named.ts'
import type { LiveSession } from '../../../identity/types.ts'
import type { Resource } from '../../../policy/types.ts'
import type { Builtin, BuiltinCall, BuiltinResult } from '../builtin/types.ts'
import { describeItem, describeMcp } from '../describe.ts'
import { ARGUMENTS, OWN_LIMITS, type OwnTool, ownTools, type RESULTS } from './definitions.ts'
import { toldOf } from './told.ts'

export interface OwnServerParts {
  /** Who asks for what, who sees which: all of that is decided there. */
  readonly requests: Pick<Requests, 'ask' | 'ways' | 'show' | 'list' | 'withdraw' | 'decided'>
  readonly guard: Pick<Guard, 'judge'>
  readonly resources: Resources
  /** What servers are known to offer. */
  readonly pins: Pick<PinBook, 'row' | 'rows'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  /** Where a request is decided. */
  readonly link: (id: string) => string
  /** The databases in sight, by the names of their servers. */
  readonly databases: (session: LiveSession) => readonly string[]
  /** Whether there is anything that it may ask for, or be asked about. To others the server is not there. */
  readonly mayRequest: (session: LiveSession) => boolean
  readonly nameOf: (identity: string) => string | undefined
  /** What the delegations of its chain leave to a session, in sentences. */
  readonly limitsOf: (session: LiveSession) => readonly string[]
}

const INSTRUCTIONS =
  'Here you see who you are, what you may do, and ask humans for what you may not. A refusal of any other server says what to ask for. What you ask is read by a human: be exact, and give the real reason.'

type Answers = { readonly [Name in OwnTool]: z.infer<(typeof RESULTS)[Name]> }

/** Chaperone's own MCP server, at which an agent asks for itself. Undefined for who may ask for nothing. */
export function ownServer(parts: OwnServerParts): (session: LiveSession) => Builtin | undefined {
  const { requests, audit, clock, link } = parts

  const tools: { readonly [Name in OwnTool]: (call: BuiltinCall, args: z.infer<(typeof ARGUMENTS)[Name]>) => Promise<Answers[Name]> } = {
    async whoami({ session }) {
      const { principal } = session
      const mine = await requests.list(session, { mine: 'asked', kind: 'access', state: 'approved', limit: OWN_LIMITS.requests })
      const granted = mine.filter(({ endsAt = 0, identityId }) => endsAt > clock.now() && identityId === principal.identityId)
      return {
        name: principal.name,
        kind: principal.kind,
        on_behalf_of: principal.chain.slice(0, -1).map(({ identity }) => parts.nameOf(identity) ?? identity),
        ...limitsOf(parts, session),
        session: {
          id: session.id,
          began: instantText(session.startedAt),
          ...(session.purpose === undefined ? {} : { purpose: session.purpose }),
        },
        credential_until: instantText(principal.notAfter),
        granted: granted.map(({ id, body, endsAt }) => {
          const { role, resource } = body as AccessWish
          return {
            role,
            ...(resource ? { resource: `${resource.kind}/${resource.name}` } : {}),
            ...(endsAt === undefined ? {} : { until: instantText(endsAt) }),
            request: id,
          }
        }),
      }
    },

    what_can_i_do: async ({ session }, { server }) => ({ ...(await whatCanBeDone(parts, session, server)), ...limitsOf(parts, session) }),

    async request_access({ session }, { role, resource, for: time, reason, purpose }) {
      const made = await requests.ask(session, {
        role,
        ...(resource === undefined ? {} : { resource: resourceOf(resource) }),
        ...(time === undefined ? {} : { forMs: durationOf(time) }),
        reason,
        ...(purpose === undefined ? {} : { purpose }),
      })
      return toldOf(made, link(made.id))
    },

    async request_status({ session, signal }, { id, wait }) {
      if (id === undefined) {
        const mine = await requests.list(session, { mine: 'asked', limit: OWN_LIMITS.requests })
        return { requests: mine.map((one) => toldOf(one, link(one.id))) }
      }
      const found = await requests.show(session, id)
      if (found.state !== 'pending' || !wait) return { requests: [toldOf(found, link(id))] }
      await requests.decided(id, { ms: wait * 1000, signal })
      return { requests: [toldOf(await requests.show(session, id), link(id))] }
    },

    async withdraw({ session }, { id }) {
      return toldOf(await requests.withdraw(session, id), link(id))
    },
  }

  const call = async (asked: BuiltinCall): Promise<BuiltinResult> => {
    const { session, connection, args } = asked
    session.assertLive()
    const tool = asked.tool as OwnTool
    const read = readArguments(tool, args)
    await audit.append({
      ...actingIn(session, parts.nameOf),
      type: 'chaperone.called',
      connection: connection.id,
      ...(asked.trace === undefined ? {} : { trace: asked.trace }),
      data: { tool },
      bodies: [{ name: 'arguments', bytes: JSON.stringify(args) }],
    })
    const answer = await tools[tool](asked, read as never)
    return { content: [{ type: 'text', text: JSON.stringify(answer, null, 1) }], structuredContent: answer }
  }

  const server: Builtin = {
    resource: { kind: 'mcp', id: OWN_SERVER, name: OWN_SERVER, labels: {} },
    title: 'Chaperone',
    instructions: INSTRUCTIONS,
    tools: ownTools,
    open: () => ({ call, end: async () => {} }),
  }
  return (session) => (parts.mayRequest(session) ? server : undefined)
}

function limitsOf(parts: Pick<OwnServerParts, 'limitsOf'>, session: LiveSession): { readonly limits?: string[] } {
  const limits = [...parts.limitsOf(session)]
  return limits.length === 0 ? {} : { limits }
}

/** The servers, tools and databases of this session, and the roles that it may ask for. */
export async function whatCanBeDone(
  {
    requests,
    guard,
    resources,
    pins,
    databases,
  }: Pick<OwnServerParts, 'guard' | 'pins' | 'databases'> & {
    readonly requests: Pick<Requests, 'ways'>
    readonly resources: Pick<Resources, 'list'>
  },
  session: LiveSession,
  only: string | undefined,
): Promise<Answers['what_can_i_do']> {
  const cut: string[] = []
  const first = <T>(what: string, all: readonly T[], most: number): readonly T[] => {
    if (all.length > most) cut.push(`${all.length - most} ${what}`)
    return all.slice(0, most)
  }
  const targets = resources
    .list('mcp')
    .map(({ resource, spec }) => ({ resource, spec: spec as McpServerSpec }))
    .filter((target) => guard.judge(session, describeMcp(target, { method: 'ping', params: {} })).verdict === 'allow')
    .filter(({ resource }) => only === undefined || resource.name === only)
  const seen = databases(session)
  if (only !== undefined && targets.length === 0 && !seen.includes(only)) throw new ChaperoneError('not_found', 'There is no such server for you.')
  let room: number = OWN_LIMITS.tools
  const servers: Answers['what_can_i_do']['servers'] = []
  for (const target of first('servers', targets, OWN_LIMITS.servers)) {
    const rows = await pins.rows(target.resource.id)
    const usable = rows.filter((row) => row.kind === 'tool' && row.approved_sha256 !== null && row.pending_sha256 === null)
    const verdicts: { readonly name: string; readonly verdict: 'allow' | 'ask' }[] = []
    for (const { name } of usable) {
      const { verdict } = guard.judge(session, describeItem(target, 'tools/list', await listed(pins, target, name))!)
      if (verdict !== 'deny') verdicts.push({ name, verdict })
    }
    const shown = first(`tools of ${target.resource.name}`, verdicts, room)
    room -= shown.length
    const named = (verdict: 'allow' | 'ask') => shown.filter((tool) => tool.verdict === verdict).map(({ name }) => name)
    servers.push({ name: target.resource.name, allowed: named('allow'), asks: named('ask') })
  }
  const ways = only === undefined ? first('roles that may be asked for', requests.ways(session), OWN_LIMITS.ways) : []
  const may = ways.map(({ role, maxMs, reason, resources: about }) => ({
    role,
    ...(maxMs === undefined ? {} : { for_at_most: formatDuration(maxMs) }),
    ...(reason === undefined ? {} : { reason: typeof reason === 'string' ? reason : `must match ${reason.pattern}` }),
    resources: first(
      `resources of the role ${role}`,
      about.map(({ kind, name }) => `${kind}/${name}`),
      OWN_LIMITS.resources,
    ).slice(),
  }))
  return {
    servers,
    databases: first(
      'databases',
      seen.filter((name) => only === undefined || name === only),
      OWN_LIMITS.databases,
    ).slice(),
    may_request: may,
    ...(cut.length > 0 ? { cut } : {}),
  }
}

/** The tool as its list has it: what a trusted server says of its effects stands in the definition that holds, not in its name. */
async function listed(pins: Pick<PinBook, 'row'>, { resource, spec }: { resource: Resource; spec: McpServerSpec }, name: string): Promise<unknown> {
  if (!spec.trusted || Object.hasOwn(spec.tools, name)) return { name }
  const { approved } = await pins.row(resource, { kind: 'tool', name })
  return approved ? { ...JSON.parse(approved), name } : { name }
}

function resourceOf(text: string): { readonly kind: string; readonly name: string } {
  const slash = text.indexOf('/')
  if (slash > 0 && slash < text.length - 1) return { kind: text.slice(0, slash), name: text.slice(slash + 1) }
  throw usage(`${JSON.stringify(text)} names no resource.`, 'Write `kind/name`, as `what_can_i_do` lists it.')
}

function durationOf(text: string): number {
  try {
    return parseDuration(text)
  } catch (error) {
    if (error instanceof ChaperoneError) throw usage(error.message, error.fix ?? '')
    throw error
  }
}

const usage = (message: string, fix: string) => new ChaperoneError('usage', message, { fix })

function readArguments(tool: OwnTool, args: unknown): unknown {
  const read = ARGUMENTS[tool].safeParse(args)
  if (read.success) return read.data
  const [issue] = read.error.issues
  throw usage(
    `The arguments of ${tool} do not fit: ${issue!.path.join('.') || 'all of them'}: ${issue!.message}.`,
    'Its input schema says what it takes.',
  )
}
