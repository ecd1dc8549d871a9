import { join } from 'node:path'
import { chaperoneResource, chaperoneVocabulary } from '../access/administration.ts'
import { openBudgets } from '../access/budgets.ts'
import { makeGuard } from '../access/guard.ts'
import { makeLockWatch } from '../access/lock-watch.ts'
import { openRequests } from '../access/requests/requests.ts'
import { makeRightsWatch } from '../access/rights-watch.ts'
import { keepState } from '../access/state.ts'
import type { Resources } from '../access/types.ts'
import { assertAdministratorLeft } from '../api/administrator-left.ts'
import { openAuthority } from '../ca/authority.ts'
import { openPinBook } from '../catalog/pin-book.ts'
import { type Clock, steadyClock } from '../clock.ts'
import { mcpVocabulary } from '../gateways/mcp/rules.ts'
import { postgresVocabulary } from '../gateways/postgres/rules.ts'
import { principalFromCertificate } from '../identity/credential.ts'
import { sweepDelegations } from '../identity/delegation/delegations.ts'
import { openSessions } from '../identity/sessions.ts'
import { openTokens } from '../identity/tokens.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import { believeMore } from '../network/authorities.ts'
import { makeThrottle } from '../network/throttle.ts'
import { lockNotice } from '../notify/lock-notice.ts'
import { openBrowserSignin } from '../signin/browser.ts'
import { openSignin } from '../signin/enrol.ts'
import { knocksFrom } from '../signin/knocking.ts'
import { openPasskeys } from '../signin/passkey.ts'
import { openStanding } from '../signin/standing.ts'
import { claimDataDir } from '../store/data-dir.ts'
import { startLease } from '../store/lease.ts'
import { openStore } from '../store/open.ts'
import type { Write } from '../store/store.ts'
import type { LockTable } from '../store/tables.ts'
import { makeCallers } from './callers.ts'
import { openCompany } from './company.ts'
import { openCredentials } from './credentials.ts'
import { followEpochs } from './epochs.ts'
import { every } from './every.ts'
import { plantPresets, settleTrustDomain } from './first-start.ts'
import { openGoverning } from './governing.ts'
import { followIdentityBundle } from './identity-bundle.ts'
import { joiningOf } from './joining.ts'
import { type Log, logError } from './log.ts'
import { makeMetrics } from './metrics.ts'
import { nodeIdOf } from './node-id.ts'
import { openNotifying } from './notifying.ts'
import { serveOauth } from './oauth.ts'
import { reachable, reachableWeb, type ServerOptions } from './options.ts'
import { readinessOf } from './readiness.ts'
import { openRecording } from './recording.ts'
import { standingOf } from './standing.ts'
import { openTripwires } from './tripwires.ts'

export const VOCABULARIES = [chaperoneVocabulary, mcpVocabulary, postgresVocabulary] as const

