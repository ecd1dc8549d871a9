import { constants } from 'node:os'
import { type ChaperoneError, REASONS } from '../../errors.ts'
import type { Held, Keeper } from '../credential.ts'
import { usualSize } from './bounds.ts'
import { bwrapArguments } from './bwrap.ts'
import { canTypeIntoTerminal, type RunningChild, startChild } from './child.ts'
import { leaveCleaner } from './cleaner.ts'
import { type Furnished, furnish } from './furnish.ts'
import { makePlace, type RunNote } from './place.ts'
import { type Prepared, prepareRun, type RunOptions } from './prepare.ts'
import { summaryLines } from './summary.ts'
import { watchSession } from './watch.ts'

/** Runs one program to its end under an identity of its own. Resolves with its exit code; rejects when it could not begin. Nothing is left of it. */
export async function runProgram(options: RunOptions & { readonly begin: () => Promise<Keeper> }): Promise<number> {
  const prepared = await prepareRun(options)
  if (typeof prepared === 'number') return prepared
  let keeper: Keeper
  try {
    keeper = await options.begin()
  } catch (error) {
    if (options.stop?.aborted) return signalCode(options.stop.reason as NodeJS.Signals)
    throw error
  }
  try {
    return await runPrepared(prepared, keeper)
  } finally {
    await keeper.close()
  }
}

/** The same with a credential that is there: it is as it was when the program has ended. */
export async function runPrepared(
  run: Prepared,
  keeper: Keeper,
  tell: (summary: Furnished['summary']) => void = telling(run.options),
): Promise<number> {
  const { say, by, stop } = run.options
  const undo: (() => unknown)[] = []
  try {
    const cleaner = leaveCleaner(run.runs.folder)
    undo.push(() => cleaner.release())
    const place = await makePlace(run.runs)
    undo.push(() => place.remove())
    const note = (held: Held) => place.note(noteOf(held, by))
    await note(keeper.current())
    keeper.onRenew(
      (held) => void note(held).catch((error: Error) => say(`what tells the next run of this one could not be written: ${error.message}`)),
    )
    const watch = watchSession(keeper, { clock: run.clock })
    undo.push(() => watch.close())

    const furnished = await furnish(run, keeper, place, (step) => undo.push(step))
    tell(furnished.summary)
    if (stop?.aborted) return signalCode(stop.reason as NodeJS.Signals)
    const child = begin(run, furnished, place.id)
    run.options.started?.(child, place)
    return await untilEither(child, keeper, say)
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

export const telling =
  ({ say, json }: Pick<RunOptions, 'say' | 'json'>) =>
  (summary: Furnished['summary']): void => {
    if (json) json(summary)
    else for (const line of summaryLines(summary)) say(line)
  }

/** As shells count a program that died by a signal. */
export const signalCode = (name: NodeJS.Signals): number => 128 + constants.signals[name]

function begin(run: Prepared, { folders, made, configured }: Furnished, mark: string): RunningChild {
  const { options, ability, fence, program, cwd, home, runs, terminal, clock } = run
  const { args } = configured
  const apart = !terminal || canTypeIntoTerminal()
  const bubblewrap =
    fence.how === 'none' || ability.bwrap === undefined
      ? undefined
      : {
          path: ability.bwrap,
          ...bwrapArguments({
            network: fence.network,
            program,
            args,
            env: made.env,
            cwd,
            home,
            runs: runs.folder,
            own: {
              read: [folders.door, folders.bin, folders.config, ...(run.files ? [folders.svid] : [])],
              write: configured.writes ?? [],
              memory: [folders.tmp, ...(folders.home === undefined ? [] : [folders.home])],
            },
            ...(ability.sized ? { size: options.tmpSize ?? usualSize() } : {}),
            hide: options.hide,
            read: options.read ?? [],
            write: options.write ?? [],
            ...(ability.env === undefined ? {} : { resetSignals: ability.env }),
            ...(ability.prlimit === undefined ? {} : { prlimit: ability.prlimit }),
            newSession: apart,
          }),
        }
  return startChild({
    program,
    args,
    env: made.env,
    cwd,
    mark,
    ...(bubblewrap ? { bubblewrap } : {}),
    ...(ability.setpriv === undefined ? {} : { setpriv: ability.setpriv }),
    ...(ability.prlimit === undefined ? {} : { prlimit: ability.prlimit }),
    ...(ability.env === undefined ? {} : { signals: ability.env }),
    terminal,
    apart,
    clock,
    ...(options.stdio ? { stdio: options.stdio } : {}),
  })
}

/** The end of the program, which is told to go when its identity ends. */
async function untilEither(child: RunningChild, keeper: Keeper, say: (line: string) => void): Promise<number> {
  const onEnd = () => {
    const { name } = keeper.current().profile.identity
    say(`${name} has ended: ${(keeper.signal.reason as ChaperoneError).message}`)
    child.stop()
  }
  if (keeper.signal.aborted) onEnd()
  else keeper.signal.addEventListener('abort', onEnd, { once: true })
  const code = await child.ended
  keeper.signal.removeEventListener('abort', onEnd)
  // A program that goes quietly when it is told to has not done its work, and whoever started it must hear so.
  return code === 0 && keeper.signal.aborted ? REASONS[(keeper.signal.reason as ChaperoneError).code].exit : code
}

const noteOf = ({ profile }: Held, by: string | undefined): RunNote => ({
  address: profile.address,
  session: profile.session,
  ...(by === undefined ? {} : { by }),
})
