import { randomBytes } from 'node:crypto'
import { chmod, type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Credential } from '../api/contract.ts'
import { shellWord } from '../encoding/shell-word.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { keyStores } from './key-stores/choose.ts'
import type { KeptKey, KeyStore } from './key-stores/store.ts'

/**
 * What one person or agent keeps on its own machine about one Chaperone server. The private key was made here and never
 * leaves this file; the file is readable by its owner only.
 */
export interface Profile {
  readonly v: 1
  /** host:port of the mTLS listener; also the profile's name */
  readonly address: string
  readonly trustDomain: string
  readonly identity: Credential['identity']
  readonly session: string
  /** PEM, PKCS #8; in the file of a person's profile empty, and `keptKey` says where it is */
  readonly key: string
  readonly keptKey?: KeptKey
  /** PEM, leaf only; empty after signing out */
  readonly certificate: string
  /** ms since 1970 */
  readonly notAfter: number
  readonly sessionUntil: number
  readonly bundles: Credential['bundles']
  readonly listeners: Credential['listeners']
}

/** The shape by example. Not zod: loading it takes longer (46 ms) than the whole start of the shim without it. */
const EXAMPLE: Profile = {
  v: 1,
  address: '',
  trustDomain: '',
  identity: { id: '', name: '', kind: '' },
  session: '',
  key: '',
  certificate: '',
  notAfter: 0,
  sessionUntil: 0,
  bundles: { trustDomain: '', identity: '', server: '' },
  listeners: { data: '', web: '', postgres: '' },
}

function isLike(value: unknown, example: unknown): boolean {
  if (typeof example !== 'object' || example === null) return typeof value === typeof example
  if (typeof value !== 'object' || value === null) return false
  return Object.entries(example).every(([key, part]) => Object.hasOwn(value, key) && isLike((value as Record<string, unknown>)[key], part))
}

const FOLDER_MODE = 0o700
const FILE_MODE = 0o600
const BIGGEST_PROFILE = 256 * 1024

/** `$CHAPERONE_HOME`, else what the platform uses for the configuration of an application. */
export function profileHome(env: NodeJS.ProcessEnv = process.env, platform: NodeJS.Platform = process.platform, given?: string): string {
  if (env.CHAPERONE_HOME) return env.CHAPERONE_HOME
  // Only where it is needed: a user without a name, as containers have them, may have none.
  const home = given ?? homedir()
  if (platform === 'darwin') return join(home, 'Library', 'Application Support', 'chaperone')
  if (platform === 'win32') return join(env.APPDATA ?? join(home, 'AppData', 'Roaming'), 'chaperone')
  return join(env.XDG_CONFIG_HOME || join(home, '.config'), 'chaperone')
}

/** A file name that no address can leave the folder with. */
const fileName = (address: string) => `${address.replace(/[^A-Za-z0-9.-]/g, '_')}.json`

/** The profile that a credential makes, with the key it was asked for. */
export function profileOf(address: string, key: string, credential: Credential): Profile {
  const { identity, session, certificate, notAfter, sessionUntil, bundles, listeners } = credential
  return { v: 1, address, trustDomain: bundles.trustDomain, identity, session, key, certificate, notAfter, sessionUntil, bundles, listeners }
}

/** Where one of the listeners is; an empty host means the host that this profile already uses. */
export function listenerOf(profile: Profile, which: 'data' | 'web' | 'postgres'): { readonly host: string; readonly port: number } {
  const own = splitAddress(profile.address)
  const text = profile.listeners[which] || profile.address
  const at = text.lastIndexOf(':')
  return { host: text.slice(0, at).replace(/^\[|\]$/g, '') || own.host, port: Number(text.slice(at + 1)) }
}

export function splitAddress(address: string): { readonly host: string; readonly port: number } {
  const match = /^(\[[0-9a-fA-F:]+\]|[^\s:/@]+):(\d{1,5})$/.exec(address)
  const port = Number(match?.[2])
  if (!match || port < 1 || port > 65535) {
    throw new ChaperoneError('usage', `${JSON.stringify(address)} is not an address.`, {
      fix: 'Write HOST:PORT, for example chaperone.example.com:7443.',
    })
  }
  return { host: match[1]!.replace(/^\[|\]$/g, ''), port }
}

