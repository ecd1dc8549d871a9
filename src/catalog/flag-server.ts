import { isIP } from 'node:net'
import { isNoSecret, nameGivesAway } from '../audit/detectors.ts'
import { createMasker } from '../audit/mask.ts'
import { type Flag, flag } from './flag-types.ts'
import { worstFirst } from './flags.ts'
import type { McpServerSpec } from './mcp-server.ts'
import { packageOf } from './package-runner.ts'

/** Only shapes are looked for: what Chaperone knows to be secret is masked elsewhere and would not be compared here. */
const masker = createMasker()

/** What a person should look at in the entry of a server, before it is even started: command, environment, headers, address. */
export function flagsOfServer(spec: Pick<McpServerSpec, 'command' | 'url' | 'env' | 'headers' | 'isolation'>): readonly Flag[] {
  return worstFirst([
    ...(spec.command ? commandFlags(spec.command) : []),
    ...values(spec.env, 'env', 'secret_in_environment'),
    ...values(spec.headers, 'headers', 'secret_in_header'),
    ...(spec.url === undefined ? [] : urlFlags(spec.url)),
    ...(spec.command && spec.isolation === 'none' ? [flag('no_isolation', 'isolation', 'none')] : []),
  ])
}

function* commandFlags(command: readonly string[]): Generator<Flag> {
  for (const [i, word] of command.entries()) {
    const { value, count } = masker.text(word)
    const before = command[i - 1] ?? ''
    // `--api-key VALUE` gives its secret away by the word before it.
    const named = /^--?[a-z]/i.test(before) && !before.includes('=') && nameGivesAway(before) && !word.startsWith('-') && !isNoSecret(word)
    if (count > 0) yield flag('secret_in_command', `command[${i}]`, value)
    else if (named) yield flag('secret_in_command', `command[${i}]`, `${before} [masked]`)
  }
  const [program = '', ...args] = command
  const name = program.split('/').at(-1) ?? ''
  if (/^(?:ba|da|z|k|fi)?sh$|^cmd(?:\.exe)?$|^(?:powershell|pwsh)(?:\.exe)?$/.test(name) && args.some((arg) => /^[-/][a-z]*c/i.test(arg)))
    yield flag('shell_command', 'command', command.map((word) => masker.text(word).value).join(' '))
  const wanted = packageOf(command)
  if (wanted !== undefined && !wanted.version) yield flag('unpinned_package', 'command', wanted.name)
}

function* values(record: McpServerSpec['env'], part: 'env' | 'headers', code: 'secret_in_environment' | 'secret_in_header'): Generator<Flag> {
  for (const [name, value] of Object.entries(record)) {
    if (typeof value !== 'string') continue
    // As one text: `Authorization: Bearer x` is known by its name and its form.
    const masked = masker.text(`${name}: ${value}`)
    if (masked.count > 0) yield flag(code, `${part}.${name}`, masked.value)
    else if (nameGivesAway(name) && value !== '' && !isNoSecret(value)) yield flag(code, `${part}.${name}`, `${name}: [masked]`)
  }
}

function* urlFlags(text: string): Generator<Flag> {
  const url = new URL(text)
  const shown = `${url.protocol}//${url.host}${url.pathname}`
  const local = isLoopback(url.hostname)
  if (url.username !== '' || url.password !== '') yield flag('url_user', 'url', shown)
  if (url.protocol !== 'https:') yield flag('url_not_https', 'url', shown, local ? 'note' : 'warning')
  if (isPrivateHost(url.hostname)) yield flag('url_private', 'url', shown)
  const named = [...url.searchParams].some(([name, value]) => nameGivesAway(name) && !isNoSecret(value))
  if (named || masker.text(`${url.pathname}${url.search}`).count > 0) yield flag('secret_in_url', 'url', shown)
}

const bare = (hostname: string) =>
  hostname
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '')
    .toLowerCase()
const isLoopback = (hostname: string) => /^(?:localhost|.*\.localhost|127(?:\.\d+){3}|::1)$/.test(bare(hostname))

/** Not reachable from everywhere: loopback, private, link-local (where clouds hand out credentials), shared, multicast, reserved. */
export function isPrivateHost(hostname: string): boolean {
  const host = bare(hostname)
  if (isLoopback(host)) return true
  const kind = isIP(host)
  if (kind === 4) return isPrivateV4(host.split('.').map(Number))
  if (kind === 6) return isPrivateV6(host)
  return /(?:^|\.)(?:local|internal|intranet|lan|home|corp|private|test|home\.arpa)$/.test(host) || !host.includes('.')
}

function isPrivateV4([a = 0, b = 0, c = 0]: readonly number[]): boolean {
  return (
    a === 0 ||
    a === 10 ||
    a === 127 ||
    a >= 224 ||
    (a === 100 && b >= 64 && b < 128) ||
    (a === 169 && b === 254) ||
    (a === 172 && b >= 16 && b < 32) ||
    (a === 192 && b === 168) ||
    (a === 192 && b === 0 && (c === 0 || c === 2)) ||
    (a === 198 && (b === 18 || b === 19))
  )
}

function isPrivateV6(host: string): boolean {
  // The URL parser has written it in its shortest form; IPv4 inside of it as two groups.
  const mapped = /^::(?:ffff:)?([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(host) ?? /^64:ff9b::([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(host)
  if (mapped) {
    const [high, low] = [Number.parseInt(mapped[1]!, 16), Number.parseInt(mapped[2]!, 16)]
    return isPrivateV4([high >> 8, high & 255, low >> 8, low & 255])
  }
  return host === '::' || /^(?:f[cd]|fe[89a-f]|ff)/.test(host) || host.startsWith('2001:db8:')
}
