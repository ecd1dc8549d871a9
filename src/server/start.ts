import type { IncomingMessage } from 'node:http'
import { createRegistry } from '../api/registry.ts'
import { type Clock, systemClock } from '../clock.ts'
import type { ChaperoneError } from '../errors.ts'
import { mcpGateway } from '../gateways/mcp/gateway.ts'
import { openHandles } from '../gateways/mcp/handles.ts'
import { openTasks } from '../gateways/mcp/tasks.ts'
import { postgresGateway } from '../gateways/postgres/gateway.ts'
import { enrolLink, formatInvitation, formatServer } from '../identity/invitations.ts'
import { addressOf, balancersAt } from '../network/forwarded.ts'
import { createPages } from '../pages/app.ts'
import { createServerApi } from './api.ts'
import { certificateNames, listenerCertificates } from './certificates.ts'
import { createDatabaseTools } from './databases.ts'
import { inviteFirstAdministrator } from './first-start.ts'
import { hostCheck } from './hosts.ts'
import { httpHandler } from './http.ts'
import { listenHttps, listenTcp } from './listeners.ts'
import { logError, makeLog } from './log.ts'
import { reachable, reachableWeb, readOptions, type ServerOptions, type ServerOptionsInput, splitHostPort } from './options.ts'
import { withOwnTools } from './own-tools.ts'
import { openParts, type Parts } from './parts.ts'
import { publishedKeys } from './published-keys.ts'
import { createScanner } from './scanner.ts'

/** What is under way gets this long to finish when Chaperone stops. */
const DRAIN_MS = 10_000
/** After the goodbye of its protocol, what is still open gets this long to go. */
const GOODBYE_MS = 500
/** Permits of these last as long as their connection: a drain does not wait for them. */
const STANDING = new Set(['connect', 'stream', 'subscriptions/listen'])

export interface RunningServer {
  readonly trustDomain: string
  readonly nodeId: string
  /** `host:port` as actually bound */
  readonly addresses: { readonly data: string; readonly web: string; readonly postgres: string }
  /** The first administrator's, until somebody has enrolled. */
  readonly invitation?: { readonly name: string; readonly line: string; readonly browser: string; readonly expiresAt: number }
  /** For what runs in the same process (demo, bench): never reachable from outside. */
  readonly parts: Parts
  /** Drains and stops. Idempotent. */
  stop(reason?: string): Promise<void>
}

