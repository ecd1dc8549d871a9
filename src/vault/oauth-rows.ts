import type { OAuthClientInformationMixed } from '@modelcontextprotocol/client'
import type { JWK } from 'jose'
import type { McpServerSpec } from '../catalog/mcp-server.ts'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { Keyring } from '../keys/types.ts'
import type { Store, Write } from '../store/store.ts'
import type { Binding, IssuerMetadata } from './oauth-discovery.ts'
import type { Depth } from './outbound.ts'

/** Whose login at which server; `*`: everybody's. */
export interface LoginKey {
  readonly resource: string
  readonly subject: string
}

/** What a login was made for; a token that was given for one server is never sent to another. */
export interface LoginAt {
  /** the MCP server's URL */
  readonly url: string
  readonly issuer: string
  readonly metadata: IssuerMetadata | undefined
  readonly resource: string | undefined
  readonly depth: Depth
  /** our registration there; without the secret of one that was made beforehand */
  readonly client: OAuthClientInformationMixed
  /** what was asked for, separated by spaces */
  readonly scope: string | undefined
}

/** A login, opened. */
export interface HeldLogin extends LoginAt {
  readonly access: string
  readonly refresh: string | undefined
  /** ms since 1970; undefined: the server did not say */
  readonly expiresAt: number | undefined
  readonly obtainedAt: number
  /** the key that its tokens are bound to, with its private part; undefined: bearer tokens */
  readonly key?: JWK | undefined
  /** what was given, where it differs from what was asked for */
  readonly granted: string | undefined
  /** what a later challenge asked for beyond it */
  readonly wanted?: string
  /** the server has turned the refresh token down */
  readonly over?: boolean
}

/** Whatever it was given for, a token goes only to the server that it was given for, and as its document says it now. */
export function fitsDocument({ url, auth }: McpServerSpec, held: Pick<HeldLogin, 'url' | 'client' | 'key'>): boolean {
  const { client_id: registered, dpop } = auth?.oauth ?? {}
  if (dpop !== undefined && (dpop === 'required') !== (held.key !== undefined)) return false
  return held.url === url && (registered === undefined || registered === held.client.client_id)
}

export interface LoginRow {
  readonly held: HeldLogin
  /** changes with every save: whoever saves names the one he read */
  readonly version: number
  /** ms since 1970: as long a node is about to refresh it; null: none is */
  readonly claimedUntil: number | null
}

/** A login that somebody began. */
export interface Flow extends LoginAt {
  readonly verifier: string
  readonly redirect: string
  readonly binding: Binding
  /** made for this login, where tokens may be bound to it */
  readonly key?: JWK | undefined
}

/** Logins that are under way: each is a row that somebody may leave behind. */
const MOST_FLOWS = 1_000

