import { openProfiles, type Profile, type Profiles } from '../client/profile.ts'
import { beginEnrolment, type Enrolment, signInAgain } from '../client/sign-in.ts'
import { ChaperoneError, toChaperoneError } from '../errors.ts'
import { parseServer } from '../identity/invitations.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, totpCode } from './connection.ts'
import { fail, line, moment, printable } from './output.ts'
import { terminalQr } from './qr.ts'
import { ask, stopSignal } from './terminal.ts'

const TRIES = 3

export const register: Register = (command) => {
  command
    .argument('[invitation]', 'the line that begins with chaperone://, in quotes; leave it out to sign in again')
    .option('--server <host:port>', 'sign in again to this server; default: the one used last')
    .option('--device', 'sign in from a browser, on this machine or another: a code is shown here and typed there')
    .option('--with <directory>', 'the same in the browser of this machine, at the directory of the company')
    .option('--totp <code>', 'the code, instead of being asked for it (or CHAPERONE_TOTP)')
    .addHelpText(
      'after',
      `
Examples:
  chaperone login 'chaperone://chaperone.example.com:7443/SECRET?ca=HASH'
  chaperone login                    again, with a code of your authenticator app
  chaperone login --device           again, from any browser
  chaperone login --with okta 'chaperone://chaperone.example.com:7443?ca=HASH'
                                     the first time, without an invitation`,
    )
    .action(async (invitation: string | undefined, flags: ServerFlags & { device?: boolean; with?: string }) => {
      const profiles = openProfiles()
      if (flags.device || flags.with !== undefined) {
        return keep(profiles, await fromBrowser(invitation, flags, () => profiles.load(flags.server)))
      }
      if (invitation !== undefined && parseServer(invitation))
        throw new ChaperoneError('usage', 'This line names a server, and holds no invitation.', {
          fix: 'Sign in from a browser: chaperone login --device LINE, or at the directory of the company: chaperone login --with NAME LINE',
        })
      await keep(profiles, invitation === undefined ? await again(await profiles.load(flags.server), flags) : await first(invitation, flags))
    })
}

async function keep(profiles: Profiles, profile: Profile): Promise<void> {
  const why = await profiles.save(profile, { use: true })
  line(`Signed in as ${profile.identity.name} at ${profile.address} until ${moment(profile.notAfter)}.`)
  // Somebody who believes that his key is where his desktop guards it should know when it is not.
  if (why)
    process.stderr.write(
      `Your key is in an encrypted file instead: ${printable(why.message)} ${printable(why.detail ?? '')}\n`.replace(/ +\n$/, '\n'),
    )
}

async function fromBrowser(given: string | undefined, flags: { readonly with?: string }, known: () => Promise<Profile>): Promise<Profile> {
  const { beginDeviceSignIn, serverOf } = await import('../client/device-sign-in.ts')
  const waiting = await beginDeviceSignIn(await serverOf(given, known))
  try {
    if (flags.with === undefined)
      process.stderr.write(`Open ${printable(waiting.url)} in any browser, and type this code there:\n\n  ${printable(waiting.code)}\n\n`)
    else {
      const url = new URL(waiting.urlWithCode)
      url.searchParams.set('with', flags.with)
      const { openBrowser } = await import('../client/open-browser.ts')
      process.stderr.write(`Your browser opens ${printable(url.href)}\nThe page must show this code:\n\n  ${printable(waiting.code)}\n\n`)
      openBrowser(url, () => process.stderr.write('No browser could be opened: open the address yourself.\n'))
    }
    process.stderr.write('Say yes only on a page that shows this very code. Waiting for ten minutes ...\n')
    return await waiting.finish(stopSignal())
  } finally {
    waiting.close()
  }
}

async function again(profile: Profile, flags: ServerFlags): Promise<Profile> {
  if (profile.identity.kind !== 'user') {
    throw new ChaperoneError('usage', `${profile.identity.name} is an agent.`, {
      fix: 'An agent signs in with a new join token: chaperone agent join TOKEN',
    })
  }
  return await withCode(flags, (code) => signInAgain(profile, code))
}

async function first(invitation: string, flags: ServerFlags): Promise<Profile> {
  const enrolment: Enrolment = await beginEnrolment(invitation)
  try {
    const { name, trustDomain, totp } = enrolment.offer
    process.stderr.write(`You are invited as ${printable(name)} to ${printable(trustDomain)}.\n`)
    process.stderr.write(`Add this to your authenticator app (on your telephone, where no agent can read it):\n`)
    if (process.stderr.isTTY) process.stderr.write(terminalQr(totp.uri, process.stderr.columns) ?? '')
    process.stderr.write(`  secret  ${printable(totp.secret)}\n  or      ${printable(totp.uri)}\n`)
    return await withCode(flags, (code) => enrolment.finish(code))
  } finally {
    enrolment.close()
  }
}

/** A mistyped code may be typed again; a wrong one from a flag is final. */
async function withCode(flags: ServerFlags, use: (code: string) => Promise<Profile>): Promise<Profile> {
  for (let attempt = 1; ; attempt++) {
    const code = (await totpCode(flags)) ?? (await ask('Code from your authenticator: '))
    if (!code)
      throw new ChaperoneError('factor_required', 'A code from your authenticator is needed.', {
        fix: 'Run this in a terminal, or give the code with --totp (not with an invitation: it shows a new secret each time). Whoever signs in at the company: chaperone login --with NAME',
      })
    try {
      return await use(code.replace(/\s+/g, ''))
    } catch (error) {
      const known = toChaperoneError(error)
      const mayTryAgain = known.code === 'factor_invalid' && process.stdin.isTTY && flags.totp === undefined && !process.env.CHAPERONE_TOTP
      if (!mayTryAgain || attempt >= TRIES) throw error
      fail(known)
      process.exitCode = 0
    }
  }
}