export async function startServer(input: ServerOptionsInput, more: { readonly clock?: Clock } = {}): Promise<RunningServer> {
  const options = readOptions(input)
  const clock = more.clock ?? systemClock
  const log = makeLog(options.logLevel)
  const parts = await openParts(options, clock, log)
  const undo: (() => Promise<unknown> | unknown)[] = []
  const takeDown = async () => {
    for (const step of undo.reverse()) {
      try {
        await step()
      } catch (error) {
        // One part that cannot be closed keeps no other open: least of all the lock of the data directory.
        logError(log, 'stopping', error)
      }
    }
    await parts.close()
  }

  try {
    const hosts = [options.listen, options.webListen, options.postgresListen].map((where) => splitHostPort(where).host)
    const publicHosts = [...options.publicHost, ...(options.webUrl === undefined ? [] : [new URL(options.webUrl).hostname])]
    const names = certificateNames(publicHosts, hosts)
    const certificates = await listenerCertificates({
      ca: parts.ca,
      clock,
      names,
      ...(options.webCert !== undefined && options.webKey !== undefined ? { webFiles: { cert: options.webCert, key: options.webKey } } : {}),
      failed: (error) => logError(log, 'listener certificates', error),
    })
    undo.push(() => certificates.close())

    const nameOf = (id: string) => parts.state.current().identity(id)?.name
    // The tools of a database enter it by the same way as its own clients, which is made below.
    const databases = createDatabaseTools(parts, (...given) => postgres.enter(...given))
    const builtins = withOwnTools(databases, { ...parts, nameOf })
    const mcp = mcpGateway({
      ...parts,
      builtins,
      nameOf,
      tasks: openTasks(parts.store, clock),
      handles: openHandles(parts.keyring),
      mayKeepLists() {
        const { policy, locks, granting } = parts.state.current()
        // What begins or ends by itself, a grant or a lock, is a rule that reads the time.
        return !policy.readsTimeOrSession && !granting && locks.every((lock) => lock.expires_at === null)
      },
      reveal: parts.vault.reveal,
      dataDir: options.dataDir,
      hide: secretFiles(options),
    })
    undo.push(() => mcp.close())
    const postgres = postgresGateway({
      ...parts,
      audit: parts.strangers,
      tlsContext: () => certificates.mutual(),
      identify: (socket) => parts.callers.socket(socket, 'postgres'),
      reveal: parts.vault.reveal,
      valueKey: await parts.keyring.derive('values', 'record'),
      maskKey: await parts.keyring.derive('values', 'masks'),
      nameOf,
      fault: (error) => logError(log, 'postgres', error),
    })
    undo.push(() => postgres.close())
    parts.metrics.descriptions(() => postgres.descriptions)

    const addresses = { data: '', web: '', postgres: '' }
    const api = createServerApi(parts, {
      addresses,
      publicHost: options.publicHost[0],
      scan: createScanner(parts, secretFiles(options)),
      builtinServers: builtins.list,
      mirrorOf: postgres.mirrorOf,
    })
    undo.push(() => api.close())
    const pages = createPages({ ...parts, log: (error, where) => logError(log, where, error) })
    undo.push(() => pages.close())
    const registry = createRegistry({
      ...parts,
      builtinServers: builtins.list,
      bearer: (request) => parts.callers.bearer(request),
      log: (error, where) => logError(log, where, error),
    })
    const http = {
      ...parts,
      checkHost: hostCheck(names),
      mcp: mcp.handle,
      api: api.handle,
      rooms: [
        ...[parts.assertions, parts.svids].map((one) => publishedKeys(one, (error) => logError(log, 'published keys', error))),
        parts.oauth,
        parts.scim,
        // Before the pages, under whose addresses it lies.
        parts.backChannel,
        pages,
        registry,
      ],
      turnedAway(request: IncomingMessage, error: ChaperoneError) {
        parts.strangers
          .append({
            type: 'connection.refused',
            data: { reason: error.code, from: addressOf(request), path: (request.url ?? '').split('?', 1)[0]!.slice(0, 256) },
          })
          .catch((failure) => logError(log, 'recording a refusal', failure))
      },
      log: (error: ChaperoneError) => logError(log, 'http', error),
    }
    const balancers = balancersAt(options.trustedProxy, options.forwardedHeader)
    const data = await listenHttps(options.listen, certificates.mutual(), httpHandler('data', http))
    undo.push(() => data.close(GOODBYE_MS))
    const web = await listenHttps(options.webListen, certificates.web(), httpHandler('web', { ...http, balancers }), balancers)
    undo.push(() => web.close(GOODBYE_MS))
    const sql = await listenTcp(options.postgresListen, (socket) => postgres.accept(socket))
    undo.push(() => sql.close(GOODBYE_MS))
    parts.places.web = reachableWeb(web.address, options)
    parts.places.data = reachable(data.address, options.publicHost[0])
    Object.assign(addresses, { data: data.address, web: web.address, postgres: sql.address })
    undo.push(
      certificates.onChange(() => {
        data.renew(certificates.mutual())
        web.renew(certificates.web())
      }),
    )

    await parts.audit.append({ type: 'node.started', data: { addresses, store: parts.store.dialect } })
    const first = await inviteFirstAdministrator(parts.store, parts.audit, options.admin, clock)
    const fingerprint = await parts.ca.fingerprint('server')
    parts.places.line = formatServer({ address: reachable(data.address, options.publicHost[0]), fingerprint })
    const invitation = first && {
      name: first.name,
      expiresAt: first.expiresAt,
      browser: enrolLink(parts.places.web, first.secret),
      line: formatInvitation({ address: reachable(data.address, options.publicHost[0]), secret: first.secret, fingerprint }),
    }
    log.info({ ...addresses, trustDomain: parts.trustDomain, node: parts.nodeId, store: parts.store.dialect }, 'ready')

    let stopping: Promise<void> | undefined
    return {
      trustDomain: parts.trustDomain,
      nodeId: parts.nodeId,
      addresses,
      ...(invitation ? { invitation } : {}),
      parts,
      stop(reason = 'stopped') {
        stopping ??= (async () => {
          log.info({ reason }, 'draining')
          parts.drain.begin()
          api.close() // an open tail would be waited for
          pages.close()
          for (const listener of [data, web, sql]) listener.stopAccepting()
          await until(() => parts.guard.underWay().every((action) => STANDING.has(action.operation)), DRAIN_MS)
          parts.sessions.close('draining')
          await parts.audit.append({ type: 'node.stopped', data: { reason } }).catch((error) => logError(log, 'recording the stop', error))
          await takeDown()
        })()
        return stopping
      },
    }
  } catch (error) {
    await takeDown()
    throw error
  }
}

/** What lies outside the data directory and no stdio server may see either. */
const secretFiles = (options: ServerOptions) =>
  [options.rootKey, options.rootPassphraseFile, options.webKey, process.env.CREDENTIALS_DIRECTORY].filter((file) => file !== undefined)

/** Resolves when `done` says so, looked at every few milliseconds, or after `longestMs`. */
async function until(done: () => boolean, longestMs: number): Promise<void> {
  const giveUp = performance.now() + longestMs
  while (!done() && performance.now() < giveUp) await new Promise((again) => setTimeout(again, 20))
}