async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: FOLDER_MODE })
  // An older, wider folder is narrowed: everything in it is ours.
  if (process.platform !== 'win32') await chmod(path, FOLDER_MODE)
}

export interface Written {
  readonly mode?: number
  /** id of the group that the file belongs to; default: of the one who writes */
  readonly group?: number
  /** Done to the file beside it while that is empty and ours alone; whatever it holds then is written over. */
  readonly prepare?: (beside: string) => Promise<unknown>
  /** Asked last of all. False: nothing is changed. */
  readonly still?: () => Promise<boolean>
}

/** Whole or not at all, also after a power cut: written beside, forced to disk, renamed. Resolves with whether it is there. */
export async function writePrivately(
  path: string,
  text: string,
  { mode = FILE_MODE, group, prepare, still = async () => true }: Written = {},
): Promise<boolean> {
  const beside = `${path}.${randomBytes(6).toString('hex')}.tmp`
  let there = false
  try {
    const file = await open(beside, 'wx', FILE_MODE)
    try {
      await prepare?.(beside)
      if (prepare) await file.truncate()
      await file.writeFile(text)
      const kept = group === undefined || (await givenTo(file, group))
      // Said again: of the mode that a file is opened with, the umask takes away. Another group gets nothing that this one had.
      if (mode !== FILE_MODE) await file.chmod(kept ? mode : mode & ~0o070)
      await file.sync()
    } finally {
      await file.close()
    }
    if (await still()) {
      await rename(beside, path)
      there = true
    }
  } finally {
    // What could not be written whole may hold half a secret.
    if (!there) await rm(beside, { force: true })
  }
  return there
}

async function givenTo(file: FileHandle, group: number): Promise<boolean> {
  const { uid, gid } = await file.stat()
  if (gid === group) return true
  return file.chown(uid, group).then(
    () => true,
    () => false,
  )
}

/** A home that was named keeps all of itself: tests and the demo put nothing into anybody's key store. */
const storesAt = (home: string): readonly KeyStore[] => keyStores(home, home !== usualHome())

function usualHome(): string | undefined {
  try {
    return profileHome({ ...process.env, CHAPERONE_HOME: '' })
  } catch {
    // Whoever has no home folder has named one.
    return undefined
  }
}

/** Reads a profile from any file, for example one that `chaperone issue --out` wrote, with its key from wherever that is. */
export async function readProfile(path: string, stores?: readonly KeyStore[]): Promise<Profile> {
  const { keptKey, ...profile } = await readWritten(path)
  if (keptKey === undefined) return profile
  return { ...profile, key: await storeOf(stores ?? storesAt(dirname(dirname(path))), keptKey).get(profile.address, keptKey) }
}

function storeOf(stores: readonly KeyStore[], kept: KeptKey): KeyStore {
  const found = stores.find(({ place }) => place === kept.in)
  if (!found) throw new ChaperoneError('credential_invalid', 'The profile names a key store that is not known.')
  return found
}

/** The file as it was written: a person's key may be elsewhere. */
async function readWritten(path: string): Promise<Profile> {
  const about = await stat(path)
  // The same refusal as ssh: a key that others can read is no longer only ours.
  if (process.platform !== 'win32' && (about.mode & 0o077) !== 0) {
    throw new ChaperoneError('credential_invalid', `${path} can be read by other users.`, {
      fix: `Run: chmod 600 ${shellWord(path)}, and sign in again if it was exposed.`,
    })
  }
  if (about.size > BIGGEST_PROFILE) throw new ChaperoneError('credential_invalid', `${path} is not a profile of Chaperone.`)
  let value: unknown
  try {
    value = JSON.parse(await readFile(path, 'utf8'))
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause
  }
  if (!isLike(value, EXAMPLE) || (value as Profile).v !== 1) {
    throw new ChaperoneError('credential_invalid', `${path} is not a profile of Chaperone.`, { fix: 'Sign in again with `chaperone login`.' })
  }
  return value as Profile
}

