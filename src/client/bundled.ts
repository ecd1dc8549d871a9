import { ChaperoneError } from '../errors.ts'
import { parseServer } from '../identity/invitations.ts'
import { type BrowserSignIn, signInByBrowser } from './browser-sign-in.ts'
import { serverOf } from './device-sign-in.ts'
import { keepAs } from './keep.ts'
import { openProfiles } from './profile.ts'
import { runShim } from './shim.ts'

/** What the maker of a bundle knew. Nothing of it is secret. */
export interface Carried {
  /** the MCP server; absent: all that one may use, as one */
  readonly mcp?: string
  /** What the shim is called: the person's agent is `PERSON/<client>`. */
  readonly client: string
  /** Where to sign in on a computer on which nobody has; `authorities` is PEM. */
  readonly first?: { readonly address: string; readonly authorities: string }
}

/** What its user entered; a client leaves the place-holder of what he did not. */
const entered = (env: NodeJS.ProcessEnv, name: string): string | undefined => {
  const value = env[name]?.trim()
  return value === undefined || value === '' || value.startsWith('${') ? undefined : value
}

const say = (text: string) => void process.stderr.write(`chaperone: ${text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ')}\n`)

/**
 * The shim as a `.mcpb` bundle carries it, on a computer where nothing else of Chaperone is: who is not signed in signs in at
 * the page that opens. With Chaperone there, both use the same sign-in.
 */
export async function start({ mcp, client, first }: Carried, env: NodeJS.ProcessEnv = process.env): Promise<void> {
  // A client that does not read what we say, or has gone: that alone ends nothing.
  process.stderr.on('error', () => {})
  const home = entered(env, 'CHAPERONE_BUNDLE_HOME')
  if (home !== undefined) process.env.CHAPERONE_HOME = home
  const named = entered(env, 'CHAPERONE_BUNDLE_SERVER')
  const narrowed = entered(env, 'CHAPERONE_BUNDLE_PROFILE')
  const profiles = openProfiles()
  const whole = named?.startsWith('chaperone:') ? named : undefined
  const address = whole === undefined ? (named ?? first?.address) : parseServer(whole)?.address

  const connect = async (label: string) => {
    const profile = await profiles.load(address)
    return keepAs(profile, profiles.file(profile.address), { client: label, profile: narrowed }, say)
  }

  const whereTo = async (): Promise<BrowserSignIn> => {
    const known = await profiles.load(address).catch((error: unknown) => {
      if (error instanceof ChaperoneError && error.code === 'unauthenticated') return undefined
      throw error
    })
    if (known) {
      const { identity, session, bundles } = known
      if (identity.kind !== 'user') throw new ChaperoneError('unauthenticated', `${identity.name} is an agent: it joins again by itself.`)
      return { address: known.address, authorities: bundles.server, name: identity.name, session }
    }
    if (whole !== undefined) return serverOf(whole, () => profiles.load(address))
    if (first && first.address === address) return first
    const where = address === undefined ? 'It is not known which Chaperone is yours.' : `The authorities of ${address} are not known here.`
    throw new ChaperoneError('unauthenticated', where, {
      fix: 'In the settings of this extension, enter under Server the line that the page https://<web address of Chaperone>/device shows (chaperone://…).',
    })
  }

  const stop = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => stop.abort(name))
  const code = await runShim({
    server: mcp,
    client,
    input: process.stdin,
    output: process.stdout,
    say,
    connect,
    // Claude Desktop gives the first message a minute, and does not start a second time what could not answer it.
    signInWaitMs: 50_000,
    signIn: async () => signInByBrowser(await whereTo(), { profiles, say }),
    signal: stop.signal,
  })
  process.exit(code)
}
