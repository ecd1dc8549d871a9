import { spawn } from 'node:child_process'

export interface Ran {
  /** null: ended by a signal, or by us after its time */
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program with this on its standard input, never in its arguments: those every user of the machine can read. */
export type RunProgram = (program: string, args: readonly string[], input: string) => Promise<Ran>

/** The desktop may ask its user to unlock the key store meanwhile. */
const UNLOCK_MS = 120_000
const MOST_OUTPUT = 64 * 1024

/** `as`: for whom, and in which environment; default: as we are. */
export const programRunner =
  (as: { readonly env?: NodeJS.ProcessEnv; readonly uid?: number; readonly gid?: number } = {}): RunProgram =>
  (program, args, input) =>
    new Promise((resolve, reject) => {
      const child = spawn(program, args, { ...as, stdio: ['pipe', 'pipe', 'pipe'] })
      // Not spawn's own `timeout`: that keeps the process waiting for it when the program could not be started at all (measured).
      const patience = setTimeout(() => child.kill(), UNLOCK_MS)
      const text = { stdout: '', stderr: '' }
      for (const name of ['stdout', 'stderr'] as const)
        child[name].on('data', (chunk: Buffer) => {
          text[name] += chunk
          if (text[name].length > MOST_OUTPUT) child.kill()
        })
      child.once('error', (error) => {
        clearTimeout(patience)
        reject(error)
      })
      child.once('close', (status) => {
        clearTimeout(patience)
        resolve({ status, ...text })
      })
      // A program that ends without reading is told by its status.
      child.stdin.on('error', () => {})
      child.stdin.end(input)
    })

export const runProgram: RunProgram = programRunner()