/** How often sessions are looked through for those that a role ends. */
const SWEEP_SESSIONS_MS = 10_000
/** How often delegations are looked through for those whose time is over, or whose giver is gone. Nothing can be done under them before that either. */
const SWEEP_DELEGATIONS_MS = 10_000
/** How often sign-ins are looked through for those whose provider is to be asked again. */
const RECHECK_MS = 15_000
/** How often requests are looked through for those that nobody answered in time. Rights end at their own minute, not by this. */
const SWEEP_REQUESTS_MS = 5_000

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
  const again = (what: string, ms: number, work: () => Promise<void>) => every(clock, ms, work, (error) => logError(log, what, error))
  try {
    believeMore(options.extraCa)
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
    const chaperone = chaperoneResource(trustDomain)

    const nodeId = await nodeIdOf(join(options.dataDir, 'node-id'))
    const lease = await startLease(store, { nodeId, address: options.listen, clock, lifeMs: 1_000, everyMs: 300 })
    undo.push(() => lease.stop())
    const metrics = makeMetrics({
      sessions: () => sessions.list().length,
      connections: () => sessions.list().reduce((sum, session) => sum + session.open, 0),
      permits: () => guard.open,
      epoch: () => lease.epoch(),
    })
    const recording = await openRecording({ store, nodeId, keyring, clock, trustDomain, metrics, log })
    undo.push(() => recording.close())
    const { audit, masker, strangers } = recording

    const places: { web: string; data: string; line?: string } = {
      web: reachableWeb(options.webListen, options),
      data: reachable(options.listen, options.publicHost[0]),
    }
    const credentials = await openCredentials({ store, keyring, clock, audit, state: () => state.current(), options, places, trustDomain, log })
    const { vault, references, notes, assertions, svids, outgoing, logins } = credentials
    const ca = await openAuthority(store, keyring, { clock, trustDomain, failed: (error) => logError(log, 'authorities', error) })
    undo.push(() => ca.close())

    const state = await keepState(store.db, VOCABULARIES, lease.epoch())
    const standing = standingOf({ lease, state, clock, log })
    const raised = async (epoch: number) => {
      await lease.confirmed(epoch)
    }
    const toldOfLock = (trx: Write, made: LockTable, name: string) => notifications.announce(trx, lockNotice('made', made, name))
    const sessions = openSessions({ store, audit, clock, raised, ...standing, peer: knocksFrom, told: toldOfLock })
    undo.push(() => sessions.close('draining'))
    undo.push(again('sessions', SWEEP_SESSIONS_MS, () => sessions.sweep()))
    undo.push(again('delegations', SWEEP_DELEGATIONS_MS, () => sweepDelegations({ store, sessions, clock })))

    const link = (id: string) => `https://${places.web}/requests/${id}`
    const mask = (text: string) => masker.text(text).value
    const notifications = openNotifying({ store, clock, audit, state, vault, chaperone, metrics, log, mask, link })
    undo.push(() => notifications.close())
    // What somebody was given for ten minutes is over after ten minutes, also when the machine's time is set back.
    const steady = steadyClock(clock)
    const requests = openRequests({
      store,
      state,
      audit,
      clock: steady,
      masker,
      link,
      raised,
      chaperone,
      failed: (error) => logError(log, 'requests', error),
    })
    undo.push(() => requests.close())
    undo.push(requests.announcing(notifications.announce))
    const guard = makeGuard({
      state,
      lease,
      audit,
      clock: steady,
      calls: requests.calls,
      budgets: openBudgets(store, clock),
      outcomeLost(error) {
        metrics.outcomeLost()
        logError(log, 'recording an outcome', error)
      },
    })
    const lockWatch = makeLockWatch(steady)
    undo.push(lockWatch.close)
    const rightsWatch = makeRightsWatch({ kind: 'mcp', state, clock: steady })
    undo.push(rightsWatch.close)
    undo.push(await followEpochs({ store, lease, state, credentials, sessions, guard, keyring, requests, lockWatch, rightsWatch, standing }))
    const sweep = requests.sweep({ nodeId, has: guard.has })
    await sweep.begin()
    undo.push(again('requests', SWEEP_REQUESTS_MS, sweep.round))

    undo.push(openTripwires({ store, state, audit, clock, raised, told: toldOfLock, failed: (error) => logError(log, 'tripwires', error) }))

    const told = notifications.announce
    undo.push(openGoverning({ store, audit, clock, raised, told, vocabularies: VOCABULARIES, chaperone, log }))

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
    const identityBundle = await followIdentityBundle(ca, log)
    undo.push(identityBundle.stop)
    const tokens = openTokens({ keyring, clock, trustDomain })
    const joining = joiningOf({ store, audit, keyring, clock, trustDomain, sessions, state, outgoing, ca, log, undo })
    const directoryDocuments = () =>
      state
        .current()
        .list('directory')
        .map(({ resource, spec }) => ({ name: resource.name, spec }))
    const { standingOf: signedInHow, ownCounts } = openStanding({ store, clock, documents: directoryDocuments })
    const signin = openSignin({ store, keyring, ca, sessions, audit: strangers, clock, trustDomain, joining, ownCounts })
    const browsers = openBrowserSignin({ store, keyring, sessions, audit: strangers, clock })
    const guesses = makeThrottle(clock)
    const company = openCompany({
      store,
      keyring,
      guesses,
      ca,
      audit: strangers,
      sessions,
      raised,
      administratorLeft: (trx) => assertAdministratorLeft({ store, clock, vocabularies: VOCABULARIES, chaperone }, trx),
      clock,
      outgoing,
      reveal: vault.reveal,
      places,
      documents: directoryDocuments,
      standingOf: signedInHow,
      told: (trx, notice) => notifications.announce(trx, notice),
      log: (error, where) => logError(log, where, error),
    })
    undo.push(again('recheck', RECHECK_MS, company.recheck.round))
    const passkeys = openPasskeys({ store, sessions, browsers, audit: strangers, clock, trustDomain, ownCounts })
    const { oauth, stop: stopOauth } = serveOauth({
      ...{ store, keyring, audit: strangers, clock, sessions, tokens, resources, outgoing, places, options, trustDomain, raised },
      see: (chain) => state.see(chain),
      told: toldOfLock,
      log: (error, where) => logError(log, where, error),
    })
    undo.push(stopOauth)
    const callers = makeCallers({
      sessions,
      mayAct: standing.mayAct,
      fromCertificate: (raw) => principalFromCertificate(raw, { identityBundle: identityBundle.pem(), now: clock.now(), trustDomain }),
      fromToken: (token, resource) => tokens.verify(token, [`https://${trustDomain}`, ...(resource === undefined ? [] : [resource])]),
    })
    const { notReady, drain } = readinessOf({ audit, lease })
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
      strangers,
      vault,
      references,
      notes,
      assertions,
      svids,
      outgoing,
      logins,
      ca,
      state,
      sessions,
      guard,
      requests,
      notifications,
      link,
      places,
      metrics,
      pins,
      resources,
      lockWatch,
      rightsWatch,
      tokens,
      signin,
      joining,
      browsers,
      passkeys,
      ...company,
      guesses,
      oauth,
      callers,
      chaperone,
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
