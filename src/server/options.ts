import { isIP } from 'node:net'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { ChaperoneError } from '../errors.ts'
import { ROOT_CREDENTIAL } from '../keys/root-key.ts'
import { FORWARDED_HEADERS } from '../network/forwarded.ts'

const hostPort = z.string().regex(/^(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}$/, 'write HOST:PORT')

/** Everything `chaperone up` can be told; docs/reference/configuration.md is generated from this schema. */
export const serverOptions = z.strictObject({
  dataDir: z.string().describe('directory of the store (SQLite) and of the node id; made with mode 0700'),
  store: z
    .url({ protocol: /^postgres(ql)?$/ })
    .optional()
    .describe('keep the store in this PostgreSQL database instead of SQLite'),
  rootKey: z
    .string()
    .optional()
    .describe('file with the root key, outside the data directory; default: <data-dir>.root-key, made on the first start'),
  rootPassphraseFile: z.string().optional().describe('derive the root key from the passphrase in this file'),
  listen: hostPort.default('127.0.0.1:7443').describe('mTLS: data plane and API'),
  webListen: hostPort.default('127.0.0.1:7444').describe('browsers and bearer clients'),
  postgresListen: hostPort.default('127.0.0.1:7432').describe('PostgreSQL clients'),
  publicHost: z
    .array(z.string().min(1))
    .default([])
    .describe('names under which clients reach this server; they go into the server certificate and the Host check'),
  webUrl: z
    .url({ protocol: /^https$/ })
    .optional()
    .describe(
      'address under which browsers reach the web listener, for example https://chaperone.example.com; default: the first public host (else localhost) with the port of the listener. Links lead there, and passkeys belong to its host name',
    ),
  webCert: z.string().optional().describe('PEM file: certificate of the web listener (a company CA, ACME); read again when it changes'),
  webKey: z.string().optional().describe('PEM file: its private key'),
  trustedProxy: z
    .array(z.string().min(1))
    .default([])
    .describe(
      'address or range (CIDR) of a load balancer before the web listener: from there, and from nowhere else, the header of --forwarded-header is believed. It says where a request came from, for limits and the record; it decides nothing else',
    ),
  forwardedHeader: z
    .enum(FORWARDED_HEADERS)
    .default('x-forwarded-for')
    .describe('the header that the load balancer writes; the other one is not read, since it may come from a client'),
  extraCa: z
    .array(z.string().min(1))
    .default([])
    .describe('PEM file with authorities that connections outwards believe too, beside those of Node, of the system and of NODE_EXTRA_CA_CERTS'),
  clientDocument: z
    .url({ protocol: /^https$/ })
    .optional()
    .describe('where authorization servers of MCP servers find our client metadata document; without one Chaperone registers there dynamically'),
  oauthClients: z
    .array(z.string().min(1))
    .default(['*'])
    .describe(
      'hosts (patterns) from which OAuth clients may bring their metadata document, for example claude.ai; default: every public one. Documents of kind oauth-client need no leave',
    ),
  oauthRegistration: z
    .boolean()
    .default(false)
    .describe('lets OAuth clients register themselves (RFC 7591), for those that can nothing else; nobody vouches for what they say of themselves'),
  trustDomain: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?$/, 'lower-case letters, digits, dots and dashes')
    .optional()
    .describe('the SPIFFE trust domain; set on the first start, fixed afterwards; default: chaperone.internal'),
  admin: z.string().default('admin').describe('name of the first administrator, invited on the first start'),
  logLevel: z.enum(['silent', 'error', 'warn', 'info', 'debug']).default('info').describe('how much goes to stderr'),
})

export type ServerOptions = z.infer<typeof serverOptions>
export type ServerOptionsInput = z.input<typeof serverOptions>

/** `$XDG_DATA_HOME/chaperone`, else `~/.local/share/chaperone`. */
export const defaultDataDir = (env: NodeJS.ProcessEnv = process.env) => join(env.XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'chaperone')

export function readOptions(input: ServerOptionsInput): ServerOptions {
  const result = serverOptions.safeParse(input)
  if (!result.success) {
    const first = result.error.issues[0]!
    const flag = String(first.path[0] ?? '').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    throw new ChaperoneError('usage', `--${flag}: ${first.message}`, { fix: 'See `chaperone up --help`.' })
  }
  const options = result.data
  if ((options.webCert === undefined) !== (options.webKey === undefined)) {
    throw new ChaperoneError('usage', '--web-cert and --web-key go together.', { fix: 'Give both files, or neither.' })
  }
  return { ...options, dataDir: resolve(options.dataDir) }
}

export function splitHostPort(text: string): { host: string; port: number } {
  const at = text.lastIndexOf(':')
  return { host: text.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(text.slice(at + 1)) }
}

/** The web listener as people reach it, `host[:port]`. Cookies and passkeys belong to a name, so on this machine it is `localhost`, never its address. */
export function reachableWeb(address: string, { webUrl, publicHost: [publicHost] }: Pick<ServerOptions, 'webUrl' | 'publicHost'>): string {
  if (webUrl !== undefined) return new URL(webUrl).host
  const { host } = splitHostPort(address)
  return reachable(address, publicHost ?? (['0.0.0.0', '::', '127.0.0.1', '::1'].includes(host) ? 'localhost' : undefined))
}

/** The address as others reach it: a public name when there is one; loopback for a listener on every interface. */
export function reachable(address: string, publicHost: string | undefined): string {
  const { host, port } = splitHostPort(address)
  const name = publicHost ?? (host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host)
  return `${isIP(name) === 6 ? `[${name}]` : name}:${port}`
}

/** Chaperone's own files outside the data directory: no stdio server may see them, and no secret may be taken from them. */
export const ownFiles = (options: Pick<ServerOptions, 'rootKey' | 'rootPassphraseFile' | 'webKey' | 'dataDir'>): readonly string[] => {
  const credentials = process.env.CREDENTIALS_DIRECTORY
  // What else systemd hands over may well be the secret of an upstream.
  const credential = credentials === undefined ? undefined : join(credentials, ROOT_CREDENTIAL)
  return [options.rootKey, options.rootPassphraseFile, options.webKey, credential, `${options.dataDir}.root-key`].filter((file) => file !== undefined)
}
