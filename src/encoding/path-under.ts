import { ChaperoneError } from '../errors.ts'

/** `unknown`: the text does not say where it leads (relative, NUL, or systems would read it differently). */
export type Place = 'under' | 'outside' | 'unknown'

/** Without `.`, `..` and empty segments, with a slash in front of each. `..` at the root stays there, as every system reads it. */
function normalise(path: string, separator: RegExp): string {
  const kept: string[] = []
  for (const segment of path.split(separator)) {
    if (segment === '' || segment === '.') continue
    if (segment === '..') kept.pop()
    else kept.push(segment)
  }
  return kept.length === 0 ? '' : `/${kept.join('/')}`
}

interface Readings {
  readonly path: string
  readonly posix: string
  readonly windows: string
}

const SLASH = /\//
const EITHER_SLASH = /[/\\]/

/** The last path read: hundreds of rules ask about the same one in a row. */
let last: Readings = { path: '/', posix: '', windows: '' }

function read(path: string): Readings {
  if (path === last.path) return last
  const posix = normalise(path, SLASH)
  last = { path, posix, windows: path.includes('\\') ? normalise(path, EITHER_SLASH) : posix }
  return last
}

/**
 * A test of where a path leads, relative to `root`. A backslash separates on one system and is part of a name on another,
 * so both readings must agree. Percent signs are left alone: a path is not a URL. Links on disk cannot be seen from here.
 * Throws ChaperoneError('invalid_document') when `root` is not an absolute path.
 */
export function compileUnder(root: string): (path: string) => Place {
  if (!root.startsWith('/') || /[\0\\]/.test(root)) {
    throw new ChaperoneError('invalid_document', `${JSON.stringify(root)} is not an absolute path.`, { fix: 'Write a path that begins with /.' })
  }
  const fence = normalise(root, SLASH)
  const below = `${fence}/`
  const inside = (path: string) => path === fence || path.startsWith(below)
  return (path) => {
    if (!path.startsWith('/') || path.includes('\0')) return 'unknown'
    const { posix, windows } = read(path)
    const under = inside(posix)
    if (inside(windows) !== under) return 'unknown'
    return under ? 'under' : 'outside'
  }
}
