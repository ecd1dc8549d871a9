import { spawn } from 'node:child_process'
import { createCipheriv, createDecipheriv, createPrivateKey, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, open, readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { ChaperoneError } from '../errors.ts'

/**
 * Where a person's private key lies on his own machine.
 *
 *   secret-service  GNOME Keyring, KWallet and others, by `secret-tool`: encrypted under the login password, open while he is logged in
 *   keychain        macOS, by `security`: the same
 *   file            in the profile, encrypted with a key in another file of his. That keeps a profile that is copied alone (into a
 *                   ticket, a backup of the configuration) from being worth anything. Whoever reads all his files reads both.
 *
 * None of them keeps a program away that runs as the same user: see SECURITY.md.
 */
export type KeyPlace = 'secret-service' | 'keychain' | 'file'

export interface KeyStore {
  readonly place: KeyPlace
  /** In words, for `chaperone doctor`. */
  readonly says: string
  /** Keeps a key (PEM, PKCS #8) of this address. Returns what the profile must keep of it. */
  put(address: string, key: string): Promise<KeptKey>
  /** Throws `credential_invalid` when it is not there (any more), `unavailable_here` when the store does not answer. */
  get(address: string, kept: KeptKey): Promise<string>
  remove(address: string): Promise<void>
}

/** In the profile, in the place of the key. */
export interface KeptKey {
  readonly in: KeyPlace
  /** `file`: base64url of nonce, tag and ciphertext */
  readonly sealed?: string
}

/** Runs a program with this on its standard input, never in its arguments: those every user of the machine can read. */
export type RunProgram = (
  program: string,
  args: readonly string[],
  input: string,
) => Promise<{ readonly status: number | null; readonly stdout: string }>

/** The desktop may ask its user to unlock the key store meanwhile. */
const UNLOCK_MS = 120_000
const MOST_OUTPUT = 64 * 1024

export const runProgram: RunProgram = (program, args, input) =>
  new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'] })
    // Not spawn's own `timeout`: that keeps the process waiting for it when the program could not be started at all (measured).
    const patience = setTimeout(() => child.kill(), UNLOCK_MS)
    let stdout = ''
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk
      if (stdout.length > MOST_OUTPUT) child.kill()
    })
    child.once('error', (error) => {
      clearTimeout(patience)
      reject(error)
    })
    child.once('close', (status) => {
      clearTimeout(patience)
      resolve({ status, stdout })
    })
    // A program that ends without reading is told by its status.
    child.stdin.on('error', () => {})
    child.stdin.end(input)
  })

const lost = (address: string) =>
  new ChaperoneError('credential_invalid', `The key of ${address} is not in the key store of this machine any more.`, {
    fix: 'Sign in again: chaperone login with an invitation, or chaperone login --device.',
  })
const silent = (what: string, cause?: unknown) =>
  new ChaperoneError('unavailable_here', `${what} does not answer.`, {
    fix: 'Unlock it and try again; or keep keys in files: CHAPERONE_KEY_STORE=file',
    ...(cause === undefined ? {} : { cause }),
  })

/** One line of text instead of PEM: `security` shows what has several lines as hex. */
const toLine = (pem: string): string => createPrivateKey(pem).export({ type: 'pkcs8', format: 'der' }).toString('base64url')
function fromLine(address: string, text: string): string {
  try {
    return createPrivateKey({ key: Buffer.from(text.trim(), 'base64url'), type: 'pkcs8', format: 'der' }).export({
      type: 'pkcs8',
      format: 'pem',
    }) as string
  } catch {
    throw lost(address)
  }
}

/** It stands in a line that `security` reads, in quotes. */
function assertAddress(address: string): void {
  if (!/^[A-Za-z0-9.:[\]-]{1,300}$/.test(address)) throw new ChaperoneError('usage', 'This is not an address.')
}

export function secretService(run: RunProgram = runProgram): KeyStore {
  const attributes = (address: string) => ['service', 'chaperone', 'server', address]
  const ask = (args: readonly string[], input = '') =>
    run('secret-tool', args, input).catch((error: unknown) => {
      throw silent('The key store of the desktop (Secret Service)', error)
    })
  return {
    place: 'secret-service',
    says: 'in the key store of the desktop (Secret Service)',
    async put(address, key) {
      assertAddress(address)
      const { status } = await ask(['store', `--label=Chaperone ${address}`, ...attributes(address)], toLine(key))
      if (status !== 0) throw silent('The key store of the desktop (Secret Service)')
      return { in: 'secret-service' }
    },
    async get(address) {
      const { status, stdout } = await ask(['lookup', ...attributes(address)])
      if (status !== 0 || stdout === '') throw lost(address)
      return fromLine(address, stdout)
    },
    async remove(address) {
      await ask(['clear', ...attributes(address)])
    },
  }
}

