import { spawnSync } from 'node:child_process'
import { chown } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { ChaperoneError } from '../errors.ts'

/** PostgreSQL refuses to run as root. `undefined`: as ourselves. */
export interface RunAs {
  readonly uid: number
  readonly gid: number
}

export function serverUser(): RunAs | undefined {
  if (userInfo().uid !== 0) return undefined
  const known = lookUp('postgres')
  if (known) return known
  // Not `nobody`: the isolated stdio servers may run as that, and the cluster's files must not be theirs to read.
  spawnSync('useradd', ['--system', '--no-create-home', '--user-group', 'postgres'], { stdio: 'ignore' })
  const made = lookUp('postgres') // also when another process has just made it
  if (made) return made
  throw unavailable('PostgreSQL does not run as root, and the user "postgres" could not be made.', 'Run this as an ordinary user.')
}

function lookUp(user: string): RunAs | undefined {
  const ask = (flag: string) => Number.parseInt(spawnSync('id', [flag, user], { encoding: 'utf8' }).stdout ?? '', 10)
  const [uid, gid] = [ask('-u'), ask('-g')]
  return Number.isNaN(uid) || Number.isNaN(gid) ? undefined : { uid, gid }
}

/** Whether the server's user passes `test <flag> path`; asked of the kernel, because modes alone do not tell (ACLs, noexec mounts). */
export function may(flag: '-r' | '-x', path: string, runAs: RunAs | undefined): boolean {
  return spawnSync('/bin/sh', ['-c', `test ${flag} "$1"`, 'sh', path], { ...runAs, cwd: '/', stdio: 'ignore' }).status === 0
}

export async function giveTo(runAs: RunAs | undefined, path: string): Promise<void> {
  if (runAs) await chown(path, runAs.uid, runAs.gid)
}

/** $TMPDIR may be private too. */
export function temporaryDirectory(runAs: RunAs | undefined): string {
  return may('-x', tmpdir(), runAs) ? tmpdir() : '/tmp'
}

export function unavailable(message: string, fix?: string, detail?: string): ChaperoneError {
  return new ChaperoneError('unavailable_here', message, { ...(fix && { fix }), ...(detail && { detail }) })
}
