import { createHash } from 'node:crypto'
import type { Outcome, Permit } from '../../../access/types.ts'
import type { Draft } from '../../../audit/record.ts'
import { type Definition, definitionOf, MOST_PINS, type PinKind } from '../../../catalog/pins.ts'
import { ChaperoneError } from '../../../errors.ts'
import { actingIn } from '../../../identity/named.ts'
import type { LiveSession } from '../../../identity/types.ts'
import { newId } from '../../../ids.ts'
import { Collector } from '../answer.ts'
import { LEGACY_VERSIONS } from '../era.ts'
import type { Server } from '../lanes.ts'
import { quiet } from '../quiet.ts'
import { makeServers, type ServersParts } from '../servers.ts'
import { spanAt } from '../text/json-text.ts'
import type { Asker, Upstream } from '../types.ts'
import { isObject, METHOD_NOT_FOUND, type Notification, type Request, readMessages, type UpstreamMessage } from '../wire.ts'
import { readList } from './filter.ts'

/** One thing that a server offers, with the hash that a pin of it would have. */
export interface Listed {
  readonly kind: PinKind
  /** of a template its `uriTemplate`; of the instructions '' */
  readonly name: string
  readonly value: unknown
  readonly definition: Definition
}

/** What a server offers to a client that can do everything. */
export interface Scan {
  readonly version: string
  readonly about: { readonly name?: string; readonly version?: string; readonly title?: string }
  readonly listed: readonly Listed[]
  /** There was more than is looked at. */
  readonly more: boolean
}

export interface ScanAsk {
  readonly server: Server
  /**
   * The server is applied as it stands here: what is sealed for it may go to it. What is only proposed under its name may
   * lead elsewhere, and gets nothing.
   */
  readonly applied: boolean
  /** who looks, and the permit of it: every message of the scan goes with it and ends with it */
  readonly session: LiveSession
  readonly permit: Permit
}

/**
 * Starts or reaches a server, asks what it offers, and ends it: under the same isolation and by the same ways as when it is
 * used. Rejects with what the server or the machine has against it.
 */
export type Scanner = (ask: ScanAsk) => Promise<Scan>

const MAX_PAGES = 50
/** From the start of a server that is fetched from a registry to the last page of its lists. */
const SCAN_MS = 120_000
/** Characters of all lists together: no server has so much to say that a person should read. */
const LARGEST_SCAN = 8 * 1024 * 1024
/** Characters of definitions in the record of a look. */
const LARGEST_RECORDED = 1024 * 1024
/** Looks under way on this node. */
const MOST_AT_ONCE = 8

const LISTS: readonly (readonly [capability: string, method: string, kind: PinKind])[] = [
  ['tools', 'tools/list', 'tool'],
  ['prompts', 'prompts/list', 'prompt'],
  ['resources', 'resources/templates/list', 'template'],
]

const HEADERS = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }

export function makeScanner(given: ServersParts): Scanner {
  const { audit, clock } = given
  const parts: ServersParts = { ...given, log: quiet(given.log, clock) }
  let underWay = 0
  return async ({ server, applied, session, permit }) => {
    if (underWay >= MOST_AT_ONCE) throw new ChaperoneError('too_many', `${MOST_AT_ONCE} MCP servers are looked at at this moment.`)
    underWay++
    // A process of its own, under an id of its own: it must not end, nor share a user with, what serves people now.
    const own = !applied || server.spec.url === undefined
    const resource = own ? { ...server.resource, id: newId('res', clock.now()) } : server.resource
    const servers = makeServers(parts)
    const over = Promise.withResolvers<never>()
    over.promise.catch(() => {})
    const late = new ChaperoneError('upstream_timeout', `The MCP server ${resource.name} did not say what it offers in ${SCAN_MS / 1000} s.`)
    const disarm = clock.at(clock.now() + SCAN_MS, () => over.reject(late))
    const upstream = servers.upstream({
      era: 'legacy',
      session,
      server: { ...server, resource },
      asker: NOBODY,
      errand: (_, send) => send(permit),
      ended: (why) => over.reject(why),
    })
    try {
      const scan = await Promise.race([look(upstream, permit, parts), over.promise])
      await audit.append({
        ...actingIn(session, () => undefined),
        type: 'server.listed',
        ...recordOf(server, scan),
      })
      return scan
    } finally {
      underWay--
      disarm()
      await upstream.end(new ChaperoneError('session_ended', 'The look at the server is over.'))
      servers.close()
    }
  }
}

/** All that it said, cut visibly where it is more than a person would read. */
function recordOf({ resource }: Server, scan: Scan): Pick<Draft, 'data' | 'bodies'> {
  const text = scan.listed.map(({ definition }) => definition.text).join('\n')
  const cut = text.length > LARGEST_RECORDED ? { cut: { length: text.length, sha256: createHash('sha256').update(text).digest('hex') } } : {}
  return {
    data: { server: { id: resource.id, name: resource.name }, version: scan.version, ...countsOf(scan), more: scan.more, ...cut },
    bodies: [{ name: 'definitions', bytes: text.slice(0, LARGEST_RECORDED) }],
  }
}

