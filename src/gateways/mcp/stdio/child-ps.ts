import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** A process as `ps` tells of it, where there is no /proc (macOS). */
export interface Told {
  readonly pid: number
  readonly parent: number
  readonly group: number
  readonly uid: number
  /** bytes */
  readonly rss: number
  /** its command, and behind it its environment, as far as we may see that: not of programs that macOS itself protects */
  readonly environ: string
}

const COLUMNS = 'pid=,ppid=,pgid=,uid=,rss=,stat=,command='
/** `-E` of macOS is the `e` that others have kept from BSD. */
const argumentsOf = (platform: NodeJS.Platform) => (platform === 'darwin' ? ['-axwwE', '-o', COLUMNS] : ['axwwe', '-o', COLUMNS])

const MOST_BYTES = 64 * 1024 * 1024
const LONGEST_MS = 5_000

/** All processes, zombies left out. Rejects where there is no `ps`. */
export async function askPs(platform: NodeJS.Platform = process.platform): Promise<readonly Told[]> {
  const asking = promisify(execFile)('/bin/ps', argumentsOf(platform), { maxBuffer: MOST_BYTES, timeout: LONGEST_MS, env: { LC_ALL: 'C' } })
  const own = asking.child.pid
  return readPs((await asking).stdout).filter(({ pid }) => pid !== own)
}

export const readPs = (text: string): readonly Told[] =>
  text.split('\n').flatMap((line) => {
    const [, pid, parent, group, uid, rss, state = '', environ = ''] = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s(.*)$/.exec(line) ?? []
    if (pid === undefined || /^[ZX]/.test(state)) return []
    return [{ pid: Number(pid), parent: Number(parent), group: Number(group), uid: Number(uid), rss: Number(rss) * 1024, environ }]
  })

/** Words stand there between blanks; a value with blanks in it can only be found by one that has none. */
export const tells = ({ environ }: Pick<Told, 'environ'>, variable: string): boolean => ` ${environ} `.includes(` ${variable} `)
