import { existsSync } from 'node:fs'
import { toChaperoneError } from '../../errors.ts'
import { isOurs } from '../config/entries.ts'
import { backupsOf, leftovers, readClientFile } from '../config/file.ts'
import { type Source, sources } from '../config/forms.ts'
import type { Place } from '../config/types.ts'
import { type FoundSecret, secretsIn } from './secrets.ts'

/** A server that some client on this computer has. */
export interface FoundServer {
  readonly source: Source
  readonly at: readonly string[]
  readonly name: string
  readonly value: unknown
  /** It goes through Chaperone already. */
  readonly ours: boolean
  readonly secrets: readonly FoundSecret[]
  /** A copy that was made before a change, or what was left when one of us was killed: no client reads it, but what stands in it is still there. */
  readonly copy?: true
}

export interface Found {
  readonly servers: readonly FoundServer[]
  /** files that are there and cannot be read */
  readonly faults: readonly { readonly file: string; readonly message: string }[]
  /** how many files were there */
  readonly files: number
}

/** All servers in the files of all clients, and in our own copies of those files. Reads, and changes nothing. */
export async function findServers(place: Place, projects: readonly string[], web?: string): Promise<Found> {
  const servers: FoundServer[] = []
  const faults: { file: string; message: string }[] = []
  const seen = new Set<string>()
  let files = 0
  const look = async (source: Source, copy: boolean): Promise<void> => {
    try {
      const { file, text, absent } = await readClientFile(source.file, source.project)
      if (absent || seen.has(file)) return
      seen.add(file)
      files++
      for (const { at, name, value } of source.format.list(text))
        servers.push({
          source: { ...source, file },
          at,
          name,
          value,
          ours: isOurs(value, web),
          secrets: secretsIn(value),
          ...(copy ? { copy: true as const } : {}),
        })
      if (!copy) for (const backup of [...(await backupsOf(file)), ...(await leftovers(file))]) await look({ ...source, file: backup }, true)
    } catch (cause) {
      if (existsSync(source.file)) faults.push({ file: source.file, message: toChaperoneError(cause).message })
    }
  }
  for (const source of sources(place, projects)) await look(source, false)
  return { servers, faults, files }
}
