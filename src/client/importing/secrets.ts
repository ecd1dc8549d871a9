import { isNoSecret, nameGivesAway } from '../../audit/detectors.ts'
import { createMasker } from '../../audit/mask.ts'
import { reached } from '../config/entries.ts'

/** A secret in an entry of a client's file. Its value is for the vault, and for nobody's eyes. */
export interface FoundSecret {
  /** `env.GITHUB_TOKEN`, `headers.Authorization`, `args[3]`, `url`, `env file` */
  readonly where: string
  /** its name gives it away, or what it looks like */
  readonly kind: string
  /** it can stand in the vault, and the document takes it from there */
  readonly movable: boolean
}

const masker = createMasker()
const ENV_KEYS = ['env'] as const
const HEADER_KEYS = ['headers', 'http_headers', 'requestInit'] as const

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value)

export const textsOf = (value: unknown): readonly (readonly [string, string])[] =>
  isObject(value)
    ? Object.entries(value).flatMap(([key, one]) =>
        typeof one === 'string' || typeof one === 'number' || typeof one === 'boolean' ? [[key, String(one)] as const] : [],
      )
    : []

/** What the value is called, when it is a secret; undefined when it is none. `env` and headers: the name counts too. */
export function secretKind(name: string, value: string): string | undefined {
  if (value === '' || isNoSecret(value) || isReference(value)) return undefined
  if (nameGivesAway(name) || /(?:^|[_-])(?:key|pat|auth|credentials?)$/i.test(name)) return 'by its name'
  return looksLike(value)
}

/** Only a name of something that is kept elsewhere: `${TOKEN}`, `$TOKEN`, `${env:TOKEN}`, `${input:token}`, `Bearer ${TOKEN}`. */
const isReference = (value: string): boolean => /^(?:(?:Bearer|Basic|Token)\s+)?(?:\$\{[^}]+\}|\$[A-Za-z_][A-Za-z0-9_]*|%[A-Za-z_]\w*%)$/i.test(value)

const looksLike = (value: string): string | undefined => masker.looks(value)[0]?.name

/** Names of variables as Codex writes them, where others write `${NAME}`. */
const variable = (name: string) => `\${${name}}`

/** The environment of an entry, and its headers, in whatever words its client has. */
export const envOf = (value: unknown): readonly (readonly [string, string])[] =>
  isObject(value)
    ? [
        ...ENV_KEYS.flatMap((key) => textsOf(value[key])),
        ...(isObject(value.command) ? textsOf(value.command.env) : []),
        ...(Array.isArray(value.env_vars) ? value.env_vars : []).flatMap((name) =>
          typeof name === 'string' ? [[name, variable(name)] as const] : [],
        ),
      ]
    : []

export const headersOf = (value: unknown): readonly (readonly [string, string])[] =>
  isObject(value)
    ? [
        ...HEADER_KEYS.flatMap((key) => textsOf(key === 'requestInit' && isObject(value[key]) ? value[key].headers : value[key])),
        ...textsOf(value.env_http_headers).map(([name, from]) => [name, variable(from)] as const),
        ...(typeof value.bearer_token_env_var === 'string' ? [['Authorization', `Bearer ${variable(value.bearer_token_env_var)}`] as const] : []),
        ...(typeof value.bearer_token === 'string' ? [['Authorization', `Bearer ${value.bearer_token}`] as const] : []),
      ]
    : []

/** Whether only its client can make its headers: it runs a command for them (Claude Code). */
export const hasHelper = (value: unknown): boolean => isObject(value) && value.headersHelper !== undefined

/** Every secret that stands in an entry. */
export function secretsIn(value: unknown): readonly FoundSecret[] {
  const found: FoundSecret[] = []
  const see = (where: string, kind: string | undefined, movable: boolean) => {
    if (kind !== undefined) found.push({ where, kind, movable })
  }
  for (const [name, text] of envOf(value)) see(`env.${name}`, secretKind(name, text), true)
  for (const [name, text] of headersOf(value)) see(`headers.${name}`, secretKind(name, text), true)
  const { command, url } = reached(value)
  const [program, ...args] = command ?? []
  args.forEach((arg, i) => {
    const before = args[i - 1] ?? ''
    const [, flag, inline] = /^--?([A-Za-z][\w-]*)=(.*)$/s.exec(arg) ?? []
    const named =
      inline !== undefined
        ? secretKind(flag!, inline)
        : /^--?[A-Za-z]/.test(before) && !before.includes('=')
          ? secretKind(before.replace(/^-+/, ''), arg)
          : undefined
    const bridged = before === '--header' && bridgeOf(command) !== undefined
    see(`args[${i}]`, arg.startsWith('-') && inline === undefined ? undefined : (named ?? (isReference(arg) ? undefined : looksLike(arg))), bridged)
  })
  if (program !== undefined) see('command', looksLike(program), false)
  if (url !== undefined) see('url', secretInUrl(url), false)
  if (isObject(value)) for (const [name, text] of textsOf(value.oauth)) see(`oauth.${name}`, secretKind(name, text), false)
  if (isObject(value)) for (const [name, text] of textsOf(value.auth)) see(`auth.${name}`, secretKind(name, text), false)
  if (isObject(value) && typeof value.envFile === 'string')
    found.push({ where: `envFile ${value.envFile}`, kind: 'a file of secrets', movable: false })
  return found
}

function secretInUrl(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined
  const { username, password, searchParams } = new URL(text)
  if (password !== '' || username.length >= 20) return 'in the address'
  for (const [name, value] of searchParams) if (secretKind(name, value) !== undefined) return 'in the address'
  // Some services have nothing but a path that nobody guesses.
  return looksLike(text) ?? (/\/[A-Za-z0-9_-]{32,}(?:\/|$)/.test(new URL(text).pathname) ? 'in the address' : undefined)
}

/** `npx mcp-remote URL --header K:V`: a program that only speaks HTTP for a client which cannot. */
export function bridgeOf(
  command: readonly string[] | undefined,
): { readonly url: string; readonly headers: readonly (readonly [string, string])[] } | undefined {
  const at = command?.findIndex((word) => /^mcp-remote(?:@[\w.^~-]+)?$/.test(word)) ?? -1
  const url = command?.[at + 1]
  if (at < 0 || url === undefined || !/^https?:\/\//i.test(url) || !URL.canParse(url)) return undefined
  const rest = command!.slice(at + 2)
  const headers = rest.flatMap((word, i) => {
    if (rest[i - 1] !== '--header') return []
    const colon = word.indexOf(':')
    return colon < 1 ? [] : [[word.slice(0, colon).trim(), word.slice(colon + 1).trim()] as const]
  })
  return { url, headers }
}
