import { setImmediate as later } from 'node:timers/promises'
import { z } from 'zod'
import { flagsOfServer } from '../catalog/flag-server.ts'
import { type Flag, flag } from '../catalog/flag-types.ts'
import { flagsOfDefinition, flagsOfNames, worstFirst } from '../catalog/flags.ts'
import type { McpServerSpec } from '../catalog/mcp-server.ts'
import { isPinnable } from '../catalog/pins.ts'
import { noticesFor, noticesOf } from '../documents/offers.ts'
import { InvalidDocuments, plan } from '../documents/plan.ts'
import { readDocuments } from '../documents/read.ts'
import { loadSnapshot, type Snapshot } from '../documents/stored.ts'
import type { ParsedDocument } from '../documents/types.ts'
import { ChaperoneError } from '../errors.ts'
import { proposeEffects } from '../gateways/mcp/offers/propose.ts'
import type { Listed, Scan } from '../gateways/mcp/offers/scan.ts'
import { isObject } from '../gateways/mcp/wire.ts'
import { actingIn } from '../identity/named.ts'
import { newId } from '../ids.ts'
import type { Resource } from '../policy/types.ts'
import { applierOf } from './caller.ts'
import type { McpLooked, McpScan, McpScanned, ServerWish } from './mcp-contract.ts'
import type { ApiParts } from './parts.ts'
import { type Route, signedIn } from './route.ts'
import { nameText } from './words.ts'

/** An MCP server as somebody wishes it: the document without its kind. Its kind checks the rest. */
export const serverWish = {
  name: nameText,
  labels: z.record(z.string().max(64), z.string().max(256)).optional(),
  spec: z.record(z.string(), z.unknown()),
}

/** What is shown of a description before the whole is asked for. */
const DESCRIPTION = 300

/** The document of a wish, checked as if it had been applied. Throws InvalidDocuments. */
export function documentOf(
  { documents }: Pick<ApiParts, 'documents'>,
  { name, labels, spec }: ServerWish,
): { document: ParsedDocument; spec: McpServerSpec } {
  // JSON is YAML: faults come with the same words as from a file.
  const text = JSON.stringify({ kind: 'mcp', name, ...(labels ? { labels } : {}), spec }, null, 2)
  const read = readDocuments([{ path: 'mcp add', text }], documents.kinds)
  const [document] = read.documents
  if (!document || read.problems.some(({ level }) => level === 'error')) throw new InvalidDocuments(read.problems)
  return { document, spec: document.spec as unknown as McpServerSpec }
}

/** Looking at a server before it is added, and again when it was. */
export function mcpScanRoutes(parts: ApiParts): readonly Route[] {
  const { documents, store, clock, state, pins, scan } = parts

  return [
    signedIn<ServerWish>({
      method: 'POST',
      path: '/v1/mcp/scan',
      who: { by: 'verbs', anyOf: ['apply'] },
      body: z.strictObject(serverWish),
      summary: ({ body }) => `look at the MCP server ${body.name}`,
      async handle({ body, session, permit }): Promise<McpScan> {
        const { document, spec } = documentOf(parts, body)
        const snapshot = await loadSnapshot(store.db)
        // To start a program or send a secret somewhere takes what applying it would take (documents/escalate.ts).
        const { warnings } = plan(documents, snapshot, { documents: [document] }, applierOf(parts, session), clock.now())
        const known = snapshot.documents.find(({ kind, name }) => kind === 'mcp' && name === document.name)
        const resource: Resource = { kind: 'mcp', id: known?.id ?? newId('res', clock.now()), name: document.name, labels: document.labels }
        const seen = await scan({ server: { resource, spec }, applied: false, session, permit: permit! })
        return {
          ...(await shown(spec, seen, await otherTools(parts, resource.id))),
          warnings,
          notices: noticesOf(withSeen(snapshot, document, resource, seen), documents.vocabularies, resource.id),
        }
      },
    }),
    signedIn<Record<string, never>>({
      method: 'POST',
      path: '/v1/pins/:server/look',
      who: { by: 'verbs', anyOf: ['pins', 'apply'] },
      body: z.strictObject({}),
      summary: ({ params }) => `look at the MCP server ${params.server}`,
      async handle({ params, session, permit }): Promise<McpLooked> {
        const found = state.current().find('mcp', params.server ?? '') as { resource: Resource; spec: McpServerSpec } | undefined
        if (!found) throw new ChaperoneError('not_found', `There is no MCP server ${params.server}.`, { fix: 'See `chaperone get mcp`.' })
        const { resource, spec } = found
        const { listed, more } = await scan({ server: { resource, spec }, applied: true, session, permit: permit! })
        await pins.observe(
          resource,
          listed.filter((one) => isPinnable(one)),
          actingIn(session, (id) => state.current().identity(id)?.name),
        )
        return { seen: listed.length, more, notices: await noticesFor(store.db, documents.vocabularies, resource.id) }
      },
    }),
  ]
}

