import { createHash } from 'node:crypto'
import { AsnConvert } from '@peculiar/asn1-schema'
import type { Name } from '@peculiar/asn1-x509'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import type { Keyring } from '../keys/types.ts'
import type { Store } from '../store/store.ts'
import type { AuthorityTable } from '../store/tables.ts'
import { authorityName, isTrustDomain, keyIdentifierOf, type Leaf } from './certificate.ts'
import { type IssuerThread, type SigningKey, startIssuer } from './issuer.ts'
import { certificateBlocks, pemOf, readBundle } from './pem.ts'
import { type AuthorityPurpose, type CertificateAuthority, type Issued, TTL } from './types.ts'

const DAY_MS = 24 * 3_600_000
const AUTHORITY_LIFE_MS = 3652 * DAY_MS

/** How far a reader's clock may be behind ours: a certificate is valid this long before it was issued. Its end is never moved. */
const SKEW_MS = 60_000

/** How often the authorities are read again, so that a rotation on another node shows here. */
const REFRESH_MS = 2_000

/** An authority is replaced by itself this long before its end, so that no leaf is ever cut short by it. */
const REPLACE_BEFORE_MS = 2 * 366 * DAY_MS

/** Callers reckon `notAfter` from a clock reading that is a little older than ours. */
const TOLERANCE_MS = 5_000

/** A database's own certificate is put into place by hand or by its operator, so it may live longer than ours. */
const DATABASE_SERVER_LONGEST_MS = 398 * DAY_MS

/**
 * How long an authority is believed after its successor came: as long as the longest leaf under it may live. Clients
 * learn our server authority's successor whenever they renew, so a client that comes once a month still finds us.
 */
const OVERLAP_MS = { identity: TTL.longestMs, server: 30 * DAY_MS, database: DATABASE_SERVER_LONGEST_MS } as const

interface AuthorityParts {
  readonly clock: Clock
  readonly trustDomain: string
  /** A refresh in the background failed; what was known before stays. */
  readonly failed?: (error: unknown) => void
}

/** The certificate authority over the store's authorities and the keyring's keys. Throws `usage` for a trust domain that cannot be one. */
export async function openAuthority(store: Store, keyring: Keyring, parts: AuthorityParts): Promise<CertificateAuthority> {
  if (!isTrustDomain(parts.trustDomain)) {
    throw new ChaperoneError('usage', `${JSON.stringify(parts.trustDomain.slice(0, 80))} cannot be a trust domain.`, {
      fix: 'Use lower-case letters, digits, dots and dashes, at most 64.',
    })
  }
  const authority = new Authority(store, keyring, parts, startIssuer())
  authority.watch()
  return authority
}

type Row = AuthorityTable

/** What is known of one purpose: the authority whose key we hold, and every one that is believed, newest first. */
interface Known {
  readonly active: Row
  readonly key: SigningKey
  readonly bundle: string
}

class Authority implements CertificateAuthority {
  readonly #store: Store
  readonly #keyring: Keyring
  readonly #clock: Clock
  readonly #trustDomain: string
  readonly #failed: (error: unknown) => void
  readonly #thread: IssuerThread
  readonly #known = new Map<AuthorityPurpose, Known>()
  /** One change of a purpose at a time in this process; between processes the table decides. */
  readonly #turns = new Map<AuthorityPurpose, Promise<unknown>>()
  readonly #watchers = new Set<(purpose: AuthorityPurpose) => void>()
  /** What the table said of a purpose when it was last looked at. */
  readonly #seen = new Map<string, string>()
  #disarm: (() => void) | undefined
  #refreshing: Promise<void> = Promise.resolve()
  #closed = false

  constructor(store: Store, keyring: Keyring, parts: AuthorityParts, thread: IssuerThread) {
    this.#store = store
    this.#keyring = keyring
    this.#clock = parts.clock
    this.#trustDomain = parts.trustDomain
    this.#failed = parts.failed ?? (() => {})
    this.#thread = thread
  }

  issueIdentity({ spki, kind, name, claims, notAfter }: Parameters<CertificateAuthority['issueIdentity']>[0]): Promise<Issued> {
    return this.#issue('identity', spki, notAfter, TTL.longestMs, { use: 'identity', trustDomain: this.#trustDomain, kind, name, claims })
  }

  issueServer({ spki, names, notAfter }: Parameters<CertificateAuthority['issueServer']>[0]): Promise<Issued> {
    return this.#issue('server', spki, notAfter, TTL.longestMs, { use: 'server', names })
  }

  issueDatabase({ spki, resourceId, user, notAfter }: Parameters<CertificateAuthority['issueDatabase']>[0]): Promise<Issued> {
    return this.#issue(`database:${resourceId}`, spki, notAfter, TTL.longestMs, { use: 'database', user })
  }

  issueDatabaseServer({ spki, resourceId, names, notAfter }: Parameters<CertificateAuthority['issueDatabaseServer']>[0]): Promise<Issued> {
    return this.#issue(`database:${resourceId}`, spki, notAfter, DATABASE_SERVER_LONGEST_MS, { use: 'server', names })
  }

