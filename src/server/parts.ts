import { join } from 'node:path'
import { chaperoneResource, chaperoneVocabulary } from '../access/administration.ts'
import { openBudgets } from '../access/budgets.ts'
import { makeGuard } from '../access/guard.ts'
import { keepState, type State } from '../access/state.ts'
import type { Resources } from '../access/types.ts'
import { openAudit } from '../audit/writer.ts'
import { openAuthority } from '../ca/authority.ts'
import { openPinBook } from '../catalog/pin-book.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { mcpVocabulary } from '../gateways/mcp/rules.ts'
import { postgresVocabulary } from '../gateways/postgres/rules.ts'
import { principalFromCertificate } from '../identity/credential.ts'
import { lockFor } from '../identity/locks.ts'
import { endedAmong, openSessions } from '../identity/sessions.ts'
import { openTokens } from '../identity/tokens.ts'
import type { LiveSession } from '../identity/types.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import { openSignin } from '../signin/enrol.ts'
import { claimDataDir } from '../store/data-dir.ts'
import { startLease } from '../store/lease.ts'
import { openStore } from '../store/open.ts'
import { openLogins } from '../vault/oauth.ts'
import { openVault } from '../vault/secrets.ts'
import { makeCallers } from './callers.ts'
import { plantPresets, settleTrustDomain } from './first-start.ts'
import { type Log, logError } from './log.ts'
import { makeMetrics } from './metrics.ts'
import { nodeIdOf } from './node-id.ts'
import type { ServerOptions } from './options.ts'
import { watched } from './record-health.ts'

export const VOCABULARIES = [chaperoneVocabulary, mcpVocabulary, postgresVocabulary] as const

/** A second off the store's clock, and certificates would begin or end at the wrong time: not ready (design 3.5). */
const MOST_SKEW_MS = 1_000

