import type { Launch } from './isolation.ts'

/** What the loader and the C library of any program read: libraries to run in it, above all. */
const LOADER = /^(?:LD_.*|GLIBC_TUNABLES|GCONV_PATH|LOCPATH|NLSPATH|TZDIR|MALLOC_.*)$/

/**
 * The environment is for the server alone: in the environment of `bwrap` or `setpriv`, which run outside of what they set
 * up, a library named in LD_PRELOAD would run there too, as whoever we are. So such a variable is set by them, for the server.
 */
export function environmentFor(
  launch: Pick<Launch, 'wrapper' | 'args'>,
  env: Readonly<Record<string, string>>,
): { readonly args: readonly string[]; readonly env: Record<string, string> } {
  const names = launch.wrapper === undefined ? [] : Object.keys(env).filter((name) => LOADER.test(name))
  const rest = Object.fromEntries(Object.entries(env).filter(([name]) => !names.includes(name)))
  const end = launch.args.indexOf('--')
  const [before, after] = [launch.args.slice(0, end), launch.args.slice(end + 1)]
  if (names.length === 0) return { args: launch.args, env: rest }
  if (launch.wrapper === 'bwrap') return { args: [...before, ...names.flatMap((name) => ['--setenv', name, env[name]!]), '--', ...after], env: rest }
  return { args: [...before, '--', '/usr/bin/env', ...names.map((name) => `${name}=${env[name]}`), ...after], env: rest }
}
