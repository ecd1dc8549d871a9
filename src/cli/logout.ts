import { openProfiles } from '../client/profile.ts'
import { toChaperoneError } from '../errors.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, withApi } from './connection.ts'
import { line } from './output.ts'

/** Over already, or nobody to tell: the credential ends by itself. */
const HARMLESS = new Set(['session_ended', 'credential_expired', 'unauthenticated', 'upstream_unavailable'])

export const register: Register = (command) => {
  command
    .option('--server <host:port>', 'default: the server used last')
    .option('--forget', "also delete this machine's key; signing in again then takes a new invitation")
    .addHelpText(
      'after',
      '\nExamples:\n  chaperone logout                   again: chaperone login\n  chaperone logout --forget          this machine is given away',
    )
    .action(async (flags: ServerFlags & { forget?: boolean }) => {
      const profiles = openProfiles()
      const profile = await profiles.load(flags.server)
      try {
        await withApi({ server: profile.address }, (api) => api.call('POST', '/v1/logout', {}))
      } catch (cause) {
        const error = toChaperoneError(cause)
        if (!HARMLESS.has(error.code)) throw error
        process.stderr.write(`The server was not told: ${error.message}\n`)
      }
      if (flags.forget) await profiles.remove(profile.address)
      else await profiles.save({ ...profile, certificate: '', notAfter: 0 })
      line(`Signed out of ${profile.address}.`)
    })
}
