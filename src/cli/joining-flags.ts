import { type Command, Option } from 'commander'
import type { JoinAs } from '../client/joining/join-as.ts'
import { ChaperoneError } from '../errors.ts'
import { JOIN_METHODS, type JoinMethodName } from '../identity/joining/method.ts'

/** How a machine joins: the same words for `agent join` and `agent run`. */
export interface JoiningFlags {
  readonly join?: string
  readonly method?: JoinMethodName
  readonly as?: string
  readonly register?: string
  readonly tokenFile?: string
  readonly tokenEnv?: string
  readonly keyFile?: string
  readonly certFile?: string
  readonly region?: string
  readonly purpose?: string
  readonly ttl?: string
}

export const withJoining = (command: Command): Command =>
  command
    .option('--join <line>', 'a join token; with --method the line of the server (`chaperone get join NAME --line`). Default: CHAPERONE_JOIN')
    .addOption(new Option('--method <method>', 'how the machine shows what it is').choices(JOIN_METHODS))
    .option('--register <token>', 'bound-key, the first time: a join token')
    .option('--token-file <file>', 'oidc, gitlab, kubernetes: the file that holds the token of the machine')
    .option('--token-env <name>', 'oidc, gitlab: the variable that holds it')
    .option('--key-file <file>', 'bound-key: the key and its count, made when it is not there; x509: the private key')
    .option('--cert-file <file>', 'x509: the certificate, and what stands between it and its authority')
    .option('--region <region>', 'aws: the region whose STS is asked; default: AWS_REGION')
    .option('--ttl <duration>', 'life of each credential, 30s to 12h; default: 3m, or what the join document says')

/** A variable that is set to nothing gives nothing. */
export const joinLine = ({ join }: JoiningFlags): string | undefined => join ?? (process.env.CHAPERONE_JOIN || undefined)

/** What `joinAs` is told. Throws `usage` when the flags do not say how. */
export function joinAsked(flags: JoiningFlags): JoinAs {
  const server = joinLine(flags)
  const { method, as } = flags
  if (method === undefined || as === undefined || server === undefined) {
    const missing = [
      ...(method === undefined ? ['--method'] : []),
      ...(as === undefined ? ['--as'] : []),
      ...(server === undefined ? ['--join (CHAPERONE_JOIN is not set either)'] : []),
    ]
    throw new ChaperoneError('usage', `To join by what this machine is takes --method, --as and --join; missing: ${missing.join(', ')}.`, {
      fix: `An administrator prints the line for --join with: chaperone get join ${as ?? 'NAME'} --line`,
    })
  }
  const { register, tokenFile, tokenEnv, keyFile, certFile, region, purpose, ttl } = flags
  return { server, method, as, register, tokenFile, tokenEnv, keyFile, certFile, region, purpose, ttl }
}
