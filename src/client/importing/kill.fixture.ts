import { existsSync, promises, readFileSync, writeFileSync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import type { ServerWish } from '../../api/mcp-contract.ts'
import type { Catalog } from './bring.ts'
import { type FakeCatalog, knownSecrets } from './computer.fixture.ts'

/** An import as a process of its own, which is killed before its n-th step on the disk or at the server: `node kill.fixture.ts HOME n`. Without n it prints how many there are. */

/** The catalog of a server, in a file: what a killed client has asked for is there. */
export function keptCatalog(file: string): FakeCatalog {
  const read = (): { vault: Record<string, string>; documents: Record<string, ServerWish> } =>
    existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { vault: {}, documents: {} }
  const change = (work: (now: ReturnType<typeof read>) => void) => {
    const now = read()
    work(now)
    writeFileSync(file, JSON.stringify(now))
  }
  return {
    get vault() {
      return new Map(Object.entries(read().vault))
    },
    get documents() {
      return new Map(Object.entries(read().documents))
    },
    get own() {
      return new Set(Object.keys(read().vault))
    },
    visible: async () => Object.keys(read().documents),
    document: async (name) => read().documents[name],
    async secrets() {
      const { vault, documents } = read()
      return knownSecrets(Object.keys(vault), new Set(Object.keys(vault)), Object.values(documents))
    },
    putSecret: async (name, value) => change(({ vault }) => void Object.assign(vault, { [name]: value })),
    deleteSecret: async (name) => change(({ vault }) => void delete vault[name]),
    async add(wish) {
      change(({ documents }) => void Object.assign(documents, { [wish.name]: wish }))
      return true
    },
  }
}

let steps = 0

function killBefore(last: number): void {
  steps++
  if (steps === last) process.kill(process.pid, 'SIGKILL')
}

/** Each of these changes the disk. */
function watch(last: number): void {
  const { open } = promises
  for (const name of ['mkdir', 'rename', 'rm', 'writeFile', 'chmod'] as const) {
    const real = promises[name] as (...args: unknown[]) => Promise<unknown>
    Object.assign(promises, {
      [name]: async (...args: unknown[]) => {
        killBefore(last)
        return real(...args)
      },
    })
  }
  promises.open = async (...args: Parameters<typeof open>): Promise<FileHandle> => {
    killBefore(last)
    const handle = await open(...args)
    const write = handle.writeFile.bind(handle)
    handle.writeFile = async (...what) => {
      killBefore(last)
      return write(...what)
    }
    return handle
  }
  syncBuiltinESMExports()
}

function watched(catalog: Catalog, last: number): Catalog {
  return {
    ...catalog,
    async putSecret(name, value) {
      killBefore(last)
      await catalog.putSecret(name, value)
      killBefore(last)
    },
    async add(wish) {
      killBefore(last)
      const added = await catalog.add(wish)
      killBefore(last)
      return added
    },
  }
}

if (process.argv[1] === import.meta.filename) {
  const [home = '', at = '0'] = process.argv.slice(2)
  const last = Number(at)
  watch(last)
  const { bringAlong, offersOf } = await import('./bring.ts')
  const { findServers } = await import('./find.ts')
  const { openJournals } = await import('./journal.ts')
  const { servers } = await findServers({ home, env: {}, platform: 'linux' }, [])
  const offers = offersOf(servers, { env: {}, exists: () => false })
  const journals = openJournals(`${home}/chaperone`)
  const catalog = watched(keptCatalog(`${home}/server.json`), last)
  await journals.alone(() => bringAlong(offers, { catalog, journals, way: { home: '/h' }, server: 'gw:7443' }))
  process.stdout.write(String(steps))
}