const countsOf = ({ listed }: Scan) =>
  Object.fromEntries(['tool', 'prompt', 'template'].map((kind) => [`${kind}s`, listed.filter((one) => one.kind === kind).length]))

async function look(upstream: Upstream, permit: Permit, { limits }: Pick<ServersParts, 'limits'>): Promise<Scan> {
  let next = 1
  const ask = async (method: string, params: object): Promise<{ text: string; result: Record<string, unknown>; error?: unknown }> => {
    const text = JSON.stringify({ jsonrpc: '2.0', id: `scan-${next++}`, method, params })
    const collector = new Collector(limits.lineBytes)
    const message = readMessages(Buffer.from(text), limits) as Request
    const outcome: Outcome = await upstream.request(permit, message, collector, HEADERS)
    collector.end()
    if (collector.text === undefined)
      throw new ChaperoneError('upstream_unavailable', `The server gave no answer to ${method}.`, { detail: JSON.stringify(outcome) })
    const value: unknown = JSON.parse(collector.text)
    return {
      text: collector.text,
      result: isObject(value) && isObject(value.result) ? value.result : {},
      ...(isObject(value) && value.error !== undefined ? { error: value.error } : {}),
    }
  }

  // As a client that can do everything: some servers show some of their tools only to such a one.
  const hello = await ask('initialize', {
    protocolVersion: LEGACY_VERSIONS.at(-1),
    capabilities: { roots: {}, sampling: {}, elicitation: {} },
    clientInfo: { name: 'chaperone', version: '1' },
  })
  const version = hello.result.protocolVersion
  if (typeof version !== 'string')
    throw new ChaperoneError('upstream_unavailable', 'The server did not answer the handshake as an MCP server does.', {
      detail: hello.text.slice(0, 500),
    })
  upstream.agreed(version)
  const ready = JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' })
  await upstream.notify(permit, readMessages(Buffer.from(ready), limits) as Notification, { ...HEADERS, 'mcp-protocol-version': version })

  const listed: Listed[] = []
  let more = false
  let size = hello.text.length
  const said = spanAt(hello.text, ['result', 'instructions'])
  const words = hello.result.instructions
  if (said && typeof words === 'string' && words !== '')
    listed.push({ kind: 'instructions', name: '', value: words, definition: definitionOf(words, hello.text.slice(said.start, said.end)) })
  const capabilities = isObject(hello.result.capabilities) ? hello.result.capabilities : {}
  for (const [capability, method, kind] of LISTS) {
    if (capabilities[capability] === undefined) continue
    let cursor: string | undefined
    for (let page = 0; ; page++) {
      const { text, result, error } = await ask(method, cursor === undefined ? {} : { cursor })
      // It has resources, and no templates of them.
      if (error !== undefined && isObject(error) && error.code === METHOD_NOT_FOUND && kind !== 'tool') break
      if (error !== undefined) throw new ChaperoneError('upstream_unavailable', `The server refuses ${method}.`, { detail: text.slice(0, 500) })
      size += text.length
      for (const { value, text: raw, exact } of readList(text, method, { bytes: limits.lineBytes, ttlMs: limits.listTtlMs }).items) {
        const name = isObject(value) ? (kind === 'template' ? value.uriTemplate : value.name) : undefined
        if (typeof name !== 'string') continue
        if (listed.length >= MOST_PINS || size > LARGEST_SCAN) more = true
        else listed.push({ kind, name, value, definition: definitionOf(value, raw, exact) })
      }
      if (typeof result.nextCursor !== 'string') break
      cursor = result.nextCursor
      if (page + 1 >= MAX_PAGES || more) {
        more = true
        break
      }
    }
  }
  const { name, version: release, title } = isObject(hello.result.serverInfo) ? hello.result.serverInfo : {}
  const about = Object.fromEntries(Object.entries({ name, version: release, title }).filter(([, value]) => typeof value === 'string'))
  return { version, about, listed, more }
}

/** Nobody is there whom the server could ask: no person, no model, no folder. */
const NOBODY: Asker = {
  answered: (_, text) => text,
  required: (_, text) => text,
  may: async (method) => {
    throw new ChaperoneError('unsupported', `Nobody is there to answer ${method} while a server is looked at.`)
  },
  async asked(message: UpstreamMessage) {
    const answer =
      message.method === 'ping'
        ? { result: {} }
        : message.method === 'roots/list'
          ? { result: { roots: [] } }
          : { error: { code: METHOD_NOT_FOUND, message: 'Nobody is there to answer this.' } }
    return JSON.stringify({ jsonrpc: '2.0', id: message.id, ...answer })
  },
  told: () => false,
}
