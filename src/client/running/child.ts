import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, closeSync, existsSync, constants as files, readdirSync, readFileSync, statSync } from 'node:fs'
import { constants } from 'node:os'
import { delimiter, isAbsolute, join, resolve } from 'node:path'
import type { Writable } from 'node:stream'
import { type Clock, systemClock } from '../../clock.ts'
import { sweep } from '../../gateways/mcp/stdio/memory.ts'
import { limits } from './bounds.ts'
import { TERMINAL_SIGNALS } from './bwrap.ts'
import { markOf } from './mark.ts'

export interface ChildAsk {
  /** absolute path; see {@link findProgram} */
  readonly program: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  /** id of the run, in the environment of all that it starts */
  readonly mark: string
  readonly bubblewrap?: { readonly path: string; readonly options: readonly string[]; readonly command: readonly string[] }
  readonly setpriv?: string
  /** util-linux' prlimit, where bubblewrap's own command has none */
  readonly prlimit?: string
  /** coreutils' env */
  readonly signals?: string
  /** Whether it stands at a terminal: then that one sends its signals itself, to all that stand there. */
  readonly terminal: boolean
  /** Whether bubblewrap gave it a session of its own, which the terminal's signals do not reach. */
  readonly apart?: boolean
  readonly stdio?: 'inherit' | 'pipe'
  readonly clock?: Clock
}

export interface RunningChild {
  readonly process: ChildProcess
  /** 0 to 255; of one that died by a signal, 128 and its number, as shells have it */
  readonly ended: Promise<number>
  /** To the program itself, not to what stands around it. */
  signal(name: NodeJS.Signals): void
  /** What the terminal has sent to us: to all that stands before it, where it has not reached them already. */
  fromTerminal(name: NodeJS.Signals): void
  /** Stands still, with what it started, until `resume`: a stop that reached us alone would leave it working at a closed door. */
  suspend(): void
  resume(): void
  /** SIGTERM, and when it does not go, SIGKILL to all that it started. */
  stop(): void
}

/** What a program is given to finish its work when its identity has ended; nothing it asks for is answered any more. */
const GRACE_MS = 5_000

