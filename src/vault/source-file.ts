import { constants } from 'node:fs'
import { open, readdir, realpath, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { LARGEST_VALUE, type Source, textOf, unreadable } from './source.ts'

interface FileSourceParts {
  readonly path: string
  /** What no secret may be taken from, with everything below: the data directory, the root key, the key of the web listener. */
  readonly kept: readonly string[]
}

/** Others could write these bits, or everybody could read them. */
const LOOSE = 0o026

/**
 * A file of the machine. A mounted secret is a chain of symbolic links (Kubernetes), so they are followed; what counts is
 * the file that was opened in the end: whose it is, who else can write it, and that it is none of Chaperone's own.
 */
export function fileSource({ path, kept }: FileSourceParts): Source {
  const place = `the file ${path}`
  return {
    async read() {
      const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: NodeJS.ErrnoException) => {
        throw unreadable(place, error.code === 'ENOENT' ? 'there is none' : 'it cannot be opened', undefined, error.code)
      })
      try {
        const found = await handle.stat()
        if (!found.isFile() || /^\/(proc|sys|dev)\//.test(await realpath(path))) throw unreadable(place, 'it is no ordinary file')
        await assertNotKept(path, found)
        const uid = process.getuid?.()
        if (uid !== undefined) {
          if (found.uid !== uid && found.uid !== 0)
            throw unreadable(place, 'it belongs to another user', `Give it to the user that runs the server: chown`)
          if ((found.mode & LOOSE) !== 0)
            throw unreadable(place, 'others can write it, or everybody can read it', `chmod 600 ${path}   (in Kubernetes: defaultMode: 0440)`)
        }
        if (found.size > LARGEST_VALUE) throw unreadable(place, 'it is over 64 KiB')
        // Bounded by what was asked for, not by what the file says: it may grow.
        const { buffer, bytesRead } = await handle.read(Buffer.alloc(LARGEST_VALUE + 1), 0, LARGEST_VALUE + 1, 0)
        return textOf(buffer.subarray(0, bytesRead), place)
      } finally {
        await handle.close()
      }
    },
  }

  async function assertNotKept(file: string, found: { readonly dev: number; readonly ino: number }): Promise<void> {
    const real = await realpath(file)
    // Whoever may write a folder on the way could turn a link around in between: then the path says nothing of the file that is open.
    const there = await stat(real)
    if (there.dev !== found.dev || there.ino !== found.ino) throw unreadable(place, 'it changed while it was read')
    const own = await identitiesOf(kept)
    // By what it is, not by what it is called: a hard link, and a folder that is mounted a second time, have other names.
    for (let at = real; ; at = dirname(at)) {
      const here = at === real ? found : await stat(at)
      if (own.has(`${here.dev} ${here.ino}`)) throw unreadable(place, "it is one of Chaperone's own files, which no upstream may get")
      if (at === dirname(at)) return
    }
  }
}

/** Of each path, and of what lies in it where it is a folder. */
async function identitiesOf(paths: readonly string[]): Promise<ReadonlySet<string>> {
  const own = new Set<string>()
  const add = async (path: string) => {
    const there = await stat(path).catch(() => undefined)
    if (there) own.add(`${there.dev} ${there.ino}`)
    return there?.isDirectory() === true
  }
  for (const path of paths) {
    if (!(await add(path))) continue
    for (const name of await readdir(path)) await add(join(path, name))
  }
  return own
}
