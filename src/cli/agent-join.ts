import type { Command } from 'commander'
import type { Profile } from '../client/profile.ts'
import { ChaperoneError } from '../errors.ts'
import { withJson } from './connection.ts'
import { type JoiningFlags, joinAsked, joinLine, withJoining } from './joining-flags.ts'
import { line, moment, printJson } from './output.ts'

interface Flags extends JoiningFlags {
  readonly json?: boolean
}

/** `chaperone agent join` */
export function join(command: Command): void {
  withJoining(withJson(command.command('join').description('sign this machine in as an agent: with a join token, or by what it is')))
    .argument('[token]', 'a join token: the line that begins with chaperone://, in quotes; the same as --join without --method')
    .option('--as <name>', 'with --method name of the join document; with a token whose it must be')
    .option('--purpose <text>', 'what the agent is about to do; stands in every record')
    .addHelpText(
      'after',
      `
Examples:
  chaperone agent join --purpose "the monthly report" "chaperone://…"
  chaperone agent join --method github --as ci --join "chaperone://…?ca=…&for=…"
  chaperone agent join --method bound-key --as build-machine --join "chaperone://…" --register TOKEN`,
    )
    .action(async (token: string | undefined, flags: Flags) => {
      const profile = await (flags.method === undefined ? joinByToken(token ?? joinLine(flags), flags) : joinByMethod(token, flags))
      const { openProfiles } = await import('../client/profile.ts')
      const profiles = openProfiles()
      await profiles.save(profile, { use: true })
      if (flags.json) return printJson({ name: profile.identity.name, address: profile.address, notAfter: profile.notAfter, home: profiles.home })
      line(`Signed in as ${profile.identity.name} at ${profile.address} until ${moment(profile.notAfter)}; what runs on it renews it.`)
    })
}

async function joinByMethod(token: string | undefined, flags: Flags): Promise<Profile> {
  if (token !== undefined)
    throw new ChaperoneError('usage', 'Either a join token, or --method: not both.', {
      fix: 'With --method bound-key, the token goes behind --register.',
    })
  const asked = joinAsked(flags)
  return (await import('../client/joining/join-as.ts')).joinAs(asked)
}

async function joinByToken(token: string | undefined, { as, purpose, ttl }: Flags): Promise<Profile> {
  if (token === undefined)
    throw new ChaperoneError('usage', 'There is neither a join token nor a --method.', {
      fix: 'A token: chaperone agent token NAME. By what this machine is: --method, --as and --join.',
    })
  const { join: joinWith } = await import('../client/sign-in.ts')
  return await joinWith(token, {
    ...(as === undefined ? {} : { as }),
    ...(purpose === undefined ? {} : { purpose }),
    ...(ttl === undefined ? {} : { ttl }),
  })
}

/** `chaperone agent key` */
export function key(command: Command): void {
  withJson(command.command('key').description('the public key by which this machine joins (method bound-key); made when there is none'))
    .requiredOption('--as <name>', 'name of the join document')
    .option('--key-file <file>', 'where the key is kept; default: beside the profiles')
    .addHelpText('after', '\nExample:\n  chaperone agent key --as build-machine')
    .action(async (flags: { readonly as: string; readonly keyFile?: string; readonly json?: boolean }) => {
      const { ensureKeyFile, keyFileOf } = await import('../client/joining/bound-key.ts')
      const file = keyFileOf({ as: flags.as, keyFile: flags.keyFile, env: process.env })
      const { publicKey, made } = await ensureKeyFile(file, flags.as)
      if (flags.json) return printJson({ publicKey, file, made })
      process.stdout.write(publicKey)
      process.stderr.write(`The private half is in ${file} and stays there. Write this one into the document: bound-key: { keys: [ ... ] }\n`)
    })
}
