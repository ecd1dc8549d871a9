/**
 * What a secret looks like, when nobody told us its value. Our own table, because it runs on every record: each detector
 * is tried only where one of its anchors stands, from there to the right, in linear time. secretlint is its oracle in tests.
 *
 * Texts are searched as latin1, one character a byte, so that positions are byte offsets; hence no `\s`, which would take
 * the second byte of `à` (0xA0) for a space and leave half a password standing.
 */
export interface Detector {
  readonly name: string
  /** Lower case; matched without regard to case. One of them stands in every match. */
  readonly anchors: readonly string[]
  /** The range to mask when a secret stands at the anchor that begins at `at`. */
  find(text: string, at: number): Range | undefined
}

export interface Range {
  readonly start: number
  readonly end: number
}

interface PatternOptions {
  /**
   * Nothing word-like may stand before the anchor. Needed where a pattern has several parts: without it the tries at
   * `eyJeyJeyJ...` each run to the end of the text, which is quadratic.
   */
  readonly edge?: boolean
  readonly accept?: (secret: string) => boolean
}

/** From a sticky pattern: masks its match, or with two groups `(kept)(secret)` only the second. */
function pattern(name: string, anchors: readonly string[], expression: RegExp, { edge = false, accept }: PatternOptions = {}): Detector {
  return {
    name,
    anchors,
    find(text, at) {
      if (edge && !isEdge(text, at)) return undefined
      expression.lastIndex = at
      const match = expression.exec(text)
      if (!match) return undefined
      const [whole, kept = '', secret = whole] = match
      if (accept && !accept(secret)) return undefined
      return { start: at + kept.length, end: at + kept.length + secret.length }
    },
  }
}

/** True when no word reaches `at` from the left. The letter of an escape (`\n`, `%3D`) that precedes a token is not a word. */
function isEdge(text: string, at: number): boolean {
  if (at === 0 || !isWord(text.charCodeAt(at - 1))) return true
  return /(?:\\[nrtbf]|\\u[0-9a-fA-F]{4}|%[0-9a-fA-F]{2})$/.test(text.slice(Math.max(0, at - 6), at))
}

const isWord = (unit: number) => (unit >= 48 && unit <= 57) || (unit >= 65 && unit <= 90) || (unit >= 97 && unit <= 122) || unit === 95 || unit === 45

/** A token with a prefix that nothing else has. */
const prefixed = (name: string, anchors: readonly string[], expression: RegExp) => pattern(name, anchors, expression)

