import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto'
import type { Clock } from '../clock.ts'
import { ChaperoneError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { Store, Write } from '../store/store.ts'
import { ROOT_KEY_CHECK } from './root-key.ts'
import type { Keyring, Purpose, RootKey } from './types.ts'

type Algorithm = 'aes-256-gcm' | 'ed25519' | 'p-256'

/** One purpose seals or signs, with one algorithm. */
function algorithmOf(purpose: Purpose): Algorithm {
  if (purpose === 'vault' || purpose === 'factors' || purpose === 'handles' || purpose === 'values') return 'aes-256-gcm'
  return purpose === 'checkpoints' ? 'ed25519' : 'p-256'
}

/** Made when the keyring opens, because they are used inside transactions of others, where no key can be made. */
const AT_ONCE: readonly Purpose[] = ['vault', 'factors', 'handles', 'tokens', 'checkpoints']

interface OpenedKey {
  readonly id: string
  readonly purpose: string
  /** symmetric, or the private half */
  readonly secret: KeyObject
  readonly publicKey: KeyObject | undefined
  readonly state: 'active' | 'retiring'
  readonly retireAt: number | null
}

export interface StoredKeyring extends Keyring {
  /** Reads the keys anew. To be called when the epoch has risen: another node may have rotated one. */
  refresh(): Promise<void>
}

const NONCE = 12
const TAG = 16

/**
 * Opens the keys of the store. Throws ChaperoneError('key_mismatch'), which names where the root key came from, when it
 * is not the one the store was made with.
 */
export async function openKeyring(store: Store, rootKey: RootKey, clock: Clock): Promise<StoredKeyring> {
  await checkRootKey(store, rootKey)
  const keyring = new StoreKeyring(store, rootKey, clock)
  await keyring.refresh()
  for (const purpose of AT_ONCE) await keyring.active(purpose)
  return keyring
}

/** A known text, wrapped on the first start: a wrong root key is found now, not when the first secret does not open. */
async function checkRootKey(store: Store, rootKey: RootKey): Promise<void> {
  const text = 'chaperone'
  const value = Buffer.from(await rootKey.wrap(Buffer.from(text), ROOT_KEY_CHECK)).toString('base64')
  await store.db
    .insertInto('meta')
    .values({ key: ROOT_KEY_CHECK, value })
    .onConflict((is) => is.column('key').doNothing())
    .execute()
  const row = await store.db.selectFrom('meta').select('value').where('key', '=', ROOT_KEY_CHECK).executeTakeFirstOrThrow()
  const opened = await rootKey.unwrap(Buffer.from(row.value, 'base64'), ROOT_KEY_CHECK)
  if (Buffer.from(opened).toString() !== text) throw mismatch(`The root key from ${rootKey.source} does not open this store.`)
}

class StoreKeyring implements StoredKeyring {
  readonly #store: Store
  readonly #rootKey: RootKey
  readonly #clock: Clock
  #keys: ReadonlyMap<string, OpenedKey> = new Map()

  constructor(store: Store, rootKey: RootKey, clock: Clock) {
    this.#store = store
    this.#rootKey = rootKey
    this.#clock = clock
  }

  async seal(purpose: Purpose, plain: Uint8Array | string, context: string): Promise<Uint8Array> {
    const key = await this.active(purpose, 'aes-256-gcm')
    const nonce = randomBytes(NONCE)
    const cipher = createCipheriv('aes-256-gcm', key.secret, nonce).setAAD(additional(purpose, context))
    const bytes = typeof plain === 'string' ? Buffer.from(plain) : plain
    return Buffer.concat([Buffer.from([key.id.length]), Buffer.from(key.id), nonce, cipher.update(bytes), cipher.final(), cipher.getAuthTag()])
  }

  async open(purpose: Purpose, sealed: Uint8Array, context: string): Promise<Buffer> {
    const start = 1 + (sealed[0] ?? 0)
    if (sealed.length < start + NONCE + TAG) throw mismatch('A sealed value is damaged.')
    const id = Buffer.from(sealed.subarray(1, start)).toString('latin1')
    const key = this.#believed(id) ?? (await this.refresh().then(() => this.#believed(id))) // perhaps made by another node
    if (key?.purpose !== purpose || key.publicKey !== undefined)
      throw mismatch('A sealed value cannot be opened: its key is not known any more, or for something else.')
    const body = start + NONCE
    try {
      const decipher = createDecipheriv('aes-256-gcm', key.secret, sealed.subarray(start, body), { authTagLength: TAG })
      decipher.setAAD(additional(purpose, context)).setAuthTag(sealed.subarray(-TAG))
      return Buffer.concat([decipher.update(sealed.subarray(body, -TAG)), decipher.final()])
    } catch (cause) {
      throw mismatch('A sealed value cannot be opened: it was changed, or belongs elsewhere.', cause)
    }
  }

  async derive(purpose: Purpose, use: string): Promise<Buffer> {
    const { secret } = await this.active(purpose, 'aes-256-gcm')
    return createHmac('sha256', secret).update(use).digest()
  }

  async signer(purpose: Purpose) {
    const { id, secret, publicKey } = await this.active(purpose, algorithmOf(purpose) === 'aes-256-gcm' ? 'p-256' : undefined)
    return { id, privateKey: secret, publicKey: publicKey! }
  }

  async verifiers(purpose: Purpose) {
    await this.active(purpose)
    return [...this.#keys.values()]
      .filter((key) => key.purpose === purpose && key.publicKey !== undefined && this.#believed(key.id))
      .sort((a, b) => (a.state === b.state ? (a.id < b.id ? 1 : -1) : a.state === 'active' ? -1 : 1))
      .map(({ id, publicKey }) => ({ id, publicKey: publicKey! }))
  }

  async rotate(purpose: Purpose, overlapMs: number): Promise<{ readonly id: string }> {
    // With the epoch, so that every node takes the new key up within a second: see refresh.
    const { result: id } = await this.#store.reduce(async (trx) => {
      const now = this.#clock.now()
      await trx.updateTable('keys').set({ state: 'retired' }).where('purpose', '=', purpose).where('retire_at', '<=', now).execute()
      await trx
        .updateTable('keys')
        .set({ state: 'retiring', retire_at: now + overlapMs })
        .where('purpose', '=', purpose)
        .where('state', '=', 'active')
        .execute()
      return this.#make(trx, purpose)
    })
    await this.refresh()
    return { id }
  }

  async refresh(): Promise<void> {
    const rows = await this.#store.db.selectFrom('keys').selectAll().where('state', '!=', 'retired').execute()
    const keys = new Map<string, OpenedKey>()
    for (const row of rows) {
      const known = this.#keys.get(row.id)
      const state = row.state === 'active' ? 'active' : 'retiring'
      const opened = known ?? (await this.#unwrap(row))
      keys.set(row.id, { ...opened, state, retireAt: row.retire_at })
    }
    this.#keys = keys
  }

  async active(purpose: Purpose, wanted: Algorithm = algorithmOf(purpose)): Promise<OpenedKey> {
    if (wanted !== algorithmOf(purpose)) {
      throw new ChaperoneError('internal', 'Something went wrong inside Chaperone.', {
        detail: `a key of the purpose ${purpose} is ${algorithmOf(purpose)}, not ${wanted}`,
      })
    }
    const find = () => [...this.#keys.values()].find((key) => key.purpose === purpose && key.state === 'active')
    const found = find()
    if (found) return found
    await this.#store.write((trx) => this.#make(trx, purpose))
    await this.refresh()
    const made = find()
    if (!made) throw mismatch(`The key of the purpose ${purpose} is not there.`)
    return made
  }

  /** Makes the active key. When another node has just done so, its key stands. */
  async #make(trx: Write, purpose: Purpose): Promise<string> {
    const algorithm = algorithmOf(purpose)
    const id = newId('key', this.#clock.now())
    const { secret, publicKey } = generate(algorithm)
    const wrapped = await this.#rootKey.wrap(secret, wrapContext(id, purpose, algorithm))
    secret.fill(0)
    const row = { id, purpose, algorithm, public_key: publicKey, wrapped, state: 'active', created_at: this.#clock.now(), retire_at: null } as const
    await trx
      .insertInto('keys')
      .values(row)
      .onConflict((is) => is.doNothing())
      .execute()
    const active = await trx.selectFrom('keys').select('id').where('purpose', '=', purpose).where('state', '=', 'active').executeTakeFirstOrThrow()
    return active.id
  }

  async #unwrap(row: { id: string; purpose: string; algorithm: string; wrapped: Uint8Array; public_key: Uint8Array | null }) {
    const plain = Buffer.from(await this.#rootKey.unwrap(row.wrapped, wrapContext(row.id, row.purpose, row.algorithm)))
    const symmetric = row.algorithm === 'aes-256-gcm'
    const secret = symmetric ? createSecretKey(plain) : createPrivateKey({ key: plain, format: 'der', type: 'pkcs8' })
    plain.fill(0)
    // Derived, not read: the stored public half is not authenticated, and whoever can write the table could plant his own.
    return { id: row.id, purpose: row.purpose, secret, publicKey: symmetric ? undefined : createPublicKey(secret) }
  }

  #believed(id: string): OpenedKey | undefined {
    const key = this.#keys.get(id)
    return key && (key.retireAt === null || key.retireAt > this.#clock.now()) ? key : undefined
  }
}

function generate(algorithm: Algorithm): { secret: Buffer; publicKey: Uint8Array | null } {
  if (algorithm === 'aes-256-gcm') return { secret: randomBytes(32), publicKey: null }
  const pair = algorithm === 'ed25519' ? generateKeyPairSync('ed25519') : generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { secret: pair.privateKey.export({ format: 'der', type: 'pkcs8' }), publicKey: pair.publicKey.export({ format: 'der', type: 'spki' }) }
}

/** Neither a purpose nor an id or algorithm of ours holds a space, so no two of them give the same text. */
function wrapContext(id: string, purpose: string, algorithm: string): string {
  return `${id} ${purpose} ${algorithm}`
}

/** The purpose holds no NUL, so where it ends is clear. */
function additional(purpose: Purpose, context: string): Buffer {
  return Buffer.from(`${purpose}\0${context}`)
}

function mismatch(message: string, cause?: unknown): ChaperoneError {
  return new ChaperoneError('key_mismatch', message, { cause })
}