export interface Profiles {
  readonly home: string
  /** The profile of this address, or of the server that was used last. Throws `unauthenticated` when there is none. */
  load(address?: string): Promise<Profile>
  /**
   * Saves it; the first one, and every one saved with `use`, becomes the one that is used when no address is given. Resolves to why the
   * key is not in the key store of the machine, where that did not take it.
   */
  save(profile: Profile, options?: { readonly use?: boolean }): Promise<ChaperoneError | undefined>
  remove(address: string): Promise<void>
  /** Where the profile of this address is kept. */
  file(address: string): string
  /** Without their keys. */
  list(): Promise<readonly Profile[]>
  /** In words, where the key of this profile is. */
  keyIs(address: string): Promise<string>
  /** Address of the server used when none is named. */
  current(): Promise<string | undefined>
}

const absent = (error: unknown) => (error as NodeJS.ErrnoException).code === 'ENOENT'

/**
 * A person's key lies in the key store of the machine, else encrypted (see key-stores/); an agent's in its profile, which is all that a
 * container has.
 */
export function openProfiles(given?: string, stores?: readonly KeyStore[]): Profiles {
  const home = given ?? profileHome()
  const keys = () => stores ?? storesAt(home)
  const folder = join(home, 'profiles')
  const pointer = join(home, 'current')

  const current = async () => {
    try {
      return (await readFile(pointer, 'utf8')).trim() || undefined
    } catch (error) {
      if (absent(error)) return undefined
      throw error
    }
  }

  const file = (address: string) => join(folder, fileName(address))

  /** The key first: a profile that names a key which is nowhere would be worth nothing. */
  async function write(profile: Profile): Promise<ChaperoneError | undefined> {
    const { keptKey: _, ...rest } = profile
    const { kept, why } = profile.identity.kind === 'user' && profile.key !== '' ? await keep(profile) : {}
    const written: Profile = kept ? { ...rest, key: '', keptKey: kept } : profile
    await writePrivately(file(profile.address), `${JSON.stringify(written, null, 2)}\n`)
    return why
  }

  async function keep({ address, key }: Profile): Promise<{ readonly kept?: KeptKey; readonly why?: ChaperoneError }> {
    const [best, ...others] = keys()
    try {
      return { kept: await best!.put(address, key) }
    } catch (error) {
      // A desktop that is locked, or has no key store after all, must keep nobody from signing in. He is told.
      const file = others.find(({ place }) => place === 'file')
      if (!file || process.env.CHAPERONE_KEY_STORE) throw error
      return { kept: await file.put(address, key), why: toChaperoneError(error) }
    }
  }

  return {
    home,
    current,
    file,
    async load(address) {
      const wanted = address ?? (await current())
      const fix =
        'Sign in with: chaperone login <invitation>. `chaperone up` prints the first one, an administrator makes others: chaperone invite NAME'
      if (wanted === undefined) throw new ChaperoneError('unauthenticated', 'You are not signed in.', { fix })
      try {
        const profile = await readProfile(file(wanted), keys())
        // Written before keys were kept elsewhere. A folder that cannot be written is no reason not to work.
        if (profile.identity.kind === 'user' && (await readWritten(file(wanted))).key !== '') await write(profile).catch(() => {})
        return profile
      } catch (error) {
        if (absent(error)) throw new ChaperoneError('unauthenticated', `You are not signed in to ${wanted}.`, { fix })
        throw error
      }
    },
    async save(profile, options = {}) {
      await makeFolder(home)
      await makeFolder(folder)
      const why = await write(profile)
      if (options.use || (await current()) === undefined) await writePrivately(pointer, `${profile.address}\n`)
      return why
    },
    async remove(address) {
      const there = await readWritten(file(address)).catch(() => undefined)
      if (there?.keptKey) await storeOf(keys(), there.keptKey).remove(address)
      await rm(file(address), { force: true })
      if ((await current()) === address) await rm(pointer, { force: true })
    },
    async keyIs(address) {
      const { keptKey } = await readWritten(file(address))
      return keptKey === undefined ? `in the profile, ${file(address)}` : storeOf(keys(), keptKey).says
    },
    async list() {
      try {
        const names = (await readdir(folder)).filter((name) => name.endsWith('.json')).sort()
        return await Promise.all(names.map((name) => readWritten(join(folder, name))))
      } catch (error) {
        if (absent(error)) return []
        throw error
      }
    },
  }
}
