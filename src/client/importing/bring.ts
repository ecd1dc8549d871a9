import { createHash } from 'node:crypto'
import { readFile, rm } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import type { ServerWish } from '../../api/mcp-contract.ts'
import { type Clock, systemClock } from '../../clock.ts'
import { ChaperoneError, toChaperoneError } from '../../errors.ts'
import { entryFor, isOurs, type WayIn } from '../config/entries.ts'
import { assertEditable, backupsOf, type Edited, editClientFile } from '../config/file.ts'
import { FORMS } from '../config/forms.ts'
import type { FoundServer } from './find.ts'
import type { ChangedFile, Journal, Journals } from './journal.ts'
import { secretsIn } from './secrets.ts'
import { type Cannot, catalogName, type Wish, wishOf } from './wish.ts'

/** A server to bring along: one in the catalog, wherever it stands on this computer. */
export interface Offer {
  readonly name: string
  readonly found: readonly FoundServer[]
  readonly is: Wish | Cannot
}

/** What is known of a secret that Chaperone has: never what it is. */
export interface KnownSecret {
  readonly name: string
  /** Whoever brings along was the last who set it. */
  readonly own: boolean
  /** A document names it. */
  readonly used: boolean
}

/** What Chaperone does for an import; the API, or a fake of it. */
export interface Catalog {
  /** Names of servers in the catalog that this person may use. */
  visible(): Promise<readonly string[]>
  /** What the catalog has under this name; undefined: nothing, as far as one may know. */
  document(name: string): Promise<{ readonly spec: Readonly<Record<string, unknown>> } | undefined>
  secrets(): Promise<readonly KnownSecret[]>
  putSecret(name: string, value: string): Promise<void>
  /** Throws `conflict` while a document names it. */
  deleteSecret(name: string): Promise<void>
  /** Looks at it, shows it, and applies it; false: the person does not want it after all. */
  add(wish: ServerWish): Promise<boolean>
}

/** One offer for each server, however many clients have it: the same command or address with the same values is the same. */
export function offersOf(
  servers: readonly FoundServer[],
  here: { readonly env: NodeJS.ProcessEnv; readonly exists: (path: string) => boolean },
): readonly Offer[] {
  const offers: { name: string; found: FoundServer[]; is: Wish | Cannot }[] = []
  for (const server of servers) {
    if (server.ours || server.copy) continue
    const own = catalogName(server.name)
    let name = own
    for (let i = 2; ; i++) {
      // A repository may bring any file: what it names of this computer's environment is not handed out to the address beside it.
      const is = wishOf(name, server.value, server.source.project === undefined ? here : { ...here, env: {} })
      const there = offers.find((offer) => offer.name === name)
      if (!there) {
        offers.push({ name, found: [server], is })
        break
      }
      if (same(there.is, is)) {
        there.found.push(server)
        break
      }
      name = `${own}-${i}`
    }
  }
  return offers
}

const same = (a: Wish | Cannot, b: Wish | Cannot): boolean =>
  'wish' in a && 'wish' in b && isDeepStrictEqual(a.wish.spec, b.wish.spec) && isDeepStrictEqual([...a.secrets], [...b.secrets])

export interface Brought {
  readonly name: string
  readonly state: 'moved' | 'declined' | 'not_visible' | 'failed'
  readonly error?: ChaperoneError
  readonly files: readonly string[]
  /** what of these files could not be kept */
  readonly notes: readonly string[]
}

/**
 * Brings servers along, one after the other: the journal first, then its secrets into the vault, then the document, and only
 * when the person sees the server in the catalog are his files changed. Wherever it is interrupted, each secret is in its
 * file or in the journal, and each file is whole, as it was or as it shall be.
 */
