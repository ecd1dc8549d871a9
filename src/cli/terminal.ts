import { createInterface } from 'node:readline/promises'
import { ChaperoneError } from '../errors.ts'

const LARGEST_INPUT = 1024 * 1024

/** Asks on stderr, so that stdout stays clean for pipes. Undefined when the input ends without an answer. */
export async function ask(question: string): Promise<string | undefined> {
  const reader = createInterface({ input: process.stdin, output: process.stderr, terminal: process.stdin.isTTY === true })
  try {
    const ended = new Promise<undefined>((resolve) => reader.once('close', () => resolve(undefined)))
    return (await Promise.race([reader.question(question), ended]))?.trim()
  } finally {
    reader.close()
  }
}

/** Everything on stdin, for a secret or a document: not an argument, which other users see in the process list. */
export async function readStdin(): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of process.stdin) {
    size += (chunk as Buffer).length
    if (size > LARGEST_INPUT) throw new ChaperoneError('too_large', 'The input is over 1 MiB.')
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks).toString('utf8')
}

const STOPS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Fires when the process is asked to stop. A second signal is not waited for. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController()
  for (const name of STOPS) process.once(name, () => stop.abort(name))
  return stop.signal
}

/** Work that a signal ends; afterwards one ends the process, as everywhere. */
export async function stoppable<T>(work: (stop: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController()
  const end = (name: NodeJS.Signals) => stop.abort(name)
  for (const name of STOPS) process.once(name, end)
  try {
    return await work(stop.signal)
  } finally {
    for (const name of STOPS) process.off(name, end)
  }
}

export const stopped = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => (signal.aborted ? resolve() : signal.addEventListener('abort', () => resolve(), { once: true })))
