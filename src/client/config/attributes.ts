import { execFile } from 'node:child_process'

/** A copy within one folder; a file system that needs longer is not waited for. */
const MOST_MS = 10_000

/**
 * Makes `to`, a file that is there, a copy of `from` with what Node cannot read or write: extended attributes, and the access list among
 * them. That list is more than a comfort: where there is one, the group's bits of the mode are its mask, so that the mode alone would
 * give the group what the list keeps from it. False where this system has no program for it.
 */
export function copyWithAttributes(from: string, to: string): Promise<boolean> {
  if (process.platform === 'win32') return Promise.resolve(false)
  const flags = process.platform === 'linux' ? ['--preserve=all', '-T', '--'] : ['-p', '--']
  return new Promise((resolve) => execFile('cp', [...flags, from, to], { timeout: MOST_MS }, (error) => resolve(error === null)))
}
