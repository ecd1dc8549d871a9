import { mkdir, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import type { ResourceRow, WhoAmI } from '../../api/contract.ts'
import type { Abilities } from '../../api/runs-contract.ts'
import { type Clock, systemClock } from '../../clock.ts'
import { momentText } from '../../encoding/moment.ts'
import { type ChaperoneError, REASONS } from '../../errors.ts'
import type { Limits } from '../../policy/types.ts'
import { type Api, openApi } from '../api.ts'
import { shimCommand } from '../config/entries.ts'
import type { Held, Keeper } from '../credential.ts'
import { canTypeIntoTerminal, findProgram, type RunningChild, startChild } from './child.ts'
import { openRunDatabases, type RunDatabase } from './databases.ts'
import { openRunDoor } from './door.ts'
import { environmentOf, type Keep } from './environment.ts'
import { type Ability, bwrapArguments, decideFence, type Isolation, type Network, probeAbility } from './isolation.ts'
import { makePlace, type Place, type RunNote, runsFolder } from './place.ts'
import { knownProgram, serverEntries, writeMcpConfig } from './programs.ts'
import { type Missing, summaryLines } from './summary.ts'
import { writeSvid } from './svid-files.ts'
import { sweepLeft } from './sweep.ts'
import { watchSession } from './watch.ts'

export interface RunOptions {
  readonly command: readonly string[]
  /** Gets the credential; called once, when all that needs no server has been looked at. */
  readonly begin: () => Promise<Keeper>
  /** `agent`: an environment that holds nothing else, and the credential as files. `person`: the person's own, with less. */
  readonly kind: 'agent' | 'person'
  /** of the person who starts it */
  readonly behalf?: string
  readonly limits?: Limits
  readonly isolation: Isolation
  readonly network?: Network
  /** absent: by kind and network */
  readonly keep?: Keep
  readonly given?: readonly string[]
  readonly read?: readonly string[]
  readonly write?: readonly string[]
  /** the databases to open; absent: all that can be seen */
  readonly databases?: readonly RunDatabase[]
  /** certificate, key and authorities as files; default: for agents */
  readonly files?: boolean
  /** Chaperone's own files of this person, which the program must not see */
  readonly hide: readonly string[]
  /** By which profile the session can be ended when this process is killed. */
  readonly by?: string
  readonly say: (line: string) => void
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  readonly clock?: Clock
  readonly ability?: () => Promise<Ability>
  readonly terminal?: boolean
  /** where runs live; default {@link runsFolder} */
  readonly runs?: { readonly folder: string; readonly inMemory: boolean }
  /** Told when the program has been started, for whoever sends it signals. */
  readonly started?: (child: RunningChild, place: Place) => void
  readonly stdio?: 'inherit' | 'pipe'
}

/** What shells answer for a program that is not there, and for one that may not be run. */
const NO_PROGRAM = 127
const NOT_RUNNABLE = 126

/** Runs one program to its end under an identity of its own. Resolves with its exit code; rejects when it could not begin. Nothing is left of it. */
export async function runProgram(options: RunOptions): Promise<number> {
  const clock = options.clock ?? systemClock
  const from = options.env ?? process.env
  const cwd = options.cwd ?? process.cwd()
  const home = from.HOME ?? homedir()
  const terminal = options.terminal ?? (process.stdin.isTTY === true || process.stderr.isTTY === true)
  const { say, kind } = options

  // All that can be wrong without a server is found before there is a session.
  const [name = '', ...words] = options.command
  const program = findProgram(name, from.PATH ?? '/usr/bin:/bin', cwd)
  if (program === undefined || program === 'forbidden') {
    say(program === undefined ? `${name}: there is no such program` : `${name}: it may not be run`)
    return program === undefined ? NO_PROGRAM : NOT_RUNNABLE
  }
  const ability = await (options.ability ?? probeAbility)()
  const { isolation, network } = options
  const fence = decideFence({ isolation, ...(network ? { network } : {}), usual: kind === 'agent' ? 'chaperone' : 'open' }, ability)
  const runs = options.runs ?? (await runsFolder(from))
  await sweepLeft(runs.folder)

  const undo: (() => unknown)[] = []
  try {
    const keeper = await options.begin()
    undo.push(() => keeper.close())
    const place = await makePlace(runs)
    undo.push(() => place.remove())
    await place.note(noteOf(keeper.current(), options.by))
    keeper.onRenew(
      (held) =>
        void place
          .note(noteOf(held, options.by))
          .catch((error: Error) => say(`what tells the next run of this one could not be written: ${error.message}`)),
    )
    const watch = watchSession(keeper, { clock })
    undo.push(() => watch.close())

    const folders = await makeFolders(place, kind)
    const door = await openRunDoor({ keeper, socket: folders.socket })
    undo.push(() => door.close())
    if (options.files ?? kind === 'agent') {
      const write = serially((held: Held) => writeSvid(folders.svid, held))
      await write(keeper.current())
      keeper.onRenew((held) => void write(held).catch((error: Error) => say(`the files of the credential could not be replaced: ${error.message}`)))
    }

    const seen = await lookAround(keeper)
    const databases = await openRunDatabases(keeper, options.databases ?? seen.databases, folders.door)
    undo.push(() => databases.close())
    const servers = serverEntries(seen.servers, folders.socket)
    const known = knownProgram(name)
    const configured = await (known?.configure({ args: words, servers, folder: folders.config, home, env: from }) ?? { args: words })
    const file = await writeMcpConfig(folders.config, servers)

    const keep = options.keep ?? (kind === 'agent' ? 'clean' : fence.network === 'chaperone' ? 'strip' : 'keep')
    const { profile } = keeper.current()
    const made = environmentOf({
      from,
      keep,
      ...(known && kind === 'person' ? { needs: known.needs } : {}),
      base: {
        PATH: `${folders.bin}:${from.PATH ?? '/usr/bin:/bin'}`,
        ...(folders.home === undefined ? {} : { HOME: folders.home, TMPDIR: fence.network === 'chaperone' ? '/tmp' : folders.tmp }),
      },
      ...(options.given ? { given: options.given } : {}),
      ours: {
        ...databases.env,
        ...('env' in configured ? configured.env : {}),
        CHAPERONE_RUN: place.id,
        CHAPERONE_SOCKET: folders.socket,
        CHAPERONE_API: `unix:${folders.socket}`,
        CHAPERONE_MCP_CONFIG: file,
        ...(fence.network === 'open' ? { CHAPERONE_ADDRESS: profile.address } : {}),
        ...((options.files ?? kind === 'agent') ? { CHAPERONE_SVID_DIR: folders.svid } : {}),
      },
    })

    const missing: Missing[] = [
      ...seen.missing,
      ...('note' in configured && configured.note ? [configured.note] : []),
      ...made.absent.map((variable) => ({ text: `${variable} is not set`, fix: `Set it, or leave out --env ${variable}.` })),
      ...(place.inMemory ? [] : [{ text: `${dirname(place.folder)} is on a disk`, fix: 'Set XDG_RUNTIME_DIR to a folder in memory.' }]),
    ]
    const summary = {
      name: profile.identity.name,
      ...(options.behalf === undefined ? {} : { behalf: options.behalf }),
      command: options.command,
      until: momentText(profile.sessionUntil),
      fence,
      abilities: seen.abilities,
      services: databases.services,
      missing,
      limits: seen.limits,
      stripped: made.stripped,
    }
    for (const line of summaryLines(summary)) say(line)

    const apart = !terminal || canTypeIntoTerminal()
    const bubblewrap =
      fence.how === 'none' || ability.bwrap === undefined
        ? undefined
        : {
            path: ability.bwrap,
            ...bwrapArguments({
              network: fence.network,
              program,
              args: configured.args,
              env: made.env,
              cwd,
              home,
              runs: runs.folder,
              own: {
                read: [folders.door, folders.bin, ...((options.files ?? kind === 'agent') ? [folders.svid] : [])],
                write: [folders.config, folders.tmp, ...(folders.home === undefined ? [] : [folders.home])],
              },
              hide: options.hide,
              read: options.read ?? [],
              write: options.write ?? [],
              ...(ability.env === undefined ? {} : { resetSignals: ability.env }),
              newSession: apart,
            }),
          }
    const child = startChild({
      program,
      args: configured.args,
      env: made.env,
      cwd,
      mark: place.id,
      ...(bubblewrap ? { bubblewrap } : {}),
      ...(ability.setpriv === undefined ? {} : { setpriv: ability.setpriv }),
      ...(ability.env === undefined ? {} : { signals: ability.env }),
      terminal,
      apart,
      clock,
      ...(options.stdio ? { stdio: options.stdio } : {}),
    })
    options.started?.(child, place)
    const onEnd = () => {
      say(`${profile.identity.name} has ended: ${(keeper.signal.reason as ChaperoneError).message}`)
      child.stop()
    }
    if (keeper.signal.aborted) onEnd()
    else keeper.signal.addEventListener('abort', onEnd, { once: true })
    const code = await child.ended
    keeper.signal.removeEventListener('abort', onEnd)
    // A program that goes quietly when it is told to has not done its work, and whoever started it must hear so.
    return code === 0 && keeper.signal.aborted ? REASONS[(keeper.signal.reason as ChaperoneError).code].exit : code
  } finally {
    for (const step of undo.reverse()) {
      try {
        await step()
      } catch (error) {
        // One part that cannot be closed keeps nothing else: least of all the folder with the key.
        say(`while ending: ${(error as Error).message}`)
      }
    }
  }
}

const noteOf = ({ profile }: Held, by: string | undefined): RunNote => ({
  address: profile.address,
  session: profile.session,
  ...(by === undefined ? {} : { by }),
})

async function makeFolders(place: Place, kind: RunOptions['kind']) {
  const at = (name: string) => join(place.folder, name)
  const folders = {
    door: at('door'),
    socket: join(at('door'), 'api.sock'),
    svid: at('svid'),
    config: at('config'),
    bin: at('bin'),
    tmp: at('tmp'),
    home: kind === 'agent' ? at('home') : undefined,
  }
  for (const folder of [folders.door, folders.config, folders.bin, folders.tmp, ...(folders.home ? [folders.home] : [])])
    await mkdir(folder, { mode: 0o700 })
  // So that the lines which the summary says can be typed inside.
  const [node = '', script = ''] = shimCommand()
  await writeFile(join(folders.bin, 'chaperone'), `#!/bin/sh\nexec ${shellWord(node)} ${shellWord(script)} "$@"\n`, { mode: 0o700 })
  return folders
}

const shellWord = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`

/** What there is for this identity, as the server says it. */
async function lookAround(keeper: Keeper) {
  const { key, certificate, profile } = keeper.current()
  const api: Api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: { key, certificate } })
  try {
    const list = (kind: string) => api.call<{ resources: readonly ResourceRow[] }>('GET', `/v1/resources/${kind}`)
    const [whoami, abilities, mcp, postgres] = await Promise.all([
      api.call<WhoAmI>('GET', '/v1/whoami'),
      api.call<Abilities>('GET', '/v1/abilities'),
      list('mcp'),
      list('postgres'),
    ])
    const databases = postgres.resources.flatMap(({ name, databases: has = [] }) =>
      has.map((database): RunDatabase => ({ resource: name, database })),
    )
    const idle = abilities.servers.filter(({ allowed, asks }) => allowed.length + asks.length === 0)
    return {
      limits: whoami.chain.flatMap(({ leaves = [] }) => leaves),
      abilities,
      servers: mcp.resources.map(({ name }) => name),
      databases,
      missing: idle.map(
        ({ name }): Missing => ({
          text: `no tool of ${name} is known that may be used`,
          fix: `What it offers is known once somebody has listed its tools. Why one is refused: chaperone explain mcp ${name} TOOL`,
        }),
      ),
    }
  } finally {
    api.close()
  }
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
