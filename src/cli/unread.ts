import { ChaperoneError } from '../errors.ts'

const WORDS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'there is no such file',
  EACCES: 'this user may not',
  EPERM: 'this user may not',
  EISDIR: 'it is a folder',
  ELOOP: 'its links lead in a circle',
}

/** Why a file that somebody named could not be read, for whoever named it. */
export function unread(path: string, cause: unknown, fix: string): ChaperoneError {
  const { code = 'unknown' } = cause as NodeJS.ErrnoException
  return new ChaperoneError('usage', `${path} cannot be read: ${WORDS[code] ?? code}.`, { fix, cause })
}
