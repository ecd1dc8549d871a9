import { mkdir, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type Clock, systemClock } from '../clock.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { beginDeviceSignIn, type DeviceSignIn } from './device-sign-in.ts'
import { openBrowser } from './open-browser.ts'
import { type Profiles, writePrivately } from './profile.ts'
import type { SignInPage } from './sign-in-inside.ts'
import { sleepAwake } from './sleep.ts'
import { claim, holder, type Turn } from './turn.ts'

/** Whose sign-in, and where. */
export interface BrowserSignIn {
  readonly address: string
  /** PEM of the server authorities: the only ones believed */
  readonly authorities: string
  /** Nobody else counts; undefined where nobody was signed in before. */
  readonly name?: string
  /** The session that is over. */
  readonly session?: string
}

export interface BrowserParts {
  readonly profiles: Profiles
  readonly say: (line: string) => void
  readonly clock?: Clock
  /** The person's browser, or a fake of it. */
  readonly open?: typeof openBrowser
  readonly begin?: (where: BrowserSignIn, clock: Clock) => Promise<DeviceSignIn>
}

/** What stands in the file while somebody signs in. */
interface Signing extends Turn {
  readonly page?: { readonly url: string; readonly code: string; readonly expiresAt: number }
}

const LOOK_MS = 500
/** To get a code from the server: one that has none after this long is gone. */
const BEGIN_MS = 30_000
const never = new AbortController().signal

/**
 * Opens the page of Chaperone in the person's browser, and saves who has signed in there. A client starts one process for each
 * server, and all of them find at the same moment that the sign-in has ended: one opens the page, the others wait for the same.
 */
export async function signInByBrowser(where: BrowserSignIn, parts: BrowserParts): Promise<SignInPage> {
  const { profiles } = parts
  const clock = parts.clock ?? systemClock
  const file = `${profiles.file(where.address)}.signing-in`
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const until = clock.now() + BEGIN_MS
  for (;;) {
    if (await claim(file)) return lead(where, parts, clock, file)
    const turn = await holder<Signing>(file)
    const page = turn === 'begun' ? undefined : turn?.page
    if (turn === undefined || (page ? page.expiresAt <= clock.now() : clock.now() >= until)) await rm(file, { force: true })
    else if (page) return { ...page, done: follow(where, profiles, clock, file) }
    else await sleepAwake(clock, LOOK_MS, never)
  }
}

async function lead(
  where: BrowserSignIn,
  { profiles, say, open = openBrowser, begin = beginDeviceSignIn }: BrowserParts,
  clock: Clock,
  file: string,
) {
  try {
    const waiting = await begin(where, clock)
    const { code, expiresAt } = waiting
    const url = new URL(waiting.urlWithCode)
    const turn: Signing = { pid: process.pid, page: { url: url.href, code, expiresAt } }
    await writePrivately(file, JSON.stringify(turn))
    const { promise: unseen, resolve } = Promise.withResolvers<void>()
    const failed = () => {
      say(`no browser could be opened: open ${url.href} yourself`)
      resolve()
    }
    if (!open(url, failed)) failed()
    return { url: url.href, code, unseen, done: finished(waiting, where, profiles).finally(() => rm(file, { force: true })) }
  } catch (error) {
    await rm(file, { force: true })
    throw error
  }
}

async function finished(waiting: DeviceSignIn, { name }: BrowserSignIn, profiles: Profiles): Promise<void> {
  try {
    const fresh = await waiting.finish(never)
    // Whoever else uses this browser would lend his rights to a client that was set up for somebody else.
    if (name !== undefined && fresh.identity.name !== name)
      throw new ChaperoneError('credential_invalid', `That was ${fresh.identity.name}, and ${name} is signed in on this computer.`, {
        fix: 'Sign in as the same person, or change over with: chaperone login',
      })
    await profiles.save(fresh)
  } finally {
    waiting.close()
  }
}

/** Another process waits for the person: when it is done, either somebody is signed in, or it was for nothing. */
async function follow({ address, session }: BrowserSignIn, profiles: Profiles, clock: Clock, file: string): Promise<void> {
  for (;;) {
    await sleepAwake(clock, LOOK_MS, never)
    const turn = await holder<Signing>(file)
    if (turn !== undefined && turn !== 'begun' && turn.page && turn.page.expiresAt > clock.now()) continue
    const now = await profiles.load(address).catch((error: unknown) => {
      if (toChaperoneError(error).code === 'unauthenticated') return undefined
      throw error
    })
    if (now && now.certificate !== '' && now.session !== session) return
    throw new ChaperoneError('factor_required', 'Nobody has signed in at the page that was open.')
  }
}
