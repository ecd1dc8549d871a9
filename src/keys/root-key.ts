import { type Argon2Parameters, argon2, createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from 'node:crypto'
import { link, mkdir, open, readFile, realpath, rm, stat } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { promisify } from 'node:util'
import { ChaperoneError } from '../errors.ts'
import type { Store } from '../store/store.ts'
import type { RootKey } from './types.ts'

export interface RootKeyOptions {
  /** The salt of a passphrase lies here; and whether it is new decides if a key may be made. */
  readonly store: Store
  /** 32 random bytes as base64, a file that only its owner can read. */
  readonly file?: string
  /** $CREDENTIALS_DIRECTORY of systemd, used when no file is named and it holds `chaperone-root-key`. */
  readonly credentialsDirectory?: string
  /** A file with a passphrase, from which the key is derived. */
  readonly passphraseFile?: string
  /** Where the key is when nothing else is named; made there on the first start, never later. */
  readonly createAt?: string
  /** The key must not lie in here: a copy of the data directory would open itself. */
  readonly dataDir?: string
}

/** The name of the root key among the credentials of systemd. */
export const ROOT_CREDENTIAL = 'chaperone-root-key'
const SHORTEST_PASSPHRASE = 12
const LARGEST_FILE = 4096
/** RFC 9106 section 4, second recommended option, in one lane: 64 MiB, 3 passes. About 0.2 s. */
const ARGON2 = { parallelism: 1, tagLength: 32, memory: 65_536, passes: 3 } as const

/** The meta row that shows which root key the store belongs to; keyring.ts writes it. */
export const ROOT_KEY_CHECK = 'root_key_check'
const SALT = 'root_key_salt'

/** Throws ChaperoneError('key_mismatch') with what to do when there is no key, or one that cannot be trusted. */
export async function loadRootKey(options: RootKeyOptions): Promise<RootKey> {
  const { file, passphraseFile, createAt, dataDir } = options
  if (file !== undefined && passphraseFile !== undefined) {
    throw new ChaperoneError('usage', 'A root key file and a passphrase were both given.', { fix: 'Give one of them.' })
  }
  for (const path of [file, passphraseFile, createAt]) if (path !== undefined && dataDir !== undefined) await refuseInside(dataDir, path)

  if (passphraseFile !== undefined) return fromPassphrase(passphraseFile, options.store)
  if (file !== undefined) return fromFile(file)
  const credential = options.credentialsDirectory && join(options.credentialsDirectory, ROOT_CREDENTIAL)
  if (credential && (await exists(credential))) return fromFile(credential)
  if (createAt === undefined) throw unusable('No root key was given.', 'Name a file with --root-key.')
  if (!(await exists(createAt))) await create(createAt, options.store)
  return fromFile(createAt)
}

async function fromFile(path: string): Promise<RootKey> {
  const text = await readPrivate(path)
  const key = Buffer.from(text.trim(), 'base64')
  if (key.length !== 32 || key.toString('base64').replace(/=+$/, '') !== text.trim().replace(/=+$/, '')) {
    throw unusable(`${path} does not hold a root key.`, 'It must be 32 random bytes as base64; "openssl rand -base64 32" makes one.')
  }
  return rootKeyOf(key, `file:${path}`)
}

async function fromPassphrase(path: string, store: Store): Promise<RootKey> {
  const passphrase = (await readPrivate(path)).replace(/\r?\n$/, '')
  if (passphrase.length < SHORTEST_PASSPHRASE) {
    throw unusable(`The passphrase in ${path} is too short.`, `Use at least ${SHORTEST_PASSPHRASE} characters, better five random words.`)
  }
  const parameters: Argon2Parameters = { ...ARGON2, message: passphrase, nonce: await salt(store) }
  return rootKeyOf(await promisify(argon2)('argon2id', parameters), `passphrase:${path}`)
}

/** Two nodes that start at once agree on the first that was stored. */
async function salt(store: Store): Promise<Buffer> {
  await store.db
    .insertInto('meta')
    .values({ key: SALT, value: randomBytes(16).toString('base64') })
    .onConflict((is) => is.column('key').doNothing())
    .execute()
  const { value } = await store.db.selectFrom('meta').select('value').where('key', '=', SALT).executeTakeFirstOrThrow()
  return Buffer.from(value, 'base64')
}

async function create(path: string, store: Store): Promise<void> {
  const used = await store.db.selectFrom('meta').select('key').where('key', '=', ROOT_KEY_CHECK).executeTakeFirst()
  // Another process made both since we looked for the file.
  if (used && (await exists(path))) return
  // A new key would open nothing of what is there, so a lost file is never quietly replaced.
  if (used)
    throw unusable(`The root key of this store is missing: ${path} is not there.`, 'Put the key back, or name the file it is in with --root-key.')
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  // Whole or not there at all: another process may look for it at any moment, and a link is never made over what exists.
  const draft = `${path}.${randomBytes(8).toString('hex')}`
  const refused = (cause: unknown) => unusable(`The root key cannot be written to ${path}.`, 'Name another place with --root-key.', cause)
  try {
    const file = await open(draft, 'wx', 0o600)
    try {
      await file.writeFile(`${randomBytes(32).toString('base64')}\n`)
      await file.sync() // what the key wraps is durable at once, so the key must be
    } finally {
      await file.close()
    }
    await link(draft, path).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'EEXIST') throw cause // else another process was quicker
    })
  } catch (cause) {
    throw refused(cause)
  } finally {
    await rm(draft, { force: true })
  }
  const directory = await open(dirname(path), 'r')
  await directory.sync().finally(() => directory.close())
}

