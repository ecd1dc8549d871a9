import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const NEEDED = ['dbus-daemon', 'dbus-send', 'gnome-keyring-daemon', 'secret-tool'].map((name) => `/usr/bin/${name}`)
const absent = NEEDED.filter((path) => !existsSync(path))

/** Why there is no real Secret Service here; false where there is one. */
export const noDesktop: string | false =
  absent.length === 0 ? false : `${absent.join(', ')} is not here (Debian packages dbus, gnome-keyring, libsecret-tools)`

/** `nobody`, who has no rights that a desktop would give him. */
const ORDINARY = 65534

export interface Desktop {
  /** what a terminal of this desktop has in its environment */
  readonly env: NodeJS.ProcessEnv
  readonly home: string
  /** whose processes they are; empty: of whoever runs the test */
  readonly as: { readonly uid?: number; readonly gid?: number }
  /** As when the screen is locked: nobody could be asked for the password either, for there is no screen. */
  lock(): Promise<void>
  /** The keyring's process dies. */
  kill(): Promise<void>
  /** Somebody logs in again: the keyring is open. */
  start(): Promise<void>
  /** What every `secret-tool` that was found in `env.PATH` had as its command line, as /proc shows it to everybody. */
  commandLines(): Promise<string>
  /** libsecret's own program. */
  tool(...args: readonly string[]): Promise<{ readonly status: number; readonly stdout: string }>
}

interface Test {
  after(work: () => Promise<void>): void
}

/** A session of a desktop without a screen: a bus, and GNOME Keyring with the login keyring open. Gone with the test. */
export async function desktop(t: Test, { ordinary = false }: { readonly ordinary?: boolean } = {}): Promise<Desktop> {
  const as = ordinary ? { uid: ORDINARY, gid: ORDINARY } : {}
  // Not the test's own temporary folder: an ordinary user must reach it.
  const home = await mkdtemp('/tmp/desktop-')
  const runtime = join(home, 'run')
  await mkdir(runtime, { mode: 0o700 })
  await chmod(home, 0o700)
  if (ordinary) for (const folder of [runtime, home]) await chown(folder, ORDINARY, ORDINARY)
  t.after(() => rm(home, { recursive: true, force: true, maxRetries: 5 }))

  // Not by looking into /proc again and again: a process that lives for ten milliseconds would be missed.
  const lines = join(home, 'command-lines')
  const wrapper = join(home, 'bin', 'secret-tool')
  await mkdir(join(home, 'bin'))
  await writeFile(wrapper, `#!/bin/sh\ncat /proc/$$/cmdline >> '${lines}'\nexec /usr/bin/secret-tool "$@"\n`)
  // Whatever the umask is.
  for (const path of [join(home, 'bin'), wrapper]) await chmod(path, 0o755)
  const bare = { PATH: `${join(home, 'bin')}:/usr/bin:/bin`, HOME: home, XDG_RUNTIME_DIR: runtime, LANG: 'C.UTF-8' }
  const bus = spawn('/usr/bin/dbus-daemon', ['--session', '--print-address', '--nofork', '--nopidfile'], {
    ...as,
    env: bare,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  t.after(() => ended(bus))
  const [address] = (await once(createInterface(bus.stdout), 'line')) as [string]
  const env = { ...bare, DBUS_SESSION_BUS_ADDRESS: address }

  let keyring: ChildProcess | undefined
  t.after(async () => {
    if (keyring) await ended(keyring)
  })
  const run = (file: string, args: readonly string[], input = '') =>
    new Promise<{ status: number; stdout: string }>((done, fail) => {
      const child = execFile(file, args, { ...as, env, timeout: 20_000 }, (error, stdout) => {
        if (error && typeof error.code !== 'number') fail(error)
        else done({ status: typeof error?.code === 'number' ? error.code : 0, stdout })
      })
      // One that ends without reading is told by its status.
      child.stdin?.on('error', () => {})
      child.stdin?.end(input)
    })
  const send = async (...args: readonly string[]) => {
    const { status } = await run('/usr/bin/dbus-send', ['--session', '--print-reply', ...args])
    if (status !== 0) throw new Error(`dbus-send ${args.join(' ')}: ${status}`)
  }

  const ofBus = (question: string) => {
    const to = ['--dest=org.freedesktop.DBus', '/', `org.freedesktop.DBus.${question}`, 'string:org.freedesktop.secrets']
    return run('/usr/bin/dbus-send', ['--session', '--print-reply', ...to])
  }
  const start = async () => {
    // The one that the bus has started meanwhile gives its name to nobody.
    if (keyring) {
      const { stdout } = await ofBus('GetConnectionUnixProcessID')
      const other = Number(/uint32 (\d+)/.exec(stdout)?.[1])
      if (other > 1) process.kill(other, 'SIGKILL')
    }
    const one = spawn('/usr/bin/gnome-keyring-daemon', ['--foreground', '--unlock', '--components=secrets', `--control-directory=${runtime}`], {
      ...as,
      env,
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    keyring = one
    one.stdin.end('the password of the desktop')
    await once(one.stdout, 'data')
    // Asked for by its name before it has that, the bus would start another one, which nobody has logged in to. And the keyring is
    // open only some milliseconds after the name is there.
    await until(async () => (await ofBus('NameHasOwner')).stdout.includes('boolean true'))
    await until(async () => (await run('/usr/bin/secret-tool', ['store', '--label=first', 'is', 'open'], 'x')).status === 0)
    await run('/usr/bin/secret-tool', ['clear', 'is', 'open'])
  }
  await start()
  return {
    env,
    home,
    as,
    start,
    commandLines: () => readFile(lines, 'utf8'),
    tool: (...args) => run('/usr/bin/secret-tool', args),
    lock: () =>
      send(
        '--dest=org.freedesktop.secrets',
        '/org/freedesktop/secrets',
        'org.freedesktop.Secret.Service.Lock',
        'array:objpath:/org/freedesktop/secrets/collection/login',
      ),
    async kill() {
      const over = once(keyring!, 'exit')
      keyring!.kill('SIGKILL')
      await over
    },
  }
}

/** Each question is a process of its own, so this does not spin. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  for (let tries = 1; !(await holds()); tries++) if (tries === 500) throw new Error('The Secret Service does not come up.')
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const over = once(child, 'exit')
  child.kill()
  await over
}
