import { type Command, Option } from 'commander'
import type { Profile } from '../client/profile.ts'
import { ChaperoneError } from '../errors.ts'
import { JOIN_METHODS, type JoinMethodName } from '../identity/joining/method.ts'
import { withJson } from './connection.ts'
import { line, moment, printJson } from './output.ts'

/** How a machine joins by what it is. */
export interface JoinFlags {
  readonly method?: JoinMethodName
  readonly as?: string
  readonly server?: string
  readonly tokenFile?: string
  readonly tokenEnv?: string
  readonly keyFile?: string
  readonly certFile?: string
  readonly region?: string
  readonly token?: string
}

interface Flags extends JoinFlags {
  readonly json?: boolean
  readonly purpose?: string
  readonly ttl?: string
}

/** The options of every command that joins by a document. */
function withJoining(command: Command): Command {
  return command
    .addOption(new Option('--method <method>', 'what is shown').choices(JOIN_METHODS))
    .option('--as <name>', 'name of the join document')
    .option('--server <line>', 'which server, as `chaperone get join NAME --line` prints it; default: CHAPERONE_JOIN_SERVER')
    .option('--token-file <file>', 'oidc, gitlab, kubernetes: the file that holds the token')
    .option('--token-env <name>', 'oidc, gitlab: the variable that holds it')
    .option('--key-file <file>', 'bound-key: the key and its count, made when it is not there; x509: the private key')
    .option('--cert-file <file>', 'x509: the certificate, and what stands between it and its authority')
    .option('--region <region>', 'aws: the region whose STS is asked; default: AWS_REGION')
    .option('--token <token>', 'bound-key, the first time: a join token')
}

/** Joins as the flags say. Throws `usage` when they do not say how. */
async function joinByFlags(flags: JoinFlags & { readonly purpose?: string; readonly ttl?: string }): Promise<Profile> {
  const server = flags.server ?? process.env.CHAPERONE_JOIN_SERVER
  if (flags.method === undefined || flags.as === undefined || !server) {
    const missing = [
      ...(flags.method === undefined ? ['--method'] : []),
      ...(flags.as === undefined ? ['--as'] : []),
      ...(server ? [] : ['--server']),
    ]
    throw new ChaperoneError('usage', `To join by what this machine is takes --method, --as and --server; missing: ${missing.join(', ')}.`, {
      fix: 'An administrator prints the line for --server with: chaperone get join NAME --line',
    })
  }
  const { joinAs } = await import('../client/joining/join-as.ts')
  const { method, as, tokenFile, tokenEnv, keyFile, certFile, region, token: register, purpose, ttl } = flags
  return await joinAs({ server, method, as, tokenFile, tokenEnv, keyFile, certFile, region, register, purpose, ttl })
}

/** `chaperone agent join` */
export function join(command: Command): void {
  withJoining(withJson(command.command('join').description('sign this machine in as an agent: with a join token, or by what it is')))
    .argument('[token]', 'a join token: the line that begins with chaperone://, in quotes')
    .option('--purpose <text>', 'what the agent is about to do; stands in every record')
    .option('--ttl <duration>', 'life of each credential, 30s to 12h; default: 3m, or what the join document says')
    .addHelpText(
      'after',
      `
Examples:
  chaperone agent join --purpose "the monthly report" "chaperone://…"
  chaperone agent join --method github --as ci --server "chaperone://…?ca=…&for=…"
  chaperone agent join --method bound-key --as build-machine --server "chaperone://…" --token TOKEN`,
    )
    .action(async (token: string | undefined, flags: Flags) => {
      const profile = token === undefined ? await joinByFlags(flags) : await joinByToken(token, flags)
      const { openProfiles } = await import('../client/profile.ts')
      const profiles = openProfiles()
      await profiles.save(profile, { use: true })
      if (flags.json) return printJson({ name: profile.identity.name, address: profile.address, notAfter: profile.notAfter, home: profiles.home })
      line(`Signed in as ${profile.identity.name} at ${profile.address} until ${moment(profile.notAfter)}; what runs on it renews it.`)
    })
}

async function joinByToken(token: string, { purpose, ttl, method }: Flags): Promise<Profile> {
  if (method !== undefined)
    throw new ChaperoneError('usage', 'Either a join token, or --method: not both.', {
      fix: 'With --method bound-key, the token goes behind --token.',
    })
  const { join: joinWith } = await import('../client/sign-in.ts')
  return await joinWith(token, { ...(purpose === undefined ? {} : { purpose }), ...(ttl === undefined ? {} : { ttl }) })
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
      const { publicKey, made } = await ensureKeyFile(file)
      if (flags.json) return printJson({ publicKey, file, made })
      process.stdout.write(publicKey)
      process.stderr.write(`The private half is in ${file} and stays there. Write this one into the document: bound-key: { keys: [ ... ] }\n`)
    })
}