  async bundle(purpose: AuthorityPurpose): Promise<string> {
    return (await this.#current(purpose)).bundle
  }

  async fingerprint(purpose: AuthorityPurpose): Promise<string> {
    return (await this.#current(purpose)).active.spki_sha256
  }

  rotate(purpose: AuthorityPurpose): Promise<{ readonly fingerprint: string; readonly believedUntil: number }> {
    return this.#turn(purpose, async () => {
      const before = await this.#load(purpose)
      const now = this.#clock.now()
      const believedUntil = Math.min(now + overlapOf(purpose), before.active.not_after)
      await this.#keyring.rotate(keyPurpose(purpose), believedUntil - now)
      const after = await this.#load(purpose, before)
      this.#learn(purpose, after)
      return { fingerprint: after.active.spki_sha256, believedUntil }
    })
  }

  onChange(see: (purpose: AuthorityPurpose) => void): () => void {
    this.#watchers.add(see)
    return () => this.#watchers.delete(see)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#disarm?.()
    this.#watchers.clear()
    await this.#refreshing
    await this.#thread.close()
  }

  /** Looks at the table every now and then, for as long as the authority is open. */
  watch(): void {
    if (this.#closed) return
    this.#disarm = this.#clock.at(this.#clock.now() + REFRESH_MS, () => {
      this.#refreshing = this.#refresh()
        .catch(this.#failed)
        .finally(() => this.watch())
    })
  }