async function readPrivate(path: string): Promise<string> {
  const found = await stat(path).catch((cause) => {
    throw unusable(`${path} cannot be read.`, 'Check the path and its permissions.', cause)
  })
  if (!found.isFile() || found.size > LARGEST_FILE) throw unusable(`${path} is not a key file.`, 'Check the path.')
  const us = process.geteuid?.()
  if ((found.mode & 0o077) !== 0) {
    throw unusable(`Other users may read ${path} (mode ${(found.mode & 0o777).toString(8)}).`, `Run: chmod 600 ${path}`)
  }
  if (found.uid !== us && found.uid !== 0) throw unusable(`${path} belongs to another user.`, 'It must belong to the user Chaperone runs as.')
  return readFile(path, 'utf8').catch((cause) => {
    throw unusable(`${path} cannot be read.`, 'Check its permissions.', cause)
  })
}

async function refuseInside(directory: string, path: string): Promise<void> {
  const way = relative(await real(directory), await real(path))
  if (way === '' || (!way.startsWith('..') && resolve(way) !== way)) {
    throw unusable(
      `The root key ${path} lies inside the data directory.`,
      'Keep it elsewhere: whoever copies the directory must not get its key too.',
    )
  }
}

/** With links followed, as far as the path exists. */
async function real(path: string): Promise<string> {
  const absolute = resolve(path)
  const parent = dirname(absolute)
  if (parent === absolute) return absolute
  return realpath(absolute).catch(async () => join(await real(parent), relative(parent, absolute)))
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw unusable(`${path} cannot be looked at.`, 'Check the permissions of the directories above it.', error)
    },
  )
}

const NONCE = 12
const TAG = 16

/** AES-256-GCM with the context as additional data. Takes `bytes` over and wipes them. */
function rootKeyOf(bytes: Buffer, source: string): RootKey {
  const key: KeyObject = createSecretKey(bytes)
  bytes.fill(0)
  return {
    source,
    async wrap(plain, context) {
      const nonce = randomBytes(NONCE)
      const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(context))
      return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
    },
    async unwrap(wrapped, context) {
      try {
        const nonce = wrapped.subarray(0, NONCE)
        const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG }).setAAD(Buffer.from(context))
        decipher.setAuthTag(wrapped.subarray(Math.max(NONCE, wrapped.length - TAG)))
        return Buffer.concat([decipher.update(wrapped.subarray(NONCE, Math.max(NONCE, wrapped.length - TAG))), decipher.final()])
      } catch (cause) {
        throw unusable(`The root key from ${source} does not open this store.`, 'Start with the key that the store was made with.', cause)
      }
    },
  }
}

function unusable(message: string, fix: string, cause?: unknown): ChaperoneError {
  return new ChaperoneError('key_mismatch', message, { fix, cause, ...(cause instanceof Error && { detail: cause.message }) })
}
