import { ChaperoneError } from '../../../errors.ts'
import { NotSent } from '../types.ts'

/** Why a server was not reached: what a client may know of it, and what an administrator can do. */
interface Kind {
  readonly codes: RegExp
  readonly says: string
  readonly fix: string
  /** It comes before the first byte of the request is on its way. */
  readonly before: boolean
}

const KINDS: readonly Kind[] = [
  {
    codes: /^ECONNREFUSED$/,
    says: 'it refuses connections',
    fix: 'Start it, or correct the port of `url` in its document.',
    before: true,
  },
  {
    codes: /^(ENOTFOUND|EAI_[A-Z]+)$/,
    says: 'its name cannot be resolved',
    fix: 'Correct the name in `url` of its document, or the name service of the machine that Chaperone runs on.',
    before: true,
  },
  {
    codes: /^(EHOSTUNREACH|ENETUNREACH)$/,
    says: 'no way leads to it',
    fix: 'Look at the network between the machine that Chaperone runs on and the server.',
    before: true,
  },
  {
    codes: /^ERR_TLS_CERT_ALTNAME/,
    says: 'its certificate is not for its name',
    fix: 'Write a name that its certificate has into `url` of its document.',
    before: true,
  },
  {
    codes: /^CERT_(HAS_EXPIRED|NOT_YET_VALID)$/,
    says: 'its certificate is not valid now',
    fix: 'Renew its certificate, or correct the clock of the machine that Chaperone runs on.',
    before: true,
  },
  {
    codes: /^(DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|CERT_)/,
    says: 'its certificate is not trusted',
    fix: 'Write the PEM of the authority that signed it into `ca` of its document.',
    before: true,
  },
  { codes: /^(ERR_TLS_|ERR_INVALID_CHAR)/, says: 'no secure connection was made', fix: 'The log of Chaperone has the reason.', before: true },
  {
    codes: /^(EPROTO|ERR_SSL_)/,
    says: 'it does not speak TLS as it must',
    fix: 'Look whether it is `http:` or `https:` in `url` of its document.',
    before: false,
  },
  {
    codes: /^ETIMEDOUT$/,
    says: 'it does not answer',
    fix: 'Look whether it runs, and at the network between the machine that Chaperone runs on and the server.',
    before: false,
  },
  { codes: /^(ECONNRESET|EPIPE)$/, says: 'it closed the connection', fix: 'Look at its log; perhaps it is no MCP server.', before: false },
]

const UNKNOWN: Omit<Kind, 'codes'> = { says: 'the connection failed', fix: 'The log of Chaperone has the reason.', before: false }

/** The error of a connection, without the address in it: that is for the log, where `detail` goes. */
export function failedToReach(name: string, error: NodeJS.ErrnoException & { readonly errors?: readonly unknown[] }): ChaperoneError {
  // Of the proxy on the way, which was reached or not before anything was sent.
  if (error instanceof ChaperoneError)
    return new NotSent('upstream_unavailable', `The MCP server ${name} cannot be reached: ${error.message}`, {
      detail: error.detail ?? '',
      ...(error.fix === undefined ? {} : { fix: error.fix }),
    })
  const code = error.code ?? ''
  const { says, fix, before } = KINDS.find(({ codes }) => codes.test(code)) ?? UNKNOWN
  // Of several addresses none was reached: each has an error of its own, and together they have no text.
  const detail = [code, error.message, ...(error.errors ?? []).map(String)].filter(Boolean).join(' ')
  const never = before || error.syscall === 'connect'
  return new (never ? NotSent : ChaperoneError)('upstream_unavailable', `The MCP server ${name} cannot be reached: ${says}.`, { detail, fix })
}