export function keychain(run: RunProgram = runProgram): KeyStore {
  const ask = (args: readonly string[], input = '') =>
    run('/usr/bin/security', args, input).catch((error: unknown) => {
      throw silent('The keychain', error)
    })
  const find = (address: string) => ask(['find-generic-password', '-a', address, '-s', 'chaperone', '-w'])
  return {
    place: 'keychain',
    says: 'in the keychain',
    async put(address, key) {
      assertAddress(address)
      const line = toLine(key)
      // `-i` reads commands from standard input. Its own status says nothing of them, so the key is read back.
      await ask(['-i'], `add-generic-password -U -a "${address}" -s "chaperone" -l "Chaperone ${address}" -X ${Buffer.from(line).toString('hex')}\n`)
      const { status, stdout } = await find(address)
      if (status !== 0 || stdout.trim() !== line) throw silent('The keychain')
      return { in: 'keychain' }
    },
    async get(address) {
      const { status, stdout } = await find(address)
      if (status !== 0) throw lost(address)
      return fromLine(address, stdout)
    },
    async remove(address) {
      await ask(['delete-generic-password', '-a', address, '-s', 'chaperone'])
    },
  }
}

/** `path`: of the file that holds the wrapping key. */
export function keyFile(path: string): KeyStore {
  async function wrapping(make: boolean): Promise<Buffer | undefined> {
    const there = await readFile(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    if (there || !make) return there
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    try {
      const file = await open(path, 'wx', 0o600)
      try {
        await file.writeFile(randomBytes(32))
        await file.sync()
      } finally {
        await file.close()
      }
    } catch (error) {
      // Another process has just made it.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    return readFile(path)
  }

  return {
    place: 'file',
    says: `in the profile, encrypted; what opens it is in ${path}`,
    async put(address, key) {
      const secret = await wrapping(true)
      if (secret?.length !== 32) throw silent(`The file ${path}`)
      const nonce = randomBytes(12)
      const cipher = createCipheriv('aes-256-gcm', secret, nonce).setAAD(Buffer.from(address))
      const text = Buffer.concat([cipher.update(key, 'utf8'), cipher.final()])
      return { in: 'file', sealed: Buffer.concat([nonce, cipher.getAuthTag(), text]).toString('base64url') }
    },
    async get(address, { sealed }) {
      const secret = await wrapping(false)
      if (secret?.length !== 32 || sealed === undefined) throw lost(address)
      const bytes = Buffer.from(sealed, 'base64url')
      try {
        const cipher = createDecipheriv('aes-256-gcm', secret, bytes.subarray(0, 12), { authTagLength: 16 })
          .setAAD(Buffer.from(address))
          .setAuthTag(bytes.subarray(12, 28))
        return Buffer.concat([cipher.update(bytes.subarray(28)), cipher.final()]).toString('utf8')
      } catch {
        throw lost(address)
      }
    },
    async remove() {},
  }
}

export interface Surroundings {
  readonly env?: NodeJS.ProcessEnv
  readonly platform?: NodeJS.Platform
  readonly run?: RunProgram
  readonly has?: (path: string) => boolean
}

/**
 * The key stores that profiles in `home` may use: the first is where new keys go. With a home that was named (`CHAPERONE_HOME`, a test,
 * the demo) everything stays in it.
 */
export function keyStores(
  home: string,
  named: boolean,
  { env = process.env, platform = process.platform, run, has = existsSync }: Surroundings = {},
): readonly KeyStore[] {
  const file = keyFile(
    named ? join(home, 'wrapping-key') : join(env.XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'chaperone', 'wrapping-key'),
  )
  const onPath = (program: string) => (env.PATH ?? '').split(delimiter).some((folder) => folder !== '' && has(join(folder, program)))
  const desktop = secretService(run)
  const mac = keychain(run)
  const wish = env.CHAPERONE_KEY_STORE
  if (wish !== undefined && wish !== '' && ![desktop, mac, file].some(({ place }) => place === wish))
    throw new ChaperoneError('usage', `CHAPERONE_KEY_STORE is none of secret-service, keychain, file.`)
  const best =
    wish !== undefined && wish !== ''
      ? wish
      : named
        ? 'file'
        : platform === 'darwin' && has('/usr/bin/security')
          ? 'keychain'
          : platform === 'linux' && env.DBUS_SESSION_BUS_ADDRESS && onPath('secret-tool')
            ? 'secret-service'
            : 'file'
  const all = [desktop, mac, file]
  return [...all.filter(({ place }) => place === best), ...all.filter(({ place }) => place !== best)]
}
