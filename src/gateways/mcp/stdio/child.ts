import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import type { Permit } from '../../../access/types.ts'
import type { Clock } from '../../../clock.ts'
import { ChaperoneError } from '../../../errors.ts'
import type { McpLimits } from '../limits.ts'
import type { Launch } from './isolation.ts'
import type { Mark } from './memory.ts'

interface ChildParts {
  readonly name: string
  readonly launch: Launch
  /** the whole environment: nothing of ours is inherited */
  readonly env: Readonly<Record<string, string>>
  readonly clock: Clock
  readonly limits: Pick<McpLimits, 'lineBytes' | 'queueBytes' | 'stderrBytes' | 'termMs' | 'killMs'>
  /** It may write so many bytes a minute to stdout and stderr. */
  readonly outputBytes?: number
  /** Kills what is left of it, wherever it hides; resolves when nothing is. */
  readonly sweep?: (mark: Mark) => Promise<void>
  /** one line of stdout, without its end */
  readonly line: (text: string) => void
  /** Called when it is told to end: whoever waits need not wait until it is gone. */
  readonly stopping?: (why: ChaperoneError) => void
  /** Called once, when the process has ended or could not be started; then no line comes any more. */
  readonly ended: (why: ChaperoneError, facts: Ended) => void
}

/** Why a process is no more; what `server.stopped` says in the record. */
export type EndReason = 'crashed' | 'not_started' | 'session_over' | 'stopping' | 'idle' | 'lifetime' | 'memory' | 'output' | 'garbage'

export interface Ended {
  readonly reason: EndReason
  readonly code: number | null
  readonly signal: string | null
  /** we ended it; else it fell by itself */
  readonly stopped: boolean
  /** the last of what it wrote to stderr, for the log */
  readonly stderr: string
}

/**
 * One process of a stdio server, in a process group of its own so that what it starts ends with it (peers R82, R86). All
 * ways to its end go through one door: exit, failure to start, a line that is too long, `stop`.
 */
export class Child {
  readonly pid: number | undefined
  readonly #parts: ChildParts
  readonly #process: ChildProcessWithoutNullStreams
  readonly #gone = Promise.withResolvers<void>()
  #lines: Buffer[] = []
  #lineSize = 0
  #stderr: Buffer[] = []
  #stderrSize = 0
  #why: ChaperoneError | undefined
  #reason: EndReason = 'crashed'
  #output = { from: 0, bytes: 0 }
  #swept: Promise<void> | undefined
  #disarm: (() => void) | undefined
  #over = false
  #stopped = false