/** The snapshot as if the server had been applied and seen. */
function withSeen(snapshot: Snapshot, document: ParsedDocument, { id }: Resource, { listed }: Scan): Snapshot {
  const others = snapshot.documents.filter((one) => one.id !== id)
  const definitions = listed.flatMap(({ kind, name, definition }) =>
    kind === 'tool' || kind === 'prompt' ? [{ kind, name, text: definition.text }] : [],
  )
  return {
    ...snapshot,
    documents: [...others, { ...document, id, digest: '', owner: null, updatedAt: 0 }],
    definitions: new Map([...snapshot.definitions, [id, definitions]]),
  }
}

/** Names of tools of other servers: a description that names one may steer a model there. */
async function otherTools({ store }: Pick<ApiParts, 'store'>, serverId: string): Promise<readonly string[]> {
  const rows = await store.db
    .selectFrom('pins')
    .select('name')
    .distinct()
    .where('kind', '=', 'tool')
    .where('resource_id', '!=', serverId)
    .limit(5_000)
    .execute()
  return rows.map(({ name }) => name)
}

async function shown(
  spec: McpServerSpec,
  { version, about, listed, more }: Scan,
  others: readonly string[],
): Promise<Omit<McpScan, 'warnings' | 'notices'>> {
  const namesOf = (kind: Listed['kind']) => listed.filter((one) => one.kind === kind).map(({ name }) => name)
  const clashes = {
    tool: flagsOfNames(namesOf('tool')),
    prompt: flagsOfNames(namesOf('prompt')),
    template: new Map<string, Flag>(),
    instructions: new Map<string, Flag>(),
  }
  const mine = new Set(namesOf('tool'))
  const context = { otherTools: others.filter((name) => !mine.has(name)) }
  const look = ({ kind, name, value, definition }: Listed): McpScanned => {
    const proposal = kind === 'tool' ? proposeEffects(value) : undefined
    const clash = clashes[kind].get(name)
    const text = typeof value === 'string' ? value : isObject(value) && typeof value.description === 'string' ? value.description : ''
    return {
      kind,
      name,
      sha256: definition.sha256,
      description: text.slice(0, DESCRIPTION),
      ...(proposal ? { effects: proposal.effects, effectsFrom: proposal.from, why: proposal.why } : {}),
      flags: worstFirst([
        ...flagsOfDefinition(kind, value, context),
        ...(clash ? [clash] : []),
        ...(proposal?.doubt === undefined ? [] : [flag('contradiction', 'annotations', proposal.doubt)]),
        ...(definition.text === '' ? [flag('very_long', 'definition', 'too long to be shown, so it can never be approved', 'danger')] : []),
      ]),
    }
  }
  const items: McpScanned[] = []
  for (const one of listed) {
    items.push(look(one))
    // To look at a large one takes a while: others get their turn.
    await later()
  }
  return { version, about, items, more, flags: flagsOfServer(spec) }
}