export async function bringAlong(
  offers: readonly Offer[],
  parts: { readonly catalog: Catalog; readonly journals: Journals; readonly way: WayIn; readonly server: string; readonly clock?: Clock },
): Promise<{ readonly brought: readonly Brought[]; readonly journal?: string }> {
  const { catalog, journals } = parts
  const at = (parts.clock ?? systemClock).now()
  const id = new Date(at).toISOString().replace(/[-:]|\.\d+/g, '')
  // What was interrupted is gone on with: its journal knows what the files were before all of it.
  const begun = (await journals.list()).filter(({ state, server }) => state === 'begun' && server === parts.server)
  let journal: Journal = begun[0] ?? { v: 1, id, at, server: parts.server, state: 'begun', files: [], secrets: [] }
  let written = begun.length > 0
  const save = async (change: Partial<Journal>) => {
    journal = { ...journal, ...change }
    written = true
    await journals.save(journal)
  }
  // What an import made that was interrupted is still to be used, unless somebody else has set or used it since.
  const left = new Set(begun.flatMap(({ secrets }) => secrets))
  let unsettled = false
  const brought: Brought[] = []
  for (const offer of offers) {
    if (!('wish' in offer.is)) continue
    try {
      brought.push(await bringOne(offer, offer.is))
    } catch (cause) {
      brought.push({ name: offer.name, state: 'failed', error: toChaperoneError(cause), files: [], notes: [] })
    }
  }
  for (const other of begun.slice(1)) await journals.save({ ...other, state: 'done' })
  // What could not be taken back is known to the next import, which uses it.
  if (unsettled) await save({ state: 'begun' })
  else if (journal.files.length > 0 || journal.secrets.length > 0) await save({ state: 'done' })
  else if (written) await journals.forget(journal.id)
  return { brought, ...(journal.files.length > 0 ? { journal: journal.id } : {}) }

  async function bringOne(offer: Offer, is: Wish): Promise<Brought> {
    // Before anything is moved: a file that cannot be changed would keep its secret, and the vault would have another.
    for (const { source } of offer.found) await assertEditable(source.file, source.project)
    const { name, wish, secrets } = await free(is)
    const there = await catalog.document(name)
    if (!there) {
      if (secrets.size > 0) await save({ secrets: [...new Set([...journal.secrets, ...secrets.keys()])] })
      try {
        for (const [secret, value] of secrets) await catalog.putSecret(secret, value)
        if (!(await catalog.add(wish))) {
          await takeBack([...secrets.keys()])
          return { name, state: 'declined', files: [], notes: [] }
        }
      } catch (cause) {
        await takeBack([...secrets.keys()])
        throw cause
      }
    }
    if (!(await catalog.visible()).includes(name)) return { name, state: 'not_visible', files: [], notes: [] }
    const edited: Edited[] = []
    for (const found of offer.found) edited.push(await rewrite(found, name))
    return { name, state: 'moved', files: [...new Set(edited.map(({ file }) => file))], notes: [...new Set(edited.flatMap(({ notes }) => notes))] }
  }

  /** What was put there for a server that is not in the catalog after all: its files still hold it. */
  async function takeBack(names: readonly string[]): Promise<void> {
    if (names.length === 0) return
    const gone = new Set<string>()
    try {
      const known = new Map((await catalog.secrets()).map((one) => [one.name, one]))
      for (const name of names) {
        const there = known.get(name)
        if (there?.used) continue
        if (there?.own) await catalog.deleteSecret(name)
        // What somebody else has put there meanwhile is not ours to list either.
        gone.add(name)
      }
    } catch (cause) {
      // A document names it by now, and so it is where it shall be; for anything else the server is asked again by the next import.
      unsettled ||= toChaperoneError(cause).code !== 'conflict'
    }
    if (gone.size > 0) await save({ secrets: journal.secrets.filter((name) => !gone.has(name)) })
  }

  /** Under names that nobody has: what is in the vault and in the catalog already is somebody's. */
  async function free({ wish, secrets }: Wish): Promise<{ name: string; wish: ServerWish; secrets: ReadonlyMap<string, string> }> {
    const ours = ({ name, own, used }: KnownSecret) => left.has(name) && own && !used
    const taken = new Set((await catalog.secrets()).filter((one) => !ours(one)).map(({ name }) => name))
    for (let i = 1; ; i++) {
      const name = i === 1 ? wish.name : `${wish.name}-${i}`
      const document = await catalog.document(name)
      // There already, by an import that was interrupted or from another computer: the same address, or the same program.
      const likes = document && isDeepStrictEqual([document.spec.url, document.spec.command], [wish.spec.url, wish.spec.command])
      if (document && !likes) continue
      const renamed = new Map([...secrets.keys()].map((secret) => [secret, unused(secret, taken)]))
      const spec = JSON.parse(JSON.stringify(wish.spec), (_, value: unknown) => {
        const secret = (value as { secret?: unknown } | null)?.secret
        return typeof secret === 'string' && renamed.has(secret) ? { secret: renamed.get(secret) } : value
      }) as Record<string, unknown>
      return { name, wish: { ...wish, name, spec }, secrets: new Map([...secrets].map(([secret, value]) => [renamed.get(secret)!, value])) }
    }
  }

  async function rewrite({ source, at, name, value }: FoundServer, server: string): Promise<Edited> {
    const form = FORMS[source.client]
    // What is shared in a repository must work on other computers: the program by its name, and nobody's home.
    const way: WayIn = source.project === undefined ? parts.way : { command: 'chaperone' }
    const entry = { ...entryFor(source.client, server, way), name }
    const known = journal.files.find((one) => one.file === source.file)
    let before = ''
    return editClientFile(
      source.file,
      (text) => {
        before = text
        return source.format.set(text, name, form.value(entry), at)
      },
      {
        backup: false,
        ...(source.project === undefined ? {} : { project: source.project }),
        // Before the file is changed the way back is on the disk.
        async before(after) {
          const clean = known === undefined || before === known.before || known.afters.includes(digest(before))
          const changed: ChangedFile = {
            client: source.client,
            file: source.file,
            ...(source.project === undefined ? {} : { project: source.project }),
            before: known?.before ?? before,
            afters: clean ? [...(known?.afters ?? []), digest(after)] : [],
            // Written down once already, where it was interrupted.
            entries: [...(known?.entries ?? []).filter((entry) => !isDeepStrictEqual(entry.at, at)), { at, name, value }],
          }
          await save({ files: [...journal.files.filter((one) => one.file !== source.file), changed] })
        },
      },
    )
  }
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex')

function unused(name: string, taken: Set<string>): string {
  for (let i = 1; ; i++) {
    const one = i === 1 ? name : `${name.slice(0, 60)}-${i}`
    if (taken.has(one)) continue
    taken.add(one)
    return one
  }
}

export interface PutBack {
  readonly file: string
  readonly state: 'restored' | 'merged' | 'untouched'
}

/**
 * Puts the files back: as they were to the byte, or, where somebody has changed one since, entry by entry. Then the copies
 * go: what they hold stands in the files again. Only where a file has nothing left to put back they stay.
 */
export async function undo(journal: Journal, journals: Journals): Promise<readonly PutBack[]> {
  const done: PutBack[] = []
  for (const { client, file, project, before, afters, entries } of journal.files) {
    const { format } = FORMS[client]
    let state: PutBack['state'] = 'untouched'
    await editClientFile(
      file,
      (text) => {
        if (text === before || afters.includes(digest(text))) {
          state = 'restored'
          return before
        }
        const back = entries.filter(({ at }) => isOurs(format.get(text, at)))
        state = back.length > 0 || entries.every(({ at, value }) => isDeepStrictEqual(format.get(text, at), value)) ? 'merged' : 'untouched'
        return back.reduce((soFar, { at, name, value }) => format.set(soFar, name, value, at), text)
      },
      { backup: false, ...(project === undefined ? {} : { project }) },
    )
    done.push({ file, state })
  }
  if (done.some(({ state }) => state === 'untouched')) await journals.save({ ...journal, state: 'undone' })
  else await journals.forget(journal.id)
  return done
}

/**
 * Throws the way back away, and with it every older copy of these files that holds a secret. Resolves with those copies.
 * Throws `conflict` for an import that was interrupted.
 */
export async function forget(journal: Journal, journals: Journals): Promise<readonly string[]> {
  if (journal.state === 'begun')
    throw new ChaperoneError('conflict', `The import ${journal.id} was interrupted.`, {
      fix: 'Finish it (chaperone mcp import), or put the files back: chaperone mcp import --undo',
    })
  const gone: string[] = []
  for (const { client, file } of journal.files) {
    for (const copy of await backupsOf(file)) {
      if (!FORMS[client].format.list(await readFile(copy, 'utf8')).some(({ value }) => secretsIn(value).length > 0)) continue
      await rm(copy, { force: true })
      gone.push(copy)
    }
  }
  await journals.forget(journal.id)
  return gone
}