  constructor(parts: ChildParts) {
    this.#parts = parts
    const { launch, env } = parts
    this.#process = spawn(launch.file, launch.args, {
      cwd: launch.cwd,
      env: { ...env },
      detached: true,
      shell: false,
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(launch.uid === undefined ? {} : { uid: launch.uid, gid: launch.uid }),
    })
    this.pid = this.#process.pid
    this.#output.from = parts.clock.now()
    this.#process.stdout.on('data', (chunk: Buffer) => this.#count(chunk) && this.#read(chunk))
    this.#process.stderr.on('data', (chunk: Buffer) => this.#count(chunk) && this.#keep(chunk))
    // EPIPE on a child that has just gone: its exit says the rest.
    this.#process.stdin.on('error', () => {})
    this.#process.once('error', (error) => {
      this.#why ??= new ChaperoneError('upstream_unavailable', `The MCP server ${parts.name} could not be started.`, {
        detail: error.message,
        fix: launch.hints[0] ?? LOOK,
      })
      this.#reason = 'not_started'
      if (this.pid === undefined) this.#end(null, null)
    })
    // `close` comes after the last byte of stdout, `exit` may come before it.
    this.#process.once('exit', (code, signal) => {
      this.#signalGroup('SIGKILL')
      this.#swept = this.#sweep()
      // A grandchild that left the group may hold stdout open for ever (peers R86); we do not wait for it.
      this.#disarm?.()
      this.#disarm = parts.clock.at(parts.clock.now() + parts.limits.termMs, () => {
        this.#process.stdout.destroy()
        this.#process.stderr.destroy()
        this.#end(code, signal)
      })
    })
    this.#process.once('close', (code, signal) => this.#end(code, signal))
  }

  /** Resolves when the process and its group are gone. */
  get gone(): Promise<void> {
    return this.#gone.promise
  }

  get over(): boolean {
    return this.#over || this.#why !== undefined
  }

  /** Sends one judged message on its way: one line, no line break in it. Throws `too_many` when the child does not read. */
  send(_permit: Permit, line: string): void {
    this.#write(line)
  }

  /** An answer to a request of the server, or a cancellation: it asks for nothing, so no permit is needed. */
  answer(line: string): void {
    if (!this.over) this.#write(line)
  }

  #write(line: string): void {
    const { stdin } = this.#process
    if (this.over || !stdin.writable) throw this.#why ?? new ChaperoneError('upstream_unavailable', `The MCP server ${this.#parts.name} has ended.`)
    if (stdin.writableLength > this.#parts.limits.queueBytes)
      throw new ChaperoneError('too_many', `The MCP server ${this.#parts.name} does not read what it is sent.`)
    stdin.write(`${line}\n`)
  }

  /** Closes stdin, asks the group to end after `termMs`, and kills whoever is left after `killMs`. Idempotent. */
  stop(why: ChaperoneError, reason: EndReason = 'session_over'): Promise<void> {
    if (!this.over) {
      this.#why = why
      this.#reason = reason
      this.#stopped = true
      const { clock, limits, stopping } = this.#parts
      stopping?.(why)
      const start = clock.now()
      this.#process.stdin.end()
      this.#disarm = clock.at(start + limits.termMs, () => {
        this.#signalGroup('SIGTERM')
        this.#disarm = clock.at(start + limits.killMs, () => this.#signalGroup('SIGKILL'))
      })
    }
    return this.gone
  }

  /** False when it has written more than it may: then nothing of it is read any more. */
  #count({ length }: Buffer): boolean {
    const { outputBytes, clock, name } = this.#parts
    if (outputBytes === undefined) return true
    const now = clock.now()
    if (now - this.#output.from >= 60_000) this.#output = { from: now, bytes: 0 }
    this.#output.bytes += length
    if (this.#output.bytes <= outputBytes) return true
    void this.stop(new ChaperoneError('upstream_unavailable', `The MCP server ${name} wrote more than ${outputBytes} bytes in a minute.`), 'output')
    return false
  }

  #read(chunk: Buffer): void {
    let start = 0
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      this.#lines.push(chunk.subarray(start, end))
      const line = this.#lines.length === 1 ? this.#lines[0]! : Buffer.concat(this.#lines)
      this.#lines = []
      this.#lineSize = 0
      start = end + 1
      if (line.length > 0 && !this.over) this.#parts.line(line.toString('utf8'))
    }
    if (start === chunk.length) return
    this.#lineSize += chunk.length - start
    this.#lines.push(chunk.subarray(start))
    if (this.#lineSize > this.#parts.limits.lineBytes) {
      this.#lines = []
      this.#lineSize = 0
      void this.stop(
        new ChaperoneError('upstream_unavailable', `The MCP server ${this.#parts.name} wrote a line over ${this.#parts.limits.lineBytes} bytes.`),
        'garbage',
      )
    }
  }

  /** stderr is free text and no sign of an error; its end is kept for the log. */
  #keep(chunk: Buffer): void {
    this.#stderr.push(chunk)
    this.#stderrSize += chunk.length
    while (this.#stderrSize - this.#stderr[0]!.length >= this.#parts.limits.stderrBytes) this.#stderrSize -= this.#stderr.shift()!.length
  }

  #signalGroup(signal: NodeJS.Signals): void {
    if (this.pid === undefined || this.#over) return
    try {
      process.kill(-this.pid, signal)
    } catch (error) {
      // ESRCH: nobody is left, which is what was wanted.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') this.#process.kill(signal)
    }
  }

  #end(code: number | null, signal: string | null): void {
    if (this.#over) return
    this.#over = true
    this.#disarm?.()
    const { launch, limits } = this.#parts
    const stderr = Buffer.concat(this.#stderr).toString('utf8').slice(-limits.stderrBytes)
    const why = this.#why ?? this.#fallen(code, signal, stderr)
    this.#why = why
    this.#parts.ended(why, { reason: this.#reason, code, signal, stopped: this.#stopped, stderr })
    // Its user id and its folder are free again only when nobody is left who runs by the one or writes to the other.
    const swept = this.#swept ?? this.#sweep()
    void swept.finally(() => {
      launch.release()
      this.#gone.resolve()
    })
  }

  async #sweep(): Promise<void> {
    await this.#parts.sweep?.(this.#parts.launch.mark)
  }

  /** What a client may know: how it ended and what to look at. What it wrote to stderr is for the log. */
  #fallen(code: number | null, signal: string | null, stderr: string): ChaperoneError {
    const { name, launch } = this.#parts
    const how = signal === null ? `with exit code ${code ?? 'unknown'}` : `by ${signal}`
    return new ChaperoneError('upstream_unavailable', `The MCP server ${name} has ended ${how}.`, {
      detail: `exit ${code ?? signal}: ${stderr.slice(-2000)}`,
      fix: launch.hints[0] ?? LOOK,
    })
  }
}

const LOOK = 'The log of Chaperone has what it wrote to stderr.'
