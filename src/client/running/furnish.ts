import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { momentText } from '../../encoding/moment.ts'
import { shellWord } from '../../encoding/shell-word.ts'
import { shimCommand } from '../config/entries.ts'
import type { Held, Keeper } from '../credential.ts'
import { lookAround, type Seen } from './around.ts'
import { openRunDatabases } from './databases.ts'
import { openRunDoor } from './door.ts'
import { type Environment, environmentOf } from './environment.ts'
import type { Place } from './place.ts'
import type { Prepared } from './prepare.ts'
import { type Configured, knownProgram, serverEntries, writeMcpConfig } from './programs.ts'
import type { Missing, SummaryAsk } from './summary.ts'
import { writeSvid } from './svid-files.ts'
import { unmet } from './unmet.ts'

/** What the program finds when it begins: its folders, its doors, its environment. */
export interface Furnished {
  readonly folders: Folders
  readonly made: Environment
  readonly configured: Configured
  readonly summary: SummaryAsk
}

/** Opens and writes it all. `undo` is given how each part is closed again, in the order in which they were begun. */
export async function furnish(run: Prepared, keeper: Keeper, place: Place, undo: (step: () => unknown) => void): Promise<Furnished> {
  const { options, fence, from, home } = run
  const { say, kind } = options
  const [name = '', ...words] = options.command
  const folders = await makeFolders(place, kind === 'agent')
  const door = await openRunDoor({ keeper, socket: folders.socket })
  undo(() => door.close())
  if (run.files) {
    const write = serially((held: Held) => writeSvid(folders.svid, held))
    await write(keeper.current())
    keeper.onRenew((held) => void write(held).catch((error: Error) => say(`the files of the credential could not be replaced: ${error.message}`)))
  }

  const seen = await lookAround(keeper)
  const databases = await openRunDatabases(keeper, options.databases ?? seen.databases, folders.door)
  undo(() => databases.close())
  const servers = serverEntries(seen.servers, folders.socket)
  const known = knownProgram(name)
  const configured: Configured = (await known?.configure({ args: words, servers, folder: folders.config, home, env: from })) ?? { args: words }
  const file = await writeMcpConfig(folders.config, servers)

  const { profile } = keeper.current()
  const made = environmentOf({
    from,
    keep: options.keep ?? (kind === 'agent' ? 'clean' : fence.network === 'chaperone' ? 'strip' : 'keep'),
    ...(known && kind === 'person' ? { needs: known.needs } : {}),
    base: {
      PATH: `${folders.bin}:${from.PATH ?? '/usr/bin:/bin'}`,
      ...(folders.home === undefined ? {} : { HOME: folders.home, TMPDIR: fence.network === 'chaperone' ? '/tmp' : folders.tmp }),
    },
    ...(options.given ? { given: options.given } : {}),
    ours: {
      ...databases.env,
      ...configured.env,
      CHAPERONE_RUN: place.id,
      CHAPERONE_SOCKET: folders.socket,
      CHAPERONE_API: `unix:${folders.socket}`,
      CHAPERONE_MCP_CONFIG: file,
      ...(fence.network === 'open' ? { CHAPERONE_ADDRESS: profile.address } : {}),
      ...(run.files ? { CHAPERONE_SVID_DIR: folders.svid } : {}),
    },
  })
  return {
    folders,
    made,
    configured,
    summary: {
      name: profile.identity.name,
      ...(options.behalf === undefined ? {} : { behalf: options.behalf }),
      command: options.command,
      until: momentText(profile.sessionUntil),
      fence,
      abilities: seen.abilities,
      unlisted: seen.unlisted,
      services: databases.services,
      missing: missingOf(run, place, seen, configured, made),
      limits: seen.limits,
      stripped: made.stripped,
    },
  }
}

function missingOf({ fence, options }: Prepared, place: Place, seen: Seen, { note }: Configured, { absent }: Environment): readonly Missing[] {
  return [
    ...(fence.note ? [fence.note] : []),
    ...unmet(options, seen),
    ...seen.missing,
    ...(note ? [note] : []),
    ...absent.map((variable) => ({ text: `${variable} is not set`, fix: `Set it, or leave out --env ${variable}.` })),
    ...(place.inMemory ? [] : [{ text: `${dirname(place.folder)} is on a disk`, fix: 'Set XDG_RUNTIME_DIR to a folder in memory.' }]),
  ]
}

type Folders = Awaited<ReturnType<typeof makeFolders>>

async function makeFolders(place: Place, ownHome: boolean) {
  const at = (name: string) => join(place.folder, name)
  const folders = {
    door: at('door'),
    socket: join(at('door'), 'api.sock'),
    svid: at('svid'),
    config: at('config'),
    bin: at('bin'),
    tmp: at('tmp'),
    home: ownHome ? at('home') : undefined,
  }
  for (const folder of [folders.door, folders.config, folders.bin, folders.tmp, ...(folders.home ? [folders.home] : [])])
    await mkdir(folder, { mode: 0o700 })
  // So that the lines which the summary says can be typed inside.
  const [node = '', script = ''] = shimCommand()
  await writeFile(join(folders.bin, 'chaperone'), `#!/bin/sh\nexec ${shellWord(node)} ${shellWord(script)} "$@"\n`, { mode: 0o700 })
  return folders
}

/** One after the other, the newest last: two renewals must not write the same files at once. */
function serially<T>(work: (value: T) => Promise<void>): (value: T) => Promise<void> {
  let last: Promise<unknown> = Promise.resolve()
  return (value) => {
    const next = last.then(() => work(value))
    last = next.catch(() => {})
    return next
  }
}
