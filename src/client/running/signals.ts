import type { RunningChild } from './child.ts'

/** The signals that reach a runner are meant for its program; some of them also for itself. */
export interface SignalRelay {
  /** Aborted with the name of the first signal that asks to end. */
  readonly stop: AbortSignal
  /** From now on to this child. */
  to(child: RunningChild): void
  release(): void
}

/** What a terminal sends to all that stand before it. */
const TYPED = ['SIGINT', 'SIGQUIT', 'SIGWINCH'] as const
const SENT = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const
const ENDING: ReadonlySet<NodeJS.Signals> = new Set(['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP'])

/** Begins at once: a signal that comes before there is a program must not leave a session and a folder behind. */
export function relaySignals(): SignalRelay {
  const stop = new AbortController()
  let child: RunningChild | undefined
  const undo: (() => void)[] = []
  const on = (name: NodeJS.Signals, take: () => void) => {
    process.on(name, take)
    undo.push(() => void process.off(name, take))
  }
  for (const name of [...TYPED, ...SENT])
    on(name, () => {
      if (ENDING.has(name)) stop.abort(name)
      if ((TYPED as readonly string[]).includes(name)) child?.fromTerminal(name)
      else child?.signal(name)
    })
  on('SIGTSTP', () => {
    child?.suspend()
    process.kill(process.pid, 'SIGSTOP')
  })
  on('SIGCONT', () => child?.resume())
  return {
    stop: stop.signal,
    to(next) {
      child = next
    },
    release() {
      for (const step of undo) step()
    },
  }
}
