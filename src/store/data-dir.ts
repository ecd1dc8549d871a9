import { chmodSync, constants } from 'node:fs'
import { access, mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { ChaperoneError } from '../errors.ts'

/** The directory, ours alone until `release`, or until this process ends in whatever way. */
export interface DataDir {
  readonly path: string
  release(): void
}

/**
 * Makes the directory (0700) or checks the one that is there, and takes it for this process. Throws `already_running`
 * when another process has it, `store_unavailable` with what to do when it cannot be used.
 */
export async function claimDataDir(path: string): Promise<DataDir> {
  await mkdir(path, { recursive: true, mode: 0o700 }).catch((cause) => {
    throw unusable(`The data directory ${path} cannot be made.`, `Make it by hand, owned by the user Chaperone runs as, with mode 0700.`, cause)
  })
  await checkPrivate(path)
  await access(path, constants.R_OK | constants.W_OK | constants.X_OK).catch((cause) => {
    throw unusable(
      `The data directory ${path} cannot be read and written.`,
      'Check its permissions, and that its file system is not mounted read-only.',
      cause,
    )
  })
  const lock = take(path)
  return { path, release: () => lock.close() }
}

async function checkPrivate(path: string): Promise<void> {
  const found = await stat(path).catch((cause) => {
    throw unusable(`The data directory ${path} cannot be looked at.`, 'Check the permissions of the directories above it.', cause)
  })
  if (!found.isDirectory()) throw unusable(`${path} is not a directory.`, 'Give another --data-dir.')
  if (found.uid !== process.geteuid?.()) {
    throw unusable(`The data directory ${path} belongs to another user.`, 'Run Chaperone as its owner, or give another --data-dir.')
  }
  if ((found.mode & 0o077) !== 0) {
    throw unusable(`The data directory ${path} is open to other users (mode ${(found.mode & 0o777).toString(8)}).`, `Run: chmod 700 ${path}`)
  }
}

/**
 * A lock that the kernel gives back however the process ends: SQLite's exclusive lock on a file of its own. A file with
 * a process id would outlive kill -9, and the id may by then be another process's.
 */
function take(path: string): DatabaseSync {
  let lock: DatabaseSync | undefined
  try {
    lock = new DatabaseSync(join(path, 'lock.db'), { timeout: 0 })
    chmodSync(join(path, 'lock.db'), 0o600)
    lock.exec('begin exclusive')
    return lock
  } catch (cause) {
    lock?.close()
    const SQLITE_BUSY = 5
    if ((cause as { errcode?: number }).errcode !== SQLITE_BUSY) {
      throw unusable(`The data directory ${path} cannot be locked.`, 'Check that it is on a local file system that is not full.', cause)
    }
    throw new ChaperoneError('already_running', `Another Chaperone runs on ${path}.`, {
      cause,
      fix: 'Stop that one first, or give another --data-dir.',
    })
  }
}

function unusable(message: string, fix: string, cause?: unknown): ChaperoneError {
  return new ChaperoneError('store_unavailable', message, { fix, cause, ...(cause instanceof Error && { detail: cause.message }) })
}