/** The rows of logins, sealed. Bytes that were moved to another row do not open. */
export function loginRows(store: Store, keyring: Keyring, clock: Clock) {
  const contextOf = ({ resource, subject }: LoginKey) => `upstream-login ${resource} ${subject}`
  const at = (key: LoginKey) =>
    store.db
      .selectFrom('upstream_logins')
      .select(['sealed', 'updated_at', 'claimed_until'])
      .where('resource_id', '=', key.resource)
      .where('subject', '=', key.subject)

  return {
    async read(key: LoginKey): Promise<LoginRow | undefined> {
      const row = await at(key).executeTakeFirst()
      if (!row) return undefined
      const opened = await keyring.open('vault', row.sealed, contextOf(key))
      return { held: JSON.parse(opened.toString('utf8')) as HeldLogin, version: row.updated_at, claimedUntil: row.claimed_until }
    },

    /** Whose logins there are; what does not open any more is left out. */
    async keys(): Promise<readonly LoginKey[]> {
      const rows = await store.db.selectFrom('upstream_logins').select(['resource_id', 'subject']).orderBy('resource_id').orderBy('subject').execute()
      return rows.map((row) => ({ resource: row.resource_id, subject: row.subject }))
    },

    /** A new login, in the place of whatever was there. */
    async put(key: LoginKey, held: HeldLogin, also?: (trx: Write) => Promise<void>): Promise<void> {
      const sealed = await keyring.seal('vault', JSON.stringify(held), contextOf(key))
      await store.write(async (trx) => {
        await trx.deleteFrom('upstream_logins').where('resource_id', '=', key.resource).where('subject', '=', key.subject).execute()
        await trx
          .insertInto('upstream_logins')
          .values({ resource_id: key.resource, subject: key.subject, issuer: held.issuer, sealed, updated_at: clock.now(), claimed_until: null })
          .execute()
        await also?.(trx)
      })
    },

    /** The same login, changed; nothing when it was removed or replaced since `version` was read. Ends a claim. */
    async change(key: LoginKey, held: HeldLogin, version: number): Promise<boolean> {
      const sealed = await keyring.seal('vault', JSON.stringify(held), contextOf(key))
      const { numUpdatedRows } = await store.write((trx) =>
        trx
          .updateTable('upstream_logins')
          .set({ sealed, updated_at: Math.max(clock.now(), version + 1), claimed_until: null })
          .where('resource_id', '=', key.resource)
          .where('subject', '=', key.subject)
          .where('updated_at', '=', version)
          .executeTakeFirst(),
      )
      return numUpdatedRows === 1n
    },

    /** Whether this node may refresh it now: one at a time, over all nodes. */
    async claim(key: LoginKey, version: number, forMs: number): Promise<boolean> {
      const now = clock.now()
      const { numUpdatedRows } = await store.write((trx) =>
        trx
          .updateTable('upstream_logins')
          .set({ claimed_until: now + forMs })
          .where('resource_id', '=', key.resource)
          .where('subject', '=', key.subject)
          .where('updated_at', '=', version)
          .where((is) => is.or([is('claimed_until', 'is', null), is('claimed_until', '<=', now)]))
          .executeTakeFirst(),
      )
      return numUpdatedRows === 1n
    },

    async release(key: LoginKey, version: number): Promise<void> {
      await store.write((trx) =>
        trx
          .updateTable('upstream_logins')
          .set({ claimed_until: null })
          .where('resource_id', '=', key.resource)
          .where('subject', '=', key.subject)
          .where('updated_at', '=', version)
          .execute(),
      )
    },

    async remove(key: LoginKey): Promise<boolean> {
      const { numDeletedRows } = await store.write((trx) =>
        trx.deleteFrom('upstream_logins').where('resource_id', '=', key.resource).where('subject', '=', key.subject).executeTakeFirst(),
      )
      return numDeletedRows === 1n
    },

    async begin(key: LoginKey, identity: string, stateHash: string, flow: Flow, expiresAt: number): Promise<void> {
      const sealed = await keyring.seal('vault', JSON.stringify(flow), `upstream-flow ${stateHash}`)
      await store.write(async (trx) => {
        await trx.deleteFrom('upstream_login_flows').where('expires_at', '<=', clock.now()).execute()
        const { count } = await trx
          .selectFrom('upstream_login_flows')
          .select((is) => is.fn.countAll<number>().as('count'))
          .executeTakeFirstOrThrow()
        if (Number(count) >= MOST_FLOWS) throw new ChaperoneError('too_many', 'Too many logins are under way; try again in some minutes.')
        const row = { state_sha256: stateHash, resource_id: key.resource, subject: key.subject, identity_id: identity, sealed, expires_at: expiresAt }
        await trx.insertInto('upstream_login_flows').values(row).execute()
      })
    },

    /** Whose login it is that this identity began and has not finished; undefined when there is none. */
    async began(stateHash: string, identity: string): Promise<LoginKey | undefined> {
      const row = await flowAt(store.db, stateHash, identity, clock.now()).executeTakeFirst()
      return row && { resource: row.resource_id, subject: row.subject }
    },

    /** Takes it out: a second time there is nothing (single use). */
    async take(stateHash: string, identity: string): Promise<{ readonly key: LoginKey; readonly flow: Flow } | undefined> {
      const row = await store.write(async (trx) => {
        const found = await flowAt(trx, stateHash, identity, clock.now()).executeTakeFirst()
        if (!found) return undefined
        const { numDeletedRows } = await trx.deleteFrom('upstream_login_flows').where('state_sha256', '=', stateHash).executeTakeFirst()
        return numDeletedRows === 1n ? found : undefined
      })
      if (!row) return undefined
      const opened = await keyring.open('vault', row.sealed, `upstream-flow ${stateHash}`)
      return { key: { resource: row.resource_id, subject: row.subject }, flow: JSON.parse(opened.toString('utf8')) as Flow }
    },

    /** As `Vault.sealAgain`: when the key of the purpose was rotated, before the old one ends. */
    async sealAgain(trx: Write): Promise<number> {
      const rows = await trx.selectFrom('upstream_logins').select(['resource_id', 'subject', 'sealed']).execute()
      for (const row of rows) {
        const context = contextOf({ resource: row.resource_id, subject: row.subject })
        const sealed = await keyring.seal('vault', await keyring.open('vault', row.sealed, context), context)
        await trx
          .updateTable('upstream_logins')
          .set({ sealed })
          .where('resource_id', '=', row.resource_id)
          .where('subject', '=', row.subject)
          .execute()
      }
      return rows.length
    },
  }
}

export type LoginRows = ReturnType<typeof loginRows>

const flowAt = (db: Store['db'] | Write, stateHash: string, identity: string, now: number) =>
  db
    .selectFrom('upstream_login_flows')
    .selectAll()
    .where('state_sha256', '=', stateHash)
    // Somebody else's is not there for him, and stays for whoever began it.
    .where('identity_id', '=', identity)
    .where('expires_at', '>', now)
