import { ChaperoneError, toChaperoneError } from '../errors.ts'

/** How the person signs in again while a client waits. */
export interface SignInPage {
  /** already before his eyes, where a browser could be opened */
  readonly url: string
  readonly code: string
  /** Resolves when he has signed in. */
  readonly done: Promise<void>
  /** Resolves when it turns out that no browser could be opened: he sees the page only if the client tells him. */
  readonly unseen?: Promise<void>
}

/** What a sign-in mends. A lock, or an identity that is disabled, is mended by nobody here. */
const MENDED = new Set(['credential_expired', 'unauthenticated', 'session_ended'])
/** Clients wait for an answer about a minute, and for the first one half of that. */
const WAIT_MS = 20_000

/** Refused for now: the page is open, and the call succeeds once he has signed in. */
export class SignInNeeded extends ChaperoneError {
  readonly page: SignInPage

  /** `never`: nobody has signed in here so far. */
  constructor(page: SignInPage, never: boolean) {
    super('unauthenticated', never ? 'You are not signed in at Chaperone.' : 'Your sign-in at Chaperone has ended.', {
      fix: `Sign in at ${page.url} (code ${page.code}), then call again: nothing needs to be started anew.`,
    })
    this.name = 'SignInNeeded'
    this.page = page
  }
}

/**
 * `connect`, but where the sign-in has ended the person is asked to sign in, once for all that wait, and it goes on by itself
 * when he has. Whoever has waited long enough is told with SignInNeeded; nothing was sent yet, so he may simply try again.
 */
export function signingIn<T>(
  connect: () => Promise<T>,
  parts: {
    readonly open: () => Promise<SignInPage>
    readonly say: (line: string) => void
    readonly wait: (ms: number) => Promise<void>
    /** How long a call waits for him. */
    readonly waitMs?: number | undefined
    /** He has signed in, after somebody was told to try again. */
    readonly signedIn: (page: SignInPage) => void
  },
): () => Promise<T> {
  let page: Promise<SignInPage> | undefined

  const begin = (never: boolean): Promise<SignInPage> => {
    page ??= (async () => {
      const opened = await parts.open()
      parts.say(`${never ? 'you are not signed in' : 'your sign-in has ended'}: sign in at ${opened.url} (code ${opened.code})`)
      const over = () => {
        page = undefined
      }
      opened.done.then(
        () => {
          over()
          parts.say('signed in')
          parts.signedIn(opened)
        },
        (error: unknown) => {
          over()
          parts.say(`not signed in: ${toChaperoneError(error).message}`)
        },
      )
      return opened
    })()
    page.catch(() => {
      page = undefined
    })
    return page
  }

  return async () => {
    try {
      return await connect()
    } catch (cause) {
      const ended = toChaperoneError(cause)
      if (!MENDED.has(ended.code)) throw cause
      const never = ended.code === 'unauthenticated'
      const opened = await begin(never).catch((error: unknown) => {
        const why = toChaperoneError(error)
        // The same once more: there is nothing to sign in to.
        if (why.message === ended.message) throw cause
        const fix = why.fix ?? ended.fix
        throw new ChaperoneError(why.code, `${ended.message} ${why.message}`, { ...(fix === undefined ? {} : { fix }), cause: why })
      })
      const told = [parts.wait(parts.waitMs ?? WAIT_MS), ...(opened.unseen ? [opened.unseen] : [])]
      const done = await Promise.race([opened.done.then(() => true), ...told.map((one) => one.then(() => false))])
      if (!done) throw new SignInNeeded(opened, never)
      return connect()
    }
  }
}
