import type { Command } from 'commander'
import type { Api } from '../client/api.ts'
import type { ApiError } from '../client/api-error.ts'
import type { Keeper } from '../client/credential.ts'
import type { Profile } from '../client/profile.ts'
import { ChaperoneError } from '../errors.ts'
import { ask, stopped } from './terminal.ts'

/** Options of every command that talks to the server. (What a page of help does not need is imported where it is used.) */
export interface ServerFlags {
  readonly server?: string
  readonly identity?: string
  readonly totp?: string
  /** to wait for whoever must say yes */
  readonly wait?: boolean
}

export function withServer(command: Command): Command {
  return command
    .option('--server <host:port>', 'the server to talk to; default: the one signed in to last')
    .option('--identity <file>', 'use the credential in this file (from `chaperone issue --out`)')
    .option('--totp <code>', 'the second factor, where one is needed; else it is asked for, or taken from CHAPERONE_TOTP')
}

export const withJson = (command: Command): Command => command.option('--json', 'as JSON, for programs')

/** The profile that the flags name. Throws `unauthenticated`. */
export async function profileFor(flags: ServerFlags): Promise<Profile> {
  refuseInside(flags)
  const { openProfiles, readProfile } = await import('../client/profile.ts')
  if (flags.identity !== undefined) {
    try {
      return await readProfile(flags.identity)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      throw new ChaperoneError('unauthenticated', `There is no file ${flags.identity}.`, { fix: 'Make one with `chaperone issue NAME --out FILE`.' })
    }
  }
  return await openProfiles().load(flags.server)
}

/** What keeps a profile from being known, and is no fault of the command: nobody is signed in, or the key store is locked. */
const UNKNOWN = new Set(['unauthenticated', 'unavailable_here'])

/** The same where a command works without one. */
export async function profileIfKnown(flags: ServerFlags): Promise<Profile | undefined> {
  if (runSocket(flags) !== undefined) return undefined
  try {
    return await profileFor(flags)
  } catch (error) {
    if (error instanceof ChaperoneError && UNKNOWN.has(error.code) && flags.identity === undefined) return undefined
    throw error
  }
}

/** A code from the flag or the environment, else asked for; undefined when nobody is there to ask. */
export async function totpCode(flags: ServerFlags, question = 'Code from your authenticator: '): Promise<string | undefined> {
  const given = flags.totp ?? process.env.CHAPERONE_TOTP
  // A variable that is set to nothing gives nothing.
  if (given !== undefined && given !== '') return given
  return process.stdin.isTTY ? await ask(question) : undefined
}

/** Inside of a run its socket is the way, unless another one is named. */
export function runSocket({ server, identity }: ServerFlags): string | undefined {
  return server === undefined && identity === undefined ? process.env.CHAPERONE_SOCKET || undefined : undefined
}

/** What needs the credential itself is not for who runs inside: its runner keeps that. */
export function refuseInside(flags: ServerFlags): void {
  if (runSocket(flags) === undefined) return
  throw new ChaperoneError('usage', 'This is a run already: its credential stays with its runner.', {
    fix: 'Use the sockets that the run has opened: `chaperone mcp connect`, `psql service=NAME`, `chaperone requests ask`.',
  })
}

/** A live credential for tools: an agent of the person who is signed in, or the agent itself. */
export async function keepFor(
  flags: ServerFlags & { readonly purpose?: string; readonly profile?: string },
  client: string,
  say: (line: string) => void,
): Promise<Keeper> {
  const profile = await profileFor(flags)
  const { keepAs } = await import('../client/keep.ts')
  const { openProfiles } = await import('../client/profile.ts')
  const { purpose, profile: narrowed } = flags
  return keepAs(profile, flags.identity ?? openProfiles().file(profile.address), { client, purpose, profile: narrowed }, say)
}

/** Holds a local door open until `stop`, or until its credential has ended, which is the reason that is thrown. */
export async function holdOpen(door: { close(): Promise<void> }, keeper: Keeper, stop: AbortSignal): Promise<void> {
  await stopped(AbortSignal.any([stop, keeper.signal]))
  await door.close()
  const ended = keeper.signal.aborted ? (keeper.signal.reason as ChaperoneError) : undefined
  await keeper.close()
  if (ended) throw ended
}

/** Runs `work` with the API as the signed-in identity. */
export async function withApi<T>(flags: ServerFlags, work: (api: Api, profile: Profile) => Promise<T>): Promise<T> {
  const socket = runSocket(flags)
  if (socket !== undefined) {
    const { apiInside, profileInside } = await import('../client/running/inside.ts')
    const api = apiInside(socket)
    try {
      return await work(api, await profileInside(api))
    } finally {
      api.close()
    }
  }
  const profile = await profileFor(flags)
  const { assertSignedIn } = await import('../client/keep.ts')
  assertSignedIn(profile)
  const { openApi } = await import('../client/api.ts')
  const api = openApi({
    address: profile.address,
    authorities: profile.bundles.server,
    identity: profile,
    factor: () => totpCode(flags),
    approval: (request) => waitedFor(request, flags),
  })
  try {
    return await work(api, profile)
  } finally {
    api.close()
  }
}

export const withWait = (command: Command): Command => command.option('--wait', 'where a rule wants the yes of somebody else: wait for it')

/** At a terminal, and where it is wished for, a command waits for the yes that it needs, and then goes on. */
async function waitedFor({ id, url, approvers }: NonNullable<ApiError['request']>, flags: ServerFlags): Promise<boolean> {
  if (!flags.wait && !process.stdin.isTTY) return false
  const { say } = await import('./output.ts')
  say(`This needs a yes: ${approvers}, at ${url} or with \`chaperone requests approve ${id}\`.`)
  const { decisionOf, notGranted } = await import('./decision.ts')
  const row = await decisionOf(id, flags)
  if (row.state !== 'approved') throw notGranted(row)
  return true
}

/** An argument as a part of a path. */
export const segment = (text: string): string => encodeURIComponent(text)

/** A query string of what is set. */
export function query(values: Readonly<Record<string, string | number | boolean | undefined>>): string {
  const set = new URLSearchParams()
  for (const [key, value] of Object.entries(values)) if (value !== undefined) set.set(key, String(value))
  return set.size === 0 ? '' : `?${set}`
}

/** Commander's way to let an option stand several times. */
export const collect = (value: string, before: readonly string[] = []): string[] => [...before, value]

export function wholeNumber(name: string, least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!/^\d+$/.test(text) || value < least || value > most) throw new ChaperoneError('usage', `${name} is a number from ${least} to ${most}.`)
    return value
  }
}