/** How a value follows its name: `name=`, `"name": `, `\"name\": `, `name => `, and percent-encoded `name%3D`. */
const CONNECT = /\\{0,15}["'`]?[ \t]{0,4}(?:=>|:=|[:=]|%3[DdAa])[ \t]{0,4}/y
/** SQL: `PASSWORD 'x'`, `IDENTIFIED BY 'x'`; only a quote may follow the space. */
const SQL_SPACE = /[ \t\r\n]{1,8}(?=[Ee]?')/y
const NAME_TAIL = /(?:[_-]?(?:access[_-]?)?key|[_-]?value|[_-]?hash)?/iy
const OPENING = /\\{0,15}["'`]/y
const BARE = /[^ \t\r\n"'`,;&<>(){}[\]\\|]+/y
const LONGEST_QUOTED = 8192

/** Values that say that there is no secret here: placeholders, literals, names of types. */
const NO_SECRET =
  /^(?:true|false|null|undefined|none|nil|string|number|boolean|integer|object|\*+|x{3,}|\.+|\$[0-9]*|\?|%s|:[a-z_]+|\$\{[^}]*\}?|\$\(.*|\{\{.*|<[^>]*>?|\[masked.*)?$/i

/** A value that its name gives away: `password=...`, `"client_secret": "..."`, `ALTER ROLE x PASSWORD '...'`. */
function assignment(name: string, anchors: readonly string[]): Detector {
  return {
    name,
    anchors,
    find(text, at) {
      if (insideWord(text, at)) return undefined
      const anchor = anchors.find((word) => text.slice(at, at + word.length).toLowerCase() === word)
      if (anchor === undefined) return undefined
      let from = after(NAME_TAIL, text, at + anchor.length) ?? at + anchor.length
      const next = after(CONNECT, text, from) ?? after(SQL_SPACE, text, from)
      if (next === undefined) return undefined
      from = next
      if (/[Ee]/.test(text[from] ?? '') && text[from + 1] === "'") from++
      return valueAt(text, from)
    },
  }
}

/** `topsecret` is a database, `clientSecret` and `db_secret` are secrets. Other words (`authtoken`, `userpassword`) are no less what they say. */
const insideWord = (text: string, at: number) => text.startsWith('secret', at) && /[a-z]/.test(text[at - 1] ?? '')

function valueAt(text: string, from: number): Range | undefined {
  const inside = after(OPENING, text, from)
  const start = inside ?? from
  const end = inside === undefined ? after(BARE, text, from) : closing(text, inside, text.slice(from, inside))
  if (end === undefined || end === start || NO_SECRET.test(text.slice(start, Math.min(end, start + 200)))) return undefined
  return { start, end }
}

/**
 * Where the quoted value that began with `delimiter` (a quote, behind as many backslashes as JSON inside of JSON gave it)
 * ends; the end of the text when it was cut.
 */
function closing(text: string, start: number, delimiter: string): number {
  const quote = delimiter.at(-1)!
  const escapes = delimiter.length - 1
  const last = Math.min(text.length, start + LONGEST_QUOTED)
  let slashes = 0
  for (let at = start; at < last; at++) {
    const character = text[at]
    if (character === '\\') {
      slashes++
      continue
    }
    // A quote inside of the value stands behind one backslash more on each level, so only this many make it the end.
    if (character === quote && slashes % (2 * escapes + 2) === escapes) {
      // SQL doubles a quote inside of quotes.
      if (quote === "'" && text[at + 1] === "'") at++
      else return at - escapes
    } else if (character === '\n' && quote !== "'") return at
    slashes = 0
  }
  return last
}

function after(expression: RegExp, text: string, at: number): number | undefined {
  expression.lastIndex = at
  return expression.test(text) ? expression.lastIndex : undefined
}

const PEM_BEGIN = /-----BEGIN[ A-Z0-9]{0,40}PRIVATE KEY(?: BLOCK)?-----/y
const PEM_END = /-----END[ A-Z0-9]{0,40}PRIVATE KEY(?: BLOCK)?-----/y

const privateKey: Detector = {
  name: 'private-key',
  anchors: ['-----begin'],
  find(text, at) {
    const body = after(PEM_BEGIN, text, at)
    if (body === undefined) return undefined
    const foot = text.indexOf('-----END', body)
    // A key whose end was cut off is a key still.
    return { start: at, end: (foot >= 0 ? after(PEM_END, text, foot) : undefined) ?? text.length }
  },
}

/** Prose says "bearer of news"; a token is long, or has a digit in it. */
const looksRandom = (secret: string) => secret.length >= 20 || (secret.length >= 8 && /[0-9]/.test(secret))

export const DETECTORS: readonly Detector[] = [
  privateKey,
  prefixed(
    'aws-access-key',
    ['akia', 'asia', 'abia', 'acca', 'aroa', 'aida', 'agpa', 'aipa', 'anpa', 'anva', 'a3t'],
    /(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA|AGPA|AIPA|ANPA|ANVA|A3T[A-Z0-9])[A-Z0-9]{16}/y,
  ),
  prefixed('github-token', ['ghp_', 'gho_', 'ghu_', 'ghs_', 'ghr_'], /gh[pousr]_[A-Za-z0-9_.-]{36,}/y),
  prefixed('github-token', ['ghs_'], /ghs_[0-9]{1,20}_[A-Za-z0-9_.-]{16,}/y),
  prefixed('github-token', ['github_pat_'], /github_pat_[A-Za-z0-9_]{22,}/y),
  prefixed('gitlab-token', ['glpat-', 'gldt-', 'glrt-', 'glcbt-', 'glptt-', 'glsoat-'], /gl(?:pat|dt|rt|cbt|ptt|soat)-[A-Za-z0-9_.-]{16,}/y),
  prefixed(
    'slack-token',
    ['xoxa-', 'xoxb-', 'xoxe-', 'xoxe.', 'xoxo-', 'xoxp-', 'xoxr-', 'xoxs-', 'xapp-'],
    /(?:xox[abeoprs][-.]|xapp-)[A-Za-z0-9.-]{8,}/y,
  ),
  prefixed('slack-webhook', ['hooks.slack.com/'], /(hooks\.slack\.com\/(?:services|workflows|triggers)\/)([A-Za-z0-9_/-]{8,})/y),
  prefixed('anthropic-key', ['sk-ant-'], /sk-ant-[A-Za-z0-9_-]{16,}/y),
  // `task-...` and `risk-...` are words, hence the edge; the second form names itself in the middle.
  pattern('openai-key', ['sk-'], /sk-[A-Za-z0-9_-]{20,}/y, { edge: true, accept: (key) => /^sk-(?!ant-).*[0-9]/.test(key) }),
  prefixed('openai-key', ['sk-'], /sk-[A-Za-z0-9_-]{16,160}T3BlbkFJ[A-Za-z0-9_-]*/y),
  prefixed('stripe-key', ['sk_live_', 'sk_test_', 'rk_live_', 'rk_test_', 'whsec_'], /(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,}/y),
  prefixed('google-key', ['aiza'], /AIza[A-Za-z0-9_-]{35}/y),
  prefixed('google-token', ['ya29.', 'gocspx-'], /(?:ya29\.|GOCSPX-)[A-Za-z0-9_-]{20,}/y),
  prefixed('npm-token', ['npm_'], /npm_[A-Za-z0-9_]{36,}/y),
  prefixed('npm-token', ['_authtoken'], /(_authToken[ \t]{0,4}=[ \t]{0,4})([^ \t\r\n"'$]+)/y),
  prefixed('pypi-token', ['pypi-'], /pypi-[A-Za-z0-9_-]{16,}/y),
  prefixed('docker-token', ['dckr_pat_', 'dckr_oat_'], /dckr_[po]at_[A-Za-z0-9_-]{20,}/y),
  prefixed('sendgrid-key', ['sg.'], /SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}/y),
  prefixed('shopify-token', ['shpat_', 'shpca_', 'shppa_', 'shpss_'], /shp(?:at|ca|pa|ss)_[A-Za-z0-9]{32,}/y),
  prefixed('groq-key', ['gsk_'], /gsk_[A-Za-z0-9]{40,}/y),
  prefixed('huggingface-token', ['hf_'], /hf_[A-Za-z0-9]{30,}/y),
  prefixed('linear-key', ['lin_api_', 'lin_oauth_'], /lin_(?:api|oauth)_[A-Za-z0-9_]{32,}/y),
  prefixed('notion-token', ['ntn_', 'secret_'], /(?:ntn_|secret_)[A-Za-z0-9]{40,}/y),
  prefixed('grafana-token', ['glc_', 'glsa_'], /gl(?:c|sa)_[A-Za-z0-9_+/]{32,}={0,2}/y),
  prefixed('1password-token', ['ops_ey'], /ops_ey[A-Za-z0-9+/=_-]{40,}/y),
  prefixed('vault-token', ['hvs.', 'hvb.', 'hvr.'], /hv[sbr]\.[A-Za-z0-9_-]{24,}/y),
  prefixed('vercel-token', ['vcp_', 'vci_', 'vca_', 'vcr_', 'vck_'], /vc[piark]_[A-Za-z0-9]{20,}/y),
  prefixed('databricks-token', ['dapi'], /dapi[A-Fa-f0-9]{32,}(?:-[0-9])?/y),
  prefixed('figma-token', ['figd_'], /figd_[A-Za-z0-9_-]{40,}/y),
  prefixed('cloudflare-token', ['cfk_', 'cfut_', 'cfat_'], /cf(?:k|ut|at)_[A-Za-z0-9]{40,}/y),
  prefixed('tailscale-key', ['tskey-'], /tskey-[a-z]{2,20}-[0-9A-Za-z_-]{8,}/y),
  prefixed('digitalocean-token', ['dop_v1_', 'doo_v1_', 'dor_v1_'], /do[opr]_v1_[a-f0-9]{32,}/y),
  prefixed('age-key', ['age-secret-key-'], /AGE-SECRET-KEY-1[A-Z0-9]{50,}/y),
  pattern('jwt', ['eyj'], /eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_.-]*/y, { edge: true }),
  // postgres://user:pass@host, and https://token@host: whatever the scheme, what stands before the @ is a secret.
  pattern('url-password', ['://'], /(:\/\/[^ \t\r\n/?#:@"'`<>\\]*:)([^ \t\r\n/"'`<>\\]+)@/y),
  pattern('url-password', ['://'], /(:\/\/)([A-Za-z0-9_.~%-]{20,}|[^ \t\r\n/?#:@"'`<>\\]+:x-oauth-basic):?@/y),
  pattern('bearer-token', ['bearer'], /([Bb][Ee][Aa][Rr][Ee][Rr](?:[ \t]+|%20|\+))([A-Za-z0-9._~+/=-]+)/y, { accept: looksRandom }),
  pattern(
    'authorization',
    ['authorization'],
    /([Aa][Uu][Tt][Hh][Oo][Rr][Ii][Zz][Aa][Tt][Ii][Oo][Nn]\\*["']?[ \t]*[:=][ \t]*\\*["']?(?:[A-Za-z0-9-]+[ \t]+)?)([^ \t\r\n"'\\,]+)/y,
  ),
  pattern('cookie', ['cookie'], /([Cc][Oo][Oo][Kk][Ii][Ee]\\*["']?[ \t]*:[ \t]*\\*["']?)([^\r\n"'\\]+)/y),
  pattern('url-signature', ['sig=', 'signature='], /((?:[Ss]ig|[Ss]ignature)=)([A-Za-z0-9%+/=_-]{16,})/y),
  assignment('password', ['password', 'passwd', 'passphrase', 'passcode', 'pwd', 'identified by']),
  assignment('token', ['token']),
  assignment('secret', ['secret']),
  assignment('key', [
    'api_key',
    'api-key',
    'apikey',
    'access_key',
    'access-key',
    'accesskey',
    'private_key',
    'private-key',
    'privatekey',
    'account_key',
    'accountkey',
    'signing_key',
    'signingkey',
    'encryption_key',
    'encryptionkey',
    'shared_key',
    'master_key',
  ]),
]

const GIVEN_AWAY =
  /(?:password|passwd|passphrase|passcode|pwd|token|authorization|cookie|(?:api|access|private|account|signing|encryption|shared|master|secret)[_-]?key)$/i
const SECRET = /(?:^|[^a-z])secret$|S(?:ecret|ECRET)$/

/** True when a value under this name is a secret whatever it looks like: `password`, `clientSecret`, `x-api-key`. */
export const nameGivesAway = (name: string): boolean => GIVEN_AWAY.test(name) || SECRET.test(name)
/** True when this value is nothing to hide even under such a name: a placeholder, `null`, the name of a type. */
export const isNoSecret = (value: string): boolean => NO_SECRET.test(value)