  async #refresh(): Promise<void> {
    const rows = await this.#believed().select(['id', 'purpose', 'state']).execute()
    for (const [purpose, known] of [...this.#known]) {
      const keys = await this.#keyring.verifiers(keyPurpose(purpose))
      const there = rows.filter((row) => row.purpose === purpose).map(({ id, state }) => `${id} ${state}`)
      const seen = [...there, ...keys.map(({ id }) => id)].join()
      if (known.active.not_after - this.#clock.now() < REPLACE_BEFORE_MS) await this.rotate(purpose)
      else if (this.#seen.get(purpose) !== seen) await this.#turn(purpose, async () => this.#learn(purpose, await this.#load(purpose)))
      this.#seen.set(purpose, seen)
    }
  }

  async #issue(purpose: AuthorityPurpose, spki: Uint8Array, notAfter: number, longestMs: number, leaf: Leaf): Promise<Issued> {
    const { active, key } = await this.#current(purpose)
    const now = this.#clock.now()
    if (!(notAfter > now)) throw new ChaperoneError('issue_refused', 'The certificate would be over before it was issued.')
    if (!(notAfter <= now + longestMs + TOLERANCE_MS)) {
      throw new ChaperoneError('issue_refused', `A certificate lives ${longestMs / 3_600_000} hours at the longest.`, {
        fix: 'Ask for a shorter time and renew.',
      })
    }
    const life = { notBefore: wholeSeconds(now - SKEW_MS), notAfter: wholeSeconds(Math.min(notAfter, active.not_after)) }
    const { der, serial } = await this.#thread.sign(key, spki, life, leaf)
    const overlapping = now < active.created_at + overlapOf(purpose)
    return { certificate: pemOf('CERTIFICATE', der) + (overlapping ? linksOf(active) : ''), serial, ...life }
  }

  async #current(purpose: AuthorityPurpose): Promise<Known> {
    return (
      this.#known.get(purpose) ??
      this.#turn(purpose, async () => {
        const there = this.#known.get(purpose)
        if (there) return there
        const loaded = await this.#load(purpose)
        this.#learn(purpose, loaded)
        return loaded
      })
    )
  }

  #turn<T>(purpose: AuthorityPurpose, work: () => Promise<T>): Promise<T> {
    const mine = (this.#turns.get(purpose) ?? Promise.resolve()).then(work, work)
    const settled = mine
      .catch(() => {})
      .finally(() => {
        if (this.#turns.get(purpose) === settled) this.#turns.delete(purpose)
      })
    this.#turns.set(purpose, settled)
    return mine
  }

  #learn(purpose: AuthorityPurpose, next: Known): void {
    const before = this.#known.get(purpose)
    this.#known.set(purpose, next)
    if (before !== undefined && before.bundle !== next.bundle) for (const see of [...this.#watchers]) see(purpose)
  }

  /**
   * The authority of the keyring's active key, made if it is not there yet: on first use, after `keyring.rotate`, and
   * after a crash between the two.
   */
  async #load(purpose: AuthorityPurpose, predecessor?: Known): Promise<Known> {
    const signer = await this.#keyring.signer(keyPurpose(purpose))
    const read = () => this.#genuine(purpose)
    let rows = await read()
    const standing = rows.find((row) => row.key_id === signer.id)
    if (standing?.state !== 'active' && (await this.#isActiveKey(signer.id))) {
      await this.#make(purpose, signer, predecessor ?? this.#known.get(purpose))
      rows = await read()
    }
    const active = rows.find((row) => row.key_id === signer.id)
    if (!active) {
      const detail = `the authority of ${signer.id} is over`
      throw new ChaperoneError('internal', 'The certificate authority cannot be used.', { detail, fix: 'Rotate its key.' })
    }
    const known = this.#known.get(purpose)
    const bundle = rows.map((row) => rootOf(row)).join('')
    // The same string for as long as nothing changes: those who cache by it compare a pointer.
    if (known && known.active.id === active.id && known.bundle === bundle) return known
    const spki = signer.publicKey.export({ type: 'spki', format: 'der' })
    const key = { id: active.id, name: nameDer(this.#name(purpose)), keyIdentifier: keyIdentifierOf(spki), privateKey: signer.privateKey }
    return { active, key, bundle }
  }

  /**
   * The authorities that are believed and whose key the keyring believes, too. The table is not authenticated, the wrapped
   * keys are: who can write into the store must not be able to plant an authority of his own.
   */
  async #genuine(purpose: AuthorityPurpose): Promise<readonly Row[]> {
    const rows = await this.#believed().selectAll().where('purpose', '=', purpose).execute()
    const keys = await this.#keyring.verifiers(keyPurpose(purpose))
    return rows.filter((row) => {
      const key = keys.find(({ id }) => id === row.key_id)
      const [root] = readBundle(rootOf(row))
      return key !== undefined && root?.publicKey.equals(key.publicKey) && root.verify(key.publicKey)
    })
  }

  #name(purpose: AuthorityPurpose): Name {
    return authorityName(this.#trustDomain, purpose)
  }

  /** Authorities that are believed now, newest first. */
  #believed() {
    const now = this.#clock.now()
    return this.#store.db
      .selectFrom('authorities')
      .where('state', '!=', 'retired')
      .where('not_after', '>', now)
      .where((row) => row.or([row('retire_at', 'is', null), row('retire_at', '>', now)]))
      .orderBy('created_at', 'desc')
      .orderBy('id', 'desc')
  }

  async #make(purpose: AuthorityPurpose, signer: Awaited<ReturnType<Keyring['signer']>>, predecessor: Known | undefined): Promise<void> {
    const spki = signer.publicKey.export({ type: 'spki', format: 'der' })
    // The id follows from the key: nodes that race make the same authority.
    const id = `aut_${signer.id.slice(signer.id.indexOf('_') + 1)}`
    const key = { id, name: nameDer(this.#name(purpose)), keyIdentifier: keyIdentifierOf(spki), privateKey: signer.privateKey }
    const now = this.#clock.now()
    const life = { notBefore: wholeSeconds(now - SKEW_MS), notAfter: wholeSeconds(now + AUTHORITY_LIFE_MS) }
    const root = await this.#thread.sign(key, spki, life)
    const overlap = now + overlapOf(purpose)
    // Those who know only the old root reach the new one over a link that the old key signs.
    const link = predecessor
      ? await this.#thread.sign(predecessor.key, spki, { ...life, notAfter: wholeSeconds(Math.min(overlap, predecessor.active.not_after)) })
      : undefined
    const row: Row = {
      id,
      purpose,
      key_id: signer.id,
      certificate: pemOf('CERTIFICATE', root.der) + (link ? pemOf('CERTIFICATE', link.der) : ''),
      spki_sha256: createHash('sha256').update(spki).digest('hex'),
      state: 'active',
      created_at: now,
      not_after: life.notAfter,
      retire_at: null,
    }
    // `reduce` because its changes follow each other on all nodes: of two that make the same authority, the second finds it.
    await this.#store.reduce(async (trx) => {
      const others = trx.updateTable('authorities').where('purpose', '=', purpose).where('id', '!=', id)
      await others.set({ state: 'retiring', retire_at: overlap }).where('state', '=', 'active').execute()
      await others.set({ state: 'retired' }).where('state', '=', 'retiring').where('retire_at', '<=', now).execute()
      await trx
        .insertInto('authorities')
        .values(row)
        .onConflict((conflict) => conflict.column('id').doUpdateSet({ state: 'active', retire_at: null }))
        .execute()
    })
  }

  /** Whether the store, too, calls this key active: the keyring of a node that missed a rotation may not know better. */
  async #isActiveKey(id: string): Promise<boolean> {
    return (await this.#store.db.selectFrom('keys').select('id').where('id', '=', id).where('state', '=', 'active').executeTakeFirst()) !== undefined
  }
}

const keyPurpose = (purpose: AuthorityPurpose) => `authority:${purpose}` as const
const overlapOf = (purpose: AuthorityPurpose) => (purpose === 'identity' || purpose === 'server' ? OVERLAP_MS[purpose] : OVERLAP_MS.database)
const wholeSeconds = (ms: number) => Math.floor(ms / 1000) * 1000
const nameDer = (name: Name) => new Uint8Array(AsnConvert.serialize(name))

/** `authorities.certificate` holds the root, and after a rotation the link from the root before it. */
const rootOf = (row: Row) => certificateBlocks(row.certificate)[0] ?? ''
const linksOf = (row: Row) => certificateBlocks(row.certificate).slice(1).join('')
