/** What the child of a run finds in its environment. Pure. */

/** From the person's shell, because a program cannot start or speak without: no value of these is a secret. */
const PLAIN = ['PATH', 'LANG', 'LANGUAGE', 'TERM', 'COLORTERM', 'TZ', 'NO_COLOR', 'FORCE_COLOR', 'TERM_PROGRAM'] as const
const isPlain = (name: string) => (PLAIN as readonly string[]).includes(name) || /^LC_[A-Z]+$/.test(name)

/**
 * Names under which keys are kept. By name alone, because a value does not say what it is; so a list of what is known, and words
 * that stand in the names of nearly all others.
 */
const SECRET_WORDS =
  /(?:^|_)(?:KEYS?|APIKEY|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASS|PWD|CREDENTIALS?|CREDS|AUTH|COOKIE|SESSION|DSN|PAT|PRIVATE|SIGNATURE|CERT|NETRC)(?:_|$)/i
const SECRET_NAMES =
  /^(?:AWS_|AZURE_|GOOGLE_|GCLOUD_|CLOUDSDK_|GITHUB_|GH_|GITLAB_|NPM_|npm_config_|DOCKER_|KUBE|VAULT_|HEROKU_|DIGITALOCEAN_|PG[A-Z]|MYSQL_|MONGO|REDIS_|SSH_|GPG_|DBUS_|ACTIONS_ID_TOKEN_|CI_JOB_|DATABASE_|.*_URI$|.*_URL$|.*CONNECTION_STRING)/
/** They only look like it: the shell's own. */
const HARMLESS = new Set([
  ...['PWD', 'OLDPWD', 'XDG_SESSION_ID', 'XDG_SESSION_TYPE', 'XDG_SESSION_CLASS', 'XDG_SESSION_DESKTOP', 'DESKTOP_SESSION'],
  // Paths of authorities to believe, as company networks set them: without them TLS fails, and no key is in them.
  ...['SSL_CERT_FILE', 'SSL_CERT_DIR', 'NIX_SSL_CERT_FILE', 'AWS_CA_BUNDLE', 'PIP_CERT', 'CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE', 'npm_config_cafile'],
])

export const looksSecret = (name: string): boolean => !HARMLESS.has(name) && (SECRET_WORDS.test(name) || SECRET_NAMES.test(name))

/** `clean`: nothing but what is plain; `strip`: all but what looks like a credential; `keep`: all but what is Chaperone's own. */
export type Keep = 'clean' | 'strip' | 'keep'

export interface EnvironmentAsk {
  readonly from: NodeJS.ProcessEnv
  readonly keep: Keep
  /** Patterns of names that a known client needs, whatever they look like: the key of its model. */
  readonly needs?: readonly RegExp[]
  /** What the run has of its own in the place of the person's: HOME, PATH. `given` can say otherwise. */
  readonly base?: Readonly<Record<string, string>>
  /** `NAME` from the person's environment, or `NAME=VALUE` */
  readonly given?: readonly string[]
  /** Set last: nothing else can stand in their place. */
  readonly ours: Readonly<Record<string, string>>
}

export interface Environment {
  readonly env: Readonly<Record<string, string>>
  /** names that were taken out because they look like credentials, for the summary */
  readonly stripped: readonly string[]
  /** `--env NAME` of what is not set */
  readonly absent: readonly string[]
}

export function environmentOf({ from, keep, needs = [], base = {}, given = [], ours }: EnvironmentAsk): Environment {
  const env: Record<string, string> = {}
  const stripped: string[] = []
  const absent: string[] = []
  for (const [name, value] of Object.entries(from)) {
    // CHAPERONE_TOTP, CHAPERONE_HOME ...: who runs inside is somebody else than who started it.
    if (value === undefined || name.startsWith('CHAPERONE_')) continue
    const needed = needs.some((pattern) => pattern.test(name))
    if (keep === 'clean' ? isPlain(name) || needed : keep === 'keep' || needed || !looksSecret(name)) env[name] = value
    else if (keep === 'strip') stripped.push(name)
  }
  Object.assign(env, base)
  for (const one of given) {
    const at = one.indexOf('=')
    const name = at < 0 ? one : one.slice(0, at)
    const value = at < 0 ? from[name] : one.slice(at + 1)
    if (value === undefined) absent.push(name)
    else env[name] = value
  }
  return { env: { ...env, ...ours }, stripped: stripped.filter((name) => !(name in env)).sort(), absent }
}
