import { generateKeyPairSync } from 'node:crypto'
import { mkdir, readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { shellWord } from '../../encoding/shell-word.ts'
import { ChaperoneError } from '../../errors.ts'
import { keyLine, newKeyFix } from '../../identity/joining/key-line.ts'
import { profileHome, writePrivately } from '../profile.ts'
import { sharedCredential } from '../shared-credential.ts'
import { lacking, type Obtaining, type Present } from './obtain.ts'
import { privateKey, publicPem, sign, statementOf } from './signing.ts'

/** What a machine that joins by its key keeps: the key, and how often the server said it has joined. A copy of this file is found out. */
export interface KeyFile {
  readonly v: 1
  /** PEM, PKCS #8 */
  readonly key: string
  readonly joins: number
}

/** `<home>/join-keys/<document>.json` */
export const keyFileOf = ({ as, keyFile, env = process.env }: Pick<Obtaining, 'as' | 'keyFile' | 'env'>): string =>
  keyFile ?? join(profileHome(env), 'join-keys', `${as.replace(/[^A-Za-z0-9._-]/g, '_')}.json`)

async function readKeyFile(path: string, as: string): Promise<KeyFile | undefined> {
  let text: string
  try {
    if (process.platform !== 'win32' && ((await stat(path)).mode & 0o077) !== 0)
      throw new ChaperoneError('credential_invalid', `${path} can be read by other users.`, {
        fix: `Run: chmod 600 ${shellWord(path)}. If it was exposed: ${newKeyFix(as)}`,
      })
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    const { v, key, joins } = JSON.parse(text) as KeyFile
    if (v === 1 && typeof key === 'string' && Number.isSafeInteger(joins) && joins >= 0) return { v, key, joins }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  throw new ChaperoneError('credential_invalid', `${path} is not a key file of Chaperone.`, {
    fix: `Name the right one with --key-file. If it is lost: ${newKeyFix(as)}`,
  })
}

/** Makes one where there is none. Returns the public half in PEM. */
export async function ensureKeyFile(path: string, as: string): Promise<{ readonly publicKey: string; readonly made: boolean }> {
  const there = await readKeyFile(path, as)
  if (there) return { publicKey: publicPem(privateKey(there.key)), made: false }
  const key = generateKeyPairSync('ed25519').privateKey
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  await writePrivately(path, `${JSON.stringify({ v: 1, key: key.export({ type: 'pkcs8', format: 'pem' }), joins: 0 })}\n`)
  return { publicKey: publicPem(key), made: true }
}

/** One process of this machine at a time: two that brought the same count would look like two machines. */
export const presentBoundKey: Present = async (ask, show) => {
  const path = keyFileOf(ask)
  if ((await readKeyFile(path, ask.as)) === undefined) {
    if (ask.register === undefined)
      throw lacking(
        `There is no key file ${path}.`,
        `The first time a join token makes a key known: an administrator prints the line with \`${keyLine(ask.as)}\`. Where the key is elsewhere: --key-file.`,
      )
    await ensureKeyFile(path, ask.as)
  }
  return await sharedCredential(path).exclusively(async () => {
    const held = (await readKeyFile(path, ask.as))!
    const key = privateKey(held.key)
    const signed = await sign(await statementOf(ask, held.joins), key)
    const credential = await show({ key: publicPem(key), signed, ...(ask.register === undefined ? {} : { register: ask.register }) })
    // On disk before the credential is used: whoever uses it and forgets that it was counted would look like a copy the next time.
    if (credential.joins !== undefined) await writePrivately(path, `${JSON.stringify({ ...held, joins: credential.joins })}\n`)
    return credential
  })
}
