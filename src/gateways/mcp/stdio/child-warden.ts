import { type ChildProcess, spawn } from 'node:child_process'
import type { Mark } from './memory.ts'

/** One child, as the warden needs to know it. The group is known only when it runs. */
export interface Ward {
  readonly mark: Mark
  readonly group: number | undefined
  /** what was made for it and goes with it */
  readonly folder: string
}

/**
 * Each line of its input names all children that run now: GROUP:UID:HOME:FOLDER, `-` for what is not known. When the input ends,
 * Chaperone is gone, however it went, and what is named in the last whole line ends with it, also what left its process
 * group and its parent: by its user id, which is its alone, or by its HOME or working folder, which are its alone.
 */
const SCRIPT = `
now=
while IFS= read -r line; do now=$line; done
pid_of() { pid=\${1#/proc/}; pid=\${pid%%/*}; }
for ward in $now; do
  group=\${ward%%:*}; rest=\${ward#*:}; uid=\${rest%%:*}; rest=\${rest#*:}; home=\${rest%%:*}; folder=\${rest#*:}
  case $group in ''|-|0|1|*[!0-9]*) ;; *) kill -KILL -- "-$group" ;; esac
  round=0
  while [ $round -lt 20 ]; do
    round=$((round + 1)); found=
    case $uid in
      ''|-|0|*[!0-9]*) ;;
      *) found=$(grep -ls "^Uid:[[:space:]]*$uid[[:space:]]" /proc/[0-9]*/status) ;;
    esac
    case $home in
      /*) found="$found $(grep -Fxlsz "HOME=$home" /proc/[0-9]*/environ) $(find /proc/[0-9]* -maxdepth 1 -name cwd -lname "$home")" ;;
    esac
    left=
    for file in $found; do
      pid_of "$file"
      grep -qs '^State:[[:space:]]*[ZX]' "/proc/$pid/status" || { kill -STOP "$pid"; left="$left $pid"; }
    done
    [ -n "$left" ] || break
    kill -KILL $left
  done
  case $folder in */chaperone-mcp-*) rm -rf -- "$folder" ;; esac
done
`

/** Stands by for the moment in which Chaperone itself is killed: a small shell that only reads. */
export class Warden {
  readonly #log: (what: string, facts: Record<string, unknown>) => void
  readonly #wards = new Set<Ward>()
  #process: ChildProcess | undefined
  #closed = false

  constructor(log: (what: string, facts: Record<string, unknown>) => void) {
    this.#log = log
  }

  get pid(): number | undefined {
    return this.#process?.pid
  }

  /** From now on this child ends when we do. Tell it before the child starts, and again when its group is known. Returns how to forget it. */
  guard(ward: Ward): () => void {
    this.#wards.add(ward)
    this.#tell()
    return () => {
      if (this.#wards.delete(ward)) this.#tell()
    }
  }

  /** Everything has ended: so does the warden. */
  close(): void {
    this.#closed = true
    this.#wards.clear()
    this.#tell()
    this.#process?.stdin?.end()
  }

  #tell(): void {
    if (!this.#process && this.#wards.size > 0) this.#start()
    this.#process?.stdin?.write(`${[...this.#wards].map(told).join(' ')}\n`)
  }

  #start(): void {
    // A session of its own: what ends our process group does not end it.
    const child = spawn('/bin/sh', ['-c', SCRIPT], {
      cwd: '/',
      env: { PATH: '/usr/bin:/bin' },
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    this.#process = child
    child.unref()
    child.stdin.on('error', () => {})
    ;(child.stdin as unknown as { unref?(): void }).unref?.()
    const gone = (how: unknown) => {
      if (this.#process !== child) return
      this.#process = undefined
      if (this.#closed) return
      this.#log('mcp.warden', { ended: String(how) })
    }
    child.once('error', gone)
    child.once('exit', (code, signal) => gone(code ?? signal))
  }
}

function told({ mark, group, folder }: Ward): string {
  // A blank or colon would be read as an end of the word.
  const path = (path: string | undefined) => (path !== undefined && !/[\s:*?[\]]/.test(path) ? path : '-')
  return `${group ?? '-'}:${mark.uid ?? '-'}:${path(mark.home)}:${path(folder)}`
}
