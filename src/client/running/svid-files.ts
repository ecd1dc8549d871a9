import { randomBytes } from 'node:crypto'
import { mkdir, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Held } from '../credential.ts'

/** The names that programs written for SPIFFE look for (spiffe-helper's own defaults). */
export const SVID_FILES = { certificate: 'svid.pem', key: 'svid_key.pem', bundle: 'bundle.pem' } as const

/**
 * The credential as files: certificate, key, and the authorities of this trust domain. All three change at once, by a link that is
 * put in place of another (as Kubernetes does it with its secrets): a program that opens them never finds a key beside the
 * certificate of another.
 */
export async function writeSvid(folder: string, { key, certificate, profile }: Pick<Held, 'key' | 'certificate' | 'profile'>): Promise<void> {
  const first = await mkdir(folder, { recursive: true, mode: 0o700 })
  const data = `.data-${randomBytes(6).toString('hex')}`
  const old = await readlink(join(folder, '..data')).catch(() => undefined)
  await mkdir(join(folder, data), { mode: 0o700 })
  const texts = {
    [SVID_FILES.certificate]: certificate,
    [SVID_FILES.key]: key,
    // Whoever reads it checks identities (of others with an SVID) and the server; one file holds both kinds of authority.
    [SVID_FILES.bundle]: `${profile.bundles.identity.trimEnd()}\n${profile.bundles.server.trimEnd()}\n`,
  }
  for (const [name, text] of Object.entries(texts)) await writeFile(join(folder, data, name), text, { mode: 0o600 })
  const beside = join(folder, `..data-${randomBytes(6).toString('hex')}`)
  await symlink(data, beside)
  await rename(beside, join(folder, '..data'))
  if (first !== undefined || old === undefined)
    for (const name of Object.keys(texts)) {
      await rm(join(folder, name), { force: true })
      await symlink(join('..data', name), join(folder, name))
    }
  if (old !== undefined) await rm(join(folder, old), { recursive: true, force: true })
}
