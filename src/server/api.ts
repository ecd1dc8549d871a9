import { administer, VERBS, type Verb } from '../access/administration.ts'
import { type Api, createApi } from '../api/app.ts'
import type { ApiParts } from '../api/parts.ts'
import type { McpServerSpec } from '../catalog/mcp-server.ts'
import { postgresDatabaseSpec } from '../catalog/postgres-database.ts'
import { documentKinds } from '../documents/kinds.ts'
import { near } from '../documents/near.ts'
import { ChaperoneError } from '../errors.ts'
import { annotationsOf, describeCall } from '../gateways/mcp/describe.ts'
import type { Scanner } from '../gateways/mcp/offers/scan.ts'
import { mayWriteAction } from '../gateways/postgres/describe.ts'
import { describeStatement } from '../gateways/postgres/explain.ts'
import type { PostgresGateway } from '../gateways/postgres/gateway.ts'
import { POSTGRES_LIMITS } from '../gateways/postgres/limits.ts'
import { databaseSetup } from '../gateways/postgres/setup/setup.ts'
import { logError } from './log.ts'
import { splitHostPort } from './options.ts'
import { type Parts, VOCABULARIES } from './parts.ts'

export interface ApiPlaces {
  readonly addresses: { readonly data: string; readonly web: string; readonly postgres: string }
  readonly publicHost: string | undefined
  readonly scan: Scanner
  readonly builtinServers: ApiParts['builtinServers']
  readonly mirrorOf: PostgresGateway['mirrorOf']
}

/** The API with its parts, and the actions that `explain` may ask about: made by the same functions as the gateways use. */
export function createServerApi(parts: Parts, { addresses, publicHost, scan, builtinServers, mirrorOf }: ApiPlaces): Api {
  const reached = (address: string) => {
    const { host, port } = splitHostPort(address)
    // An empty host tells the client to use the one it already reached us by.
    return `${publicHost ?? (host === '0.0.0.0' || host === '::' ? '' : host)}:${port}`
  }
  const resource = (kind: string, name: string | undefined) => {
    const found = name === undefined ? undefined : parts.resources.find(kind, name)
    if (!found) {
      // Whoever may not read policy is told neither (api/explain.ts): only that there is none, or that it is not for him.
      const names = parts.resources.list(kind).map((one) => one.resource.name)
      throw new ChaperoneError('not_found', `There is no ${kind} resource of that name.`, {
        fix: near(name ?? '', names) ?? `See \`chaperone get ${kind}\`.`,
      })
    }
    return found
  }
  const describe: ApiParts['describe'] = {
    chaperone(ask) {
      if (!(VERBS as readonly string[]).includes(ask.verb ?? '')) throw new ChaperoneError('usage', `A verb is needed, one of: ${VERBS.join(', ')}.`)
      return administer(parts.chaperone, ask.verb as Verb, `${ask.verb}`)
    },
    async mcp(ask) {
      const found = resource('mcp', ask.resource)
      if (ask.tool === undefined) throw new ChaperoneError('usage', 'A tool is needed.', { fix: 'chaperone explain --as NAME mcp SERVER TOOL' })
      const spec = found.spec as McpServerSpec
      // What a trusted server says of a tool counts as it was approved.
      const pinned = spec.trusted && parts.pins.of(found.resource.id).get('tool', ask.tool)?.approved
      const definition = pinned ? (await parts.pins.row(found.resource, { kind: 'tool', name: ask.tool })).approved : undefined
      return describeCall({
        resource: found.resource,
        spec,
        tool: ask.tool,
        args: (ask.args ?? {}) as Record<string, unknown>,
        ...(definition ? { annotations: annotationsOf(JSON.parse(definition)) } : {}),
      })
    },
    async postgres(ask, judge) {
      const found = resource('postgres', ask.resource)
      if (ask.sql === undefined || ask.database === undefined || ask.user === undefined) {
        throw new ChaperoneError('usage', 'A database, a database user and a statement are needed.', {
          fix: 'chaperone explain --as NAME postgres RESOURCE --database D --user U --sql "…"',
        })
      }
      const place = { resource: found.resource, database: ask.database, user: ask.user }
      const mirror = mirrorOf(found.resource.id, ask.database, found.spec)
      const actions = await describeStatement(
        { ...place, sql: ask.sql },
        {
          ...(mirror ? { mirror } : {}),
          pinnedReadOnly: judge(mayWriteAction(place)).verdict === 'deny',
          reviewed: postgresDatabaseSpec.parse(found.spec).functions.read,
        },
      )
      // Of several statements the one that does most: all are refused if one is.
      const most = [...actions].sort(
        (a, b) => Number(b.unclear !== undefined) - Number(a.unclear !== undefined) || b.effects.length - a.effects.length,
      )
      if (!most[0]) throw new ChaperoneError('usage', 'There is no statement in that text.')
      return most.find((action) => !action.effects.every((effect) => effect === 'read')) ?? most[0]
    },
  }
  return createApi({
    ...parts,
    databases: databaseSetup({ ca: parts.ca, clock: parts.clock, connectMs: POSTGRES_LIMITS.connectMs, reveal: parts.vault.reveal }),
    scan,
    builtinServers,
    vocabularies: VOCABULARIES,
    documents: {
      store: parts.store,
      audit: parts.audit,
      lease: parts.lease,
      clock: parts.clock,
      kinds: documentKinds(VOCABULARIES),
      vocabularies: VOCABULARIES,
      chaperone: parts.chaperone,
    },
    listeners: () => ({ data: reached(addresses.data), web: webOf(parts, reached(addresses.web)), postgres: reached(addresses.postgres) }),
    describe,
    log: (error, route) => logError(parts.log, route, error),
  })
}

/**
 * Where clients are told to find the web listener: under the name that its tokens are for (RFC 8707 compares letter by letter).
 * Without a name of its own, on every interface, it has none that holds elsewhere: then under the host that they use already.
 */
function webOf({ options, places }: Pick<Parts, 'options' | 'places'>, listening: string): string {
  const named = options.webUrl !== undefined || options.publicHost.length > 0 || !/^(?:0\.0\.0\.0|\[?::\]?):\d+$/.test(options.webListen)
  if (!named) return listening
  return /:\d+$/.test(places.web) ? places.web : `${places.web}:443`
}