/** Starts the program; what it left running has ended too when `ended` resolves. */
export function startChild(ask: ChildAsk): RunningChild {
  const clock = ask.clock ?? systemClock
  const io = ask.stdio ?? 'inherit'
  const { bubblewrap, setpriv, signals } = ask
  // In a group of its own all of it can be reached by one signal; at a terminal it must stay in ours, or it may not read.
  const detached = !ask.terminal
  let child: ChildProcess
  if (bubblewrap) {
    const wrapped = [bubblewrap.path, '--args', '3', '--info-fd', '4', '--', ...bubblewrap.command]
    const [file, ...rest] = signals === undefined ? wrapped : [signals, `--ignore-signal=${TERMINAL_SIGNALS}`, ...wrapped]
    child = spawn(file!, rest, { stdio: [io, io, io, 'pipe', 'pipe'], env: {}, cwd: '/', detached })
    const words = child.stdio[3] as Writable
    // A bwrap that cannot begin says so on stderr and goes; its closed pipe is no second fault.
    words.on('error', () => {})
    words.end(bubblewrap.options.map((word) => `${word}\0`).join(''))
  } else {
    const bounded = ask.prlimit === undefined ? [] : [ask.prlimit, ...limits(markOf(ask.mark)), '--']
    const tied = setpriv === undefined ? [] : [setpriv, '--pdeathsig', 'KILL', '--']
    const [file, ...rest] = [...bounded, ...tied, ask.program, ...ask.args]
    child = spawn(file!, rest, { stdio: io, env: { ...ask.env }, cwd: ask.cwd, detached })
  }

  let info = ''
  let first: number | undefined
  child.stdio[4]?.on('data', (chunk: Buffer) => {
    info += chunk
    first ??= Number(/"child-pid":\s*(\d+)/.exec(info)?.[1] ?? 0) || undefined
  })

  /** In bubblewrap the first process of the namespace is bwrap's; the program is its child. */
  const target = (): number | undefined => {
    if (!bubblewrap) return child.pid
    if (first === undefined) return undefined
    const text = readOrNothing(`/proc/${first}/task/${first}/children`)
    return Number(text.trim().split(' ')[0]) || undefined
  }
  const kill = (pid: number | undefined, name: NodeJS.Signals) => {
    if (pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    try {
      process.kill(pid, name)
    } catch {
      // It has gone by itself.
    }
  }

  /** The group that the program leads, where it has one of its own; a terminal stops the others itself. */
  const whole = () => {
    if (bubblewrap) return ask.apart && first !== undefined ? -first : target()
    return detached && child.pid !== undefined ? -child.pid : child.pid
  }

  let forget = () => {}
  const ended = new Promise<number>((done, fail) => {
    // It was there when it was looked for; a service that is being replaced is found again at the next start.
    child.once('error', (error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? done(127) : error.code === 'EACCES' ? done(126) : fail(error)))
    child.once('exit', (code, signal) => done(code ?? 128 + (constants.signals[signal ?? 'SIGKILL'] ?? 9)))
  }).finally(async () => {
    forget()
    // What it left behind would go on without an identity, and hold the folder of the run. Bubblewrap's namespace ends too, but only after we hear of it.
    await sweep(markOf(ask.mark))
  })

  return {
    process: child,
    ended,
    signal: (name) => kill(target() ?? child.pid, name),
    fromTerminal(name) {
      if (!ask.terminal) kill(target() ?? child.pid, name)
      // The first process of the namespace leads that session and its group; it takes no such signal itself.
      else if (bubblewrap && ask.apart && first !== undefined) kill(-first, name)
    },
    suspend: () => kill(whole(), 'SIGSTOP'),
    resume: () => kill(whole(), 'SIGCONT'),
    stop() {
      kill(target() ?? child.pid, 'SIGTERM')
      forget = clock.at(clock.now() + GRACE_MS, () =>
        kill(bubblewrap ? (first ?? child.pid) : detached && child.pid !== undefined ? -child.pid : child.pid, 'SIGKILL'),
      )
    },
  }
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

/** The absolute path of a program, as a shell finds it; undefined when there is none (127), or `forbidden` when it may not be run (126). */
export function findProgram(name: string, path: string, cwd: string): string | 'forbidden' | undefined {
  const candidates = name.includes('/')
    ? [resolve(cwd, name)]
    : path
        .split(delimiter)
        .filter(isAbsolute)
        .map((folder) => join(folder, name))
  let forbidden = false
  for (const candidate of candidates) {
    if (!existsSync(candidate) || !statSync(candidate).isFile()) continue
    try {
      accessSync(candidate, files.X_OK)
      return candidate
    } catch {
      forbidden = true
    }
  }
  return forbidden ? 'forbidden' : undefined
}

/**
 * Closes what this process was given open by whoever started it. A program that we start would inherit it: Node marks only the
 * first sixteen descriptors as not to be handed on (libuv's uv_disable_stdio_inheritance). Its own all carry that mark.
 */
export function closeInherited(): void {
  for (const name of existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd') : []) {
    const flags = /^flags:\s+0*([0-7]+)$/m.exec(readOrNothing(`/proc/self/fdinfo/${name}`))?.[1]
    if (Number(name) <= 2 || flags === undefined || (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) !== 0) continue
    try {
      closeSync(Number(name))
    } catch {
      // The one that the folder was read by: gone already.
    }
  }
}

/** O_CLOEXEC, open(2) */
const CLOSE_ON_EXEC = 0o2000000

/** Whether a program inside could type into our terminal, and so run commands outside (TIOCSTI). Linux 6.2 can switch that off. */
export function canTypeIntoTerminal(): boolean {
  return readOrNothing('/proc/sys/dev/tty/legacy_tiocsti').trim() !== '0'
}
