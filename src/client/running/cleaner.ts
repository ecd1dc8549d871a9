import { spawn } from 'node:child_process'
import type { Socket } from 'node:net'
import { extname, join } from 'node:path'

/**
 * Waits for the end of this process, in a shell that costs nothing meanwhile. A runner that is killed (SIGKILL, out of memory) can
 * take nothing away itself: its pipe closes, and what it left is ended and removed at once instead of at the next start.
 */
export function leaveCleaner(folder: string): { release(): void } {
  if (process.platform === 'win32') return { release: () => {} }
  const script = join(import.meta.dirname, `clean${extname(import.meta.filename)}`)
  const child = spawn('/bin/sh', ['-c', 'read -r _ || exec "$0" "$@"', process.execPath, script, folder], {
    stdio: ['pipe', 'ignore', 'ignore'],
    // In a session of its own: what the terminal sends is not for it.
    detached: true,
    cwd: '/',
  })
  // Where no shell is, the next start does it.
  child.on('error', () => {})
  child.stdin.on('error', () => {})
  child.unref()
  ;(child.stdin as Socket).unref?.()
  return { release: () => void child.stdin.end('done\n') }
}