/** Everything but the listeners, put together in the order in which it can stand. `close` takes it down in reverse. */
export async function openParts(options: ServerOptions, clock: Clock, log: Log) {
  const undo: (() => unknown)[] = []
  const close = async () => {
    for (const step of undo.reverse()) {
      try {
        await step()
      } catch (error) {
        logError(log, 'closing', error)
      }
    }
  }
  try {
    const dataDir = await claimDataDir(options.dataDir)
    undo.push(() => dataDir.release())
    const store = await openStore(options.store === undefined ? { dataDir: options.dataDir } : { url: options.store }, { clock })
    undo.push(() => store.close())
    const rootKey = await loadRootKey({
      store,
      dataDir: options.dataDir,
      ...(options.rootPassphraseFile === undefined ? {} : { passphraseFile: options.rootPassphraseFile }),
      ...(options.rootKey === undefined ? {} : { file: options.rootKey }),
      ...(process.env.CREDENTIALS_DIRECTORY === undefined ? {} : { credentialsDirectory: process.env.CREDENTIALS_DIRECTORY }),
      createAt: `${options.dataDir}.root-key`,
    })
    const keyring = await openKeyring(store, rootKey, clock)
    const trustDomain = await settleTrustDomain(store, options.trustDomain, clock)
    await plantPresets(store, clock)

    const nodeId = await nodeIdOf(join(options.dataDir, 'node-id'))
    const lease = await startLease(store, { nodeId, address: options.listen, clock, lifeMs: 1_000, everyMs: 300 })
    undo.push(() => lease.stop())
    const metrics = makeMetrics({
      sessions: () => sessions.list().length,
      connections: () => sessions.list().reduce((sum, session) => sum + session.open, 0),
      permits: () => guard.open,
      epoch: () => lease.epoch(),
    })
    const audit = watched(
      await openAudit(store, { nodeId, keyring, clock, trustDomain, onTrouble: (error) => logError(log, 'record', error) }),
      metrics,
      clock,
    )
    undo.push(() => audit.close())
    const vault = openVault(store, keyring, clock)
    vault.onSet((value) => audit.addSecrets([value]))
    // Opened once, so that what was sealed before this start is masked in records as well.
    for (const { name } of await vault.list()) await vault.reveal(name)
    const logins = openLogins({ store, keyring, clock, audit, reveal: vault.reveal, clientDocument: options.clientDocument })
    const ca = await openAuthority(store, keyring, { clock, trustDomain, failed: (error) => logError(log, 'authorities', error) })
    undo.push(() => ca.close())

    const state = await keepState(store.db, VOCABULARIES, lease.epoch())
    // What stopped a chain does not start it again within one state: a session is looked at once for each.
    const seen = new WeakMap<LiveSession, State>()
    const mayAct = async (session: LiveSession): Promise<void> => {
      await lease.ensure()
      if (seen.get(session) === state.current()) return
      await state.see(session.principal.chain)
      const why = whyCut(session)
      if (why) throw why
      seen.set(session, state.current())
    }
    const whyCut = (session: LiveSession): ChaperoneError | undefined => {
      try {
        const now = clock.now()
        const links = state.current().links(session.principal.chain, now)
        const lock = lockFor(state.current().locks, { now, sessionId: session.id, links })
        return lock && new ChaperoneError('locked', `A lock stops this: ${lock.reason}`)
      } catch (error) {
        return toChaperoneError(error)
      }
    }
    const raised = async (epoch: number) => {
      await lease.confirmed(epoch)
    }
    const sessions = openSessions({ store, audit, clock, raised, mayAct })
    undo.push(() => sessions.close('draining'))

    const guard = makeGuard({
      state,
      lease,
      audit,
      clock,
      budgets: openBudgets(store, clock),
      outcomeLost(error) {
        metrics.outcomeLost()
        logError(log, 'recording an outcome', error)
      },
    })
    undo.push(
      lease.onEpoch(async (epoch) => {
        // Keys are rotated with the epoch: what another node sealed or signed from now on must be readable here.
        await keyring.refresh()
        await state.refresh(epoch)
        const over = await endedAmong(
          store,
          sessions.list().map((session) => session.id),
        )
        sessions.review((session) =>
          over.has(session.id)
            ? new ChaperoneError('session_ended', 'The session is over.', { detail: over.get(session.id) ?? 'ended' })
            : whyCut(session),
        )
        guard.review()
      }),
    )
    await state.refresh(lease.epoch()) // what rose between the first look and the listener

    const pins = openPinBook({
      store,
      audit,
      clock,
      current: (id) => state.current().pins(id),
      async raised(epoch) {
        lease.noticed(epoch)
        await state.refresh(epoch)
      },
    })
    const resources: Resources = {
      find: (kind, name) => state.current().find(kind, name),
      list: (kind) => state.current().list(kind),
      get revision() {
        return state.current().revision
      },
    }
    const identityBundle = { pem: await ca.bundle('identity') }
    undo.push(
      ca.onChange((purpose) => {
        if (purpose === 'identity')
          ca.bundle('identity').then(
            (pem) => Object.assign(identityBundle, { pem }),
            (error) => logError(log, 'identity bundle', error),
          )
      }),
    )
    const tokens = openTokens({ keyring, clock, trustDomain })
    const signin = openSignin({ store, keyring, ca, sessions, audit, clock, trustDomain })
    const callers = makeCallers({
      sessions,
      mayAct,
      fromCertificate: (raw) => principalFromCertificate(raw, { identityBundle: identityBundle.pem, now: clock.now(), trustDomain }),
      fromToken: (token) => tokens.verify(token, `https://${trustDomain}`),
    })
    let draining = false
    const drain = {
      begin: () => {
        draining = true
      },
      get under() {
        return draining
      },
    }
    const notReady = (): string | undefined => {
      if (draining) return 'this node is shutting down'
      if (audit.failing()) return 'records cannot be written, so everything is refused'
      if (!lease.valid()) return 'the lease of this node has run out'
      if (Math.abs(lease.skewMs()) > MOST_SKEW_MS) return `the clock of this node is ${Math.round(lease.skewMs())} ms off the store's`
      return undefined
    }
    return {
      options,
      clock,
      log,
      store,
      keyring,
      trustDomain,
      nodeId,
      lease,
      audit,
      vault,
      logins,
      ca,
      state,
      sessions,
      guard,
      metrics,
      pins,
      resources,
      tokens,
      signin,
      callers,
      chaperone: chaperoneResource(trustDomain),
      notReady,
      drain,
      raised,
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

export type Parts = Awaited<ReturnType<typeof openParts>>
