import { setImmediate as later } from 'node:timers/promises'
import { z } from 'zod'
import { flagsOfDefinition } from '../catalog/flags.ts'
import type { McpServerSpec } from '../catalog/mcp-server.ts'
import { type PinFacts, pinOf } from '../catalog/pin-book.ts'
import { PIN_KINDS, type Subject, stateOf } from '../catalog/pins.ts'
import { noticesFor, type RoleNotice } from '../documents/offers.ts'
import { ChaperoneError } from '../errors.ts'
import { annotationsOf, effectsOf } from '../gateways/mcp/describe.ts'
import { actingIn } from '../identity/named.ts'
import type { LiveSession } from '../identity/types.ts'
import type { Resource } from '../policy/types.ts'
import type { ApiParts } from './parts.ts'
import { definitionDiff, readable } from './pin-text.ts'
import type { PinKeep, PinRow, PinsApprove, PinsDecided } from './pins-contract.ts'
import { type Route, signedIn } from './route.ts'

const read = { by: 'verbs', anyOf: ['pins', 'apply', 'audit.read'] } as const
const decide = { by: 'verbs', anyOf: ['pins'] } as const

/** Definitions in one answer; a server that has more is looked at by name. */
const MOST_TEXTS = 200
/** And characters of them: what is made of them for a person is longer, and looked at for flags. */
const MOST_CHARACTERS = 1024 * 1024

const kind = z.enum(PIN_KINDS)
const name = z.string().max(2_000)
const sha256 = z.string().regex(/^[0-9a-f]{64}$/)

/** The definitions of what MCP servers offer: which hold, which wait for somebody to look at them. */
export function pinRoutes(parts: ApiParts): readonly Route[] {
  const { state, pins, lease, clock } = parts

  const serverOf = (name: string | undefined) => {
    const found = state.current().find('mcp', name ?? '')
    if (!found) throw new ChaperoneError('not_found', `There is no MCP server ${name}.`, { fix: 'See `chaperone mcp ls`.' })
    return found as { readonly resource: Resource; readonly spec: McpServerSpec }
  }
  const by = (session: LiveSession) => actingIn(session, (id) => state.current().identity(id)?.name)

  const decided = async (epoch: number, began: number): Promise<PinsDecided> => {
    await lease.confirmed(epoch)
    return { acknowledgedMs: Math.max(0, clock.now() - began) }
  }

  return [
    signedIn({
      method: 'GET',
      path: '/v1/pins',
      summary: () => 'list definitions',
      who: read,
      async handle(): Promise<{ pins: readonly PinRow[] }> {
        const servers = state.current().list('mcp') as { resource: Resource; spec: McpServerSpec }[]
        const rows = await Promise.all(
          servers.map(async ({ resource, spec }) => (await pins.rows(resource.id)).map((row) => rowOf(parts, resource, spec, row))),
        )
        return { pins: rows.flat() }
      },
    }),
    signedIn({
      method: 'GET',
      path: '/v1/pins/:server',
      summary: ({ params }) => `list definitions of ${params.server}`,
      who: read,
      async handle({ params, query }): Promise<{ pins: readonly PinRow[]; notices: readonly RoleNotice[] }> {
        const { resource, spec } = serverOf(params.server)
        const names = query.getAll('name')
        const rows = (await pins.rows(resource.id)).filter((row) => names.length === 0 || names.includes(row.name))
        const texts = query.has('texts')
        const shown: PinRow[] = []
        let characters = 0
        for (const row of rows) {
          const wanted = (texts || (spec.trusted && row.kind === 'tool')) && shown.length < MOST_TEXTS && characters < MOST_CHARACTERS
          const full = wanted ? await pins.row(resource, subjectOf(row)) : undefined
          characters += (full?.approved?.length ?? 0) + (full?.pending?.length ?? 0)
          shown.push(rowOf(parts, resource, spec, row, full, texts))
          // To look at a large one takes a while: others get their turn.
          if (full) await later()
        }
        return { pins: shown, notices: await noticesFor(parts.store.db, parts.vocabularies, resource.id) }
      },
    }),
    signedIn<PinsApprove>({
      method: 'POST',
      path: '/v1/pins/:server/approve',
      who: decide,
      body: z.strictObject({ pins: z.array(z.strictObject({ kind, name, sha256 })).min(1).max(1_000) }),
      summary: ({ params, body }) => `approve ${body.pins.length} definitions of ${params.server}`,
      async handle({ params, body, session }) {
        const began = clock.now()
        return decided(await pins.approve(serverOf(params.server).resource, body.pins, by(session)), began)
      },
    }),
    signedIn<PinKeep>({
      method: 'POST',
      path: '/v1/pins/:server/keep',
      who: decide,
      body: z.strictObject({ kind, name }),
      summary: ({ params, body }) => `keep the definition of ${body.kind} ${body.name.slice(0, 128)} of ${params.server}`,
      async handle({ params, body, session }) {
        const began = clock.now()
        return decided(await pins.keep(serverOf(params.server).resource, body, by(session)), began)
      },
    }),
  ]
}

const subjectOf = (row: PinFacts): Subject => ({ kind: row.kind as Subject['kind'], name: row.name })

function rowOf(
  { state }: Pick<ApiParts, 'state'>,
  resource: Resource,
  spec: McpServerSpec,
  row: PinFacts,
  full?: { readonly approved: string | null; readonly pending: string | null },
  texts = false,
): PinRow {
  const pin = pinOf(row)
  // What would hold: the one that waits, else the one that holds already.
  const text = full && (full.pending ?? full.approved ?? '')
  const confirmedBy = row.approved_by === null ? undefined : (state.current().identity(row.approved_by)?.name ?? row.approved_by)
  return {
    server: resource.name,
    kind: pin.kind,
    name: pin.name,
    state: stateOf(pin),
    since: row.pending_at ?? row.approved_at ?? row.first_seen_at,
    firstSeenAt: row.first_seen_at,
    sha256: pin.pending ?? pin.approved ?? '',
    ...(confirmedBy === undefined ? {} : { confirmedBy }),
    ...(pin.kind === 'tool' ? effects(spec, pin.name, full) : {}),
    ...(texts && text !== undefined
      ? {
          definition: readable(text),
          ...(full?.approved && full.pending !== null ? { diff: definitionDiff(full.approved, full.pending) } : {}),
          flags: text === '' ? [] : flagsOfDefinition(pin.kind, JSON.parse(text)),
        }
      : {}),
  }
}

/** What the tool is taken to do, and on whose word. */
function effects(spec: McpServerSpec, tool: string, full: { readonly approved: string | null } | undefined): Pick<PinRow, 'effects' | 'effectsFrom'> {
  if (Object.hasOwn(spec.tools, tool)) return { effects: effectsOf(spec, tool, undefined), effectsFrom: 'catalog' }
  if (!spec.trusted) return { effects: effectsOf(spec, tool, undefined), effectsFrom: 'nobody' }
  // Its own word stands in the definition, which is not read for every list.
  if (!full) return {}
  if (!full.approved) return { effects: effectsOf(spec, tool, undefined), effectsFrom: 'nobody' }
  return { effects: effectsOf(spec, tool, annotationsOf(JSON.parse(full.approved))), effectsFrom: 'server' }
}
