import type { Credential } from '../../api/contract.ts'
import { ChaperoneError } from '../../errors.ts'
import type { ServerLine } from '../../identity/joining/line.ts'
import type { JoinMethodName } from '../../identity/joining/method.ts'

/** Where this machine has what it shows, as far as that is not known by itself. */
export interface ObtainOptions {
  /** default: of the process */
  readonly env?: NodeJS.ProcessEnv | undefined
  /** file with the token: oidc, kubernetes, gitlab */
  readonly tokenFile?: string | undefined
  /** name of the variable that holds it: oidc, gitlab */
  readonly tokenEnv?: string | undefined
  /** bound-key: the file that holds the key and its count, made when it is not there. x509: the private key */
  readonly keyFile?: string | undefined
  /** x509: the certificate and what stands between it and its authority, in PEM */
  readonly certFile?: string | undefined
  /** bound-key: a join token, the first time */
  readonly register?: string | undefined
  /** aws: the region whose STS is asked; default: AWS_REGION */
  readonly region?: string | undefined
}

export interface Obtaining extends ObtainOptions {
  readonly line: ServerLine
  /** name of the document */
  readonly as: string
  /** base64url of the sha256 of the key that the certificate will be for */
  readonly csrKey: string
  /** a nonce of the server, for what is signed for this moment */
  readonly challenge: () => Promise<string>
}

/** Shows a proof to the server, and is given what came of it. */
export type Show = (proof: Readonly<Record<string, unknown>>) => Promise<Credential>

/** One way to come by a proof: gets it, shows it, and keeps what must be kept before the credential is used. */
export type Present = (ask: Obtaining, show: Show) => Promise<Credential>

/** Methods are loaded when they are asked for: the AWS packages alone take longer than a join. */
const PRESENT: Readonly<Record<JoinMethodName, () => Promise<Present>>> = {
  oidc: async () => (await import('./token.ts')).presentToken,
  gitlab: async () => (await import('./token.ts')).presentGitlab,
  kubernetes: async () => (await import('./token.ts')).presentKubernetes,
  github: async () => (await import('./github.ts')).presentGithub,
  aws: async () => (await import('./aws.ts')).presentAws,
  'bound-key': async () => (await import('./bound-key.ts')).presentBoundKey,
  x509: async () => (await import('./x509.ts')).presentX509,
}

export async function presentProof(method: JoinMethodName, ask: Obtaining, show: Show): Promise<Credential> {
  const present = await PRESENT[method]()
  return await present(ask, show)
}

/** Something that should be on this machine is not: said with what to do. */
export const lacking = (message: string, fix: string) => new ChaperoneError('usage', message, { fix })
