import { stat } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { openAudit } from '../audit/writer.ts'
import { openAuthority } from '../ca/authority.ts'
import type { Clock } from '../clock.ts'
import { verbsOfRoles } from '../documents/grants.ts'
import { loadSnapshot } from '../documents/stored.ts'
import { worldOf } from '../documents/world.ts'
import { ChaperoneError } from '../errors.ts'
import { findIdentity, setIdentityState } from '../identity/directory.ts'
import { enrolLink, formatInvitation, makeInvitation } from '../identity/invitations.ts'
import { activeLocks, liftLock, lockFor } from '../identity/locks.ts'
import { openKeyring } from '../keys/keyring.ts'
import { loadRootKey } from '../keys/root-key.ts'
import { claimDataDir } from '../store/data-dir.ts'
import { openStore } from '../store/open.ts'
import type { LockTable } from '../store/tables.ts'
import { nodeIdOf } from './node-id.ts'
import { reachable, reachableWeb, type ServerOptions } from './options.ts'

/** Whoever waits at the machine uses it at once. */
const TTL_MS = 3_600_000

export interface Recovered {
  readonly name: string
  readonly line: string
  readonly browser: string
  readonly expiresAt: number
  /** what stood in his way and does no more */
  readonly lifted: readonly { readonly id: string; readonly reason: string }[]
  readonly enabled: boolean
}

/**
 * The way back for an administrator whom nobody who is left lets in: one invitation, made on the machine by who has the store and the
 * root key, and recorded before it is. What stands in his way (locks that fall on him, a disabled identity) is taken away only with
 * `lift`, and said. On SQLite no node may run meanwhile; on PostgreSQL those that run take it in as any change of rights.
 * Throws `already_running`, `not_found`, `usage`, `conflict`, `key_mismatch`.
 */
export async function recover(
  options: ServerOptions,
  name: string,
  { lift, clock }: { readonly lift: boolean; readonly clock: Clock },
): Promise<Recovered> {
  if (options.store === undefined && !(await stat(join(options.dataDir, 'chaperone.db')).catch(() => undefined)))
    throw new ChaperoneError('usage', `There is no store in ${options.dataDir}.`, {
      fix: 'Give the --data-dir, or the --store, that the server has.',
    })
  const undo: (() => unknown)[] = []
  try {
    const dataDir = await claimDataDir(options.dataDir)
    undo.push(() => dataDir.release())
    const store = await openStore(options.store === undefined ? { dataDir: options.dataDir } : { url: options.store }, { clock })
    undo.push(() => store.close())
    const belongs = await store.db.selectFrom('meta').select('value').where('key', '=', 'trust_domain').executeTakeFirst()
    if (!belongs)
      throw new ChaperoneError('usage', 'No server has ever started on this store.', { fix: 'Start it: the first start prints an invitation.' })
    const rootKey = await loadRootKey({
      store,
      dataDir: options.dataDir,
      ...(options.rootPassphraseFile === undefined ? {} : { passphraseFile: options.rootPassphraseFile }),
      ...(options.rootKey === undefined ? {} : { file: options.rootKey }),
      ...(process.env.CREDENTIALS_DIRECTORY === undefined ? {} : { credentialsDirectory: process.env.CREDENTIALS_DIRECTORY }),
      createAt: `${options.dataDir}.root-key`,
    })
    const keyring = await openKeyring(store, rootKey, clock)
    const trustDomain = belongs.value
    const nodeId = await nodeIdOf(join(options.dataDir, 'node-id'))

    const person = await findIdentity(store.db, { name })
    if (person?.kind !== 'user' || person.state === 'deleted') throw new ChaperoneError('not_found', `There is no person ${name}.`)
    const world = worldOf(await loadSnapshot(store.db))
    const administers = ({ roles }: { readonly roles: readonly string[] | 'inherit' }) => {
      const verbs = verbsOfRoles(roles === 'inherit' ? [] : roles, (role) => world.documents.get(`role/${role}`)?.spec)
      return verbs.has('identities') && verbs.has('apply')
    }
    if (!administers(person)) {
      const those = [...world.identities.values()].filter((one) => one.kind === 'user' && one.state !== 'deleted' && administers(one))
      throw new ChaperoneError('usage', `${name} is no administrator: no role of his gives \`apply\` and \`identities\`.`, {
        fix: `Name one who is: ${those.map((one) => one.name).join(', ')}. He gives a role to whom it is due.`,
      })
    }
    const falling = async (now: number): Promise<readonly LockTable[]> => {
      const roles = person.roles === 'inherit' ? [] : person.roles
      const identity = { id: person.id, kind: person.kind, name, traits: {}, roles }
      return (await activeLocks(store.db, now)).filter((lock) => lockFor([lock], { now, links: [{ identity }] }))
    }
    const locks = await falling(clock.now())
    const disabled = person.state === 'disabled'
    if (!lift && (locks.length > 0 || disabled)) {
      const why = [...locks.map(({ id, reason }) => `lock ${id} (${reason})`), ...(disabled ? ['he is disabled'] : [])]
      throw new ChaperoneError('conflict', `An invitation would not let ${name} in: ${why.join('; ')}. Nothing was changed.`, {
        fix: 'Look who did that, and why. To take it away with the invitation: --lift',
      })
    }

    const ca = await openAuthority(store, keyring, { clock, trustDomain })
    undo.push(() => ca.close())
    const fingerprint = await ca.fingerprint('server')
    const audit = await openAudit(store, { nodeId, keyring, clock, trustDomain })
    undo.push(() => audit.close())
    const recorded = await audit.append({
      type: 'administrator.recovered',
      data: {
        for: { id: person.id, name },
        ttlMs: TTL_MS,
        on: userInfo().username,
        ...(locks.length === 0
          ? {}
          : { lifted: locks.map(({ id, target_kind, target, reason }) => ({ lock: id, kind: target_kind, target, reason })) }),
        ...(disabled ? { enabled: true } : {}),
      },
    })
    try {
      const { result } = await store.reduce(async (trx) => {
        for (const { id } of locks) await liftLock(trx, id, undefined, clock.now())
        if (disabled) await setIdentityState(trx, person.id, 'active', clock.now())
        return makeInvitation(trx, { kind: 'invitation', identityId: person.id, ttlMs: TTL_MS, now: clock.now() })
      })
      return {
        name,
        line: formatInvitation({ address: reachable(options.listen, options.publicHost[0]), secret: result.secret, fingerprint }),
        browser: enrolLink(reachableWeb(options.webListen, options), result.secret),
        expiresAt: result.expiresAt,
        lifted: locks.map(({ id, reason }) => ({ id, reason })),
        enabled: disabled,
      }
    } catch (error) {
      const reason = error instanceof ChaperoneError ? error.code : 'store_unavailable'
      await audit.append({ type: 'administrator.recovered', permit: recorded.id, outcome: { status: 'failed', reason } })
      throw error
    }
  } finally {
    for (const step of undo.reverse()) await step()
  }
}
