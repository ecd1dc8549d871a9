import { existsSync } from 'node:fs'
import { type Browser, type BrowserContext, type CDPSession, chromium, type Page } from 'playwright-core'

const EXECUTABLE = process.env.CHAPERONE_CHROMIUM ?? '/usr/bin/chromium'

/** Why the tests in a real browser cannot run here; false when they can. */
export const noChromium: string | false = existsSync(EXECUTABLE)
  ? false
  : `there is no chromium at ${EXECUTABLE} (or name one with CHAPERONE_CHROMIUM)`

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Browsers give no passkeys to a page whose certificate they do not trust, and the one of a test is of nobody they know.
  '--ignore-certificate-errors',
]

/** How long a page, or the browser itself, may take on a machine that has much else to do: only against hanging. */
const PATIENCE_MS = 120_000

export async function launch(): Promise<Browser> {
  const browser = await chromium.launch({ executablePath: EXECUTABLE, headless: true, args: FLAGS, timeout: PATIENCE_MS })
  browser.on('context', (context) => context.setDefaultTimeout(PATIENCE_MS))
  return browser
}

/** A browser profile of its own: cookies of nobody else. */
export async function profile(browser: Browser, viewport = { width: 1200, height: 900 }): Promise<BrowserContext> {
  return browser.newContext({ ignoreHTTPSErrors: true, viewport })
}

export interface Authenticator {
  readonly cdp: CDPSession
  readonly id: string
}

/** An authenticator that says yes, with user verification, to whatever this page asks. */
export async function authenticator(page: Page, verified = true): Promise<Authenticator> {
  const cdp = await page.context().newCDPSession(page)
  await cdp.send('WebAuthn.enable')
  const { authenticatorId } = await cdp.send('WebAuthn.addVirtualAuthenticator', {
    options: {
      protocol: 'ctap2',
      transport: 'internal',
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: verified,
      automaticPresenceSimulation: true,
    },
  })
  return { cdp, id: authenticatorId }
}
