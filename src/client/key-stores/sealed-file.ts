import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { mkdir, open, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type KeyStore, lost, silent } from './store.ts'

/** `path`: of the file that holds the wrapping key. */
export function sealedFile(path: string): KeyStore {
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
