import { spawnSync } from 'node:child_process'
import type { Explained, WhoAmI } from '../api/contract.ts'
import type { PinRow } from '../api/pins-contract.ts'
import { type Api, openApi } from '../client/api.ts'
import { whoAnswers } from '../client/first-contact.ts'
import { openProfiles, type Profile, readProfile, splitAddress } from '../client/profile.ts'
import { systemClock } from '../clock.ts'
import { formatDuration } from '../encoding/duration.ts'
import { REASONS, toChaperoneError } from '../errors.ts'
import { proxyFor, proxyName } from '../network/proxy.ts'
import type { Register } from './commands.ts'
import { type ServerFlags, withJson } from './connection.ts'
import { bypass } from './doctor-bypass.ts'
import { line, printable, printJson, styled } from './output.ts'

interface Check {
  readonly check: string
  readonly state: 'ok' | 'warning' | 'failed'
  readonly says: string
  readonly fix?: string
}

/** A credential of 30 s is worthless to a machine whose clock is off by as much. */
const SKEW_WARNING_MS = 5000
const LIFE_WARNING_MS = 15 * 60_000

export const register: Register = (command) => {
  bypass(command)
  withJson(command)
    .option('--server <host:port>', 'default: the server used last')
    .option('--identity <file>', 'check the credential in this file')
    .addHelpText(
      'after',
      '\nExamples:\n  chaperone doctor\n  chaperone doctor --identity report-bot.pem\n  chaperone doctor bypass            what still goes past Chaperone on this machine',
    )
    .action(async (flags: ServerFlags & { json?: boolean }) => {
      const checks: Check[] = [node()]
      const profile = await signedIn(flags, checks)
      if (profile && flags.identity === undefined) checks.push({ check: 'key', state: 'ok', says: await openProfiles().keyIs(profile.address) })
      if (profile) await server(profile, checks)
      checks.push(program('psql', ['--version'], '`chaperone db connect`', 'postgresql-client'))
      if (process.platform === 'linux')
        checks.push(program('bwrap', ['--version'], 'isolation of MCP servers that a server started here runs', 'bubblewrap'))
      const failed = checks.some(({ state }) => state === 'failed')
      if (flags.json) printJson(checks)
      else
        for (const { check, state, says, fix } of checks) {
          const mark = state === 'ok' ? styled('green', 'ok     ') : state === 'warning' ? styled('yellow', 'warning') : styled('red', 'failed ')
          line(`${mark}  ${check.padEnd(11)} ${printable(says)}`)
          if (fix !== undefined && state !== 'ok') line(`                      ${printable(fix)}`)
        }
      if (failed) process.exitCode = REASONS.unavailable_here.exit
    })
}

function node(): Check {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const ok = major > 24 || (major === 24 && minor >= 21)
  return { check: 'node', state: ok ? 'ok' : 'failed', says: `Node ${process.versions.node}`, fix: 'Install Node >= 24.21.' }
}

async function signedIn(flags: ServerFlags, checks: Check[]): Promise<Profile | undefined> {
  try {
    const profile = flags.identity === undefined ? await openProfiles().load(flags.server) : await readProfile(flags.identity)
    const left = profile.notAfter - systemClock.now()
    const signIn =
      profile.identity.kind === 'user' ? 'Sign in again with `chaperone login`.' : 'Join again with a new token: `chaperone agent join TOKEN`.'
    const says = `${profile.identity.kind} ${profile.identity.name} at ${profile.address}`
    if (profile.certificate === '' || left <= 0) {
      checks.push({ check: 'credential', state: 'failed', says: `${says}: signed out or expired`, fix: signIn })
      return undefined
    }
    const short = profile.identity.kind === 'user' && left < LIFE_WARNING_MS
    checks.push({
      check: 'credential',
      state: short ? 'warning' : 'ok',
      says: `${says}, for another ${formatDuration(left)}`,
      fix: signIn,
    })
    return profile
  } catch (cause) {
    const error = toChaperoneError(cause)
    checks.push({ check: 'credential', state: 'failed', says: error.message, ...(error.fix ? { fix: error.fix } : {}) })
    return undefined
  }
}

async function server(profile: Profile, checks: Check[]): Promise<void> {
  onTheWay(profile, checks)
  const api = openApi({ address: profile.address, authorities: profile.bundles.server, identity: profile, timeoutMs: 10_000 })
  const began = performance.now()
  try {
    const who = await api.call<WhoAmI>('GET', '/v1/whoami')
    checks.push({ check: 'server', state: 'ok', says: `answers in ${Math.round(performance.now() - began)} ms, trust domain ${who.trustDomain}` })
    await definitions(api, checks)
  } catch (cause) {
    const error = toChaperoneError(cause)
    checks.push({ check: 'server', state: 'failed', says: `${error.message} [${error.code}]`, ...(error.fix ? { fix: error.fix } : {}) })
    if (error.code === 'credential_invalid') await between(profile, checks)
  } finally {
    api.close()
  }
  if (api.skewMs === undefined) return
  // The Date header counts whole seconds, cut down, and its answer was on its way for some time.
  const off = Math.abs(api.skewMs + 500) < 2000 ? 0 : api.skewMs
  checks.push({
    check: 'clock',
    state: Math.abs(off) > SKEW_WARNING_MS ? 'warning' : 'ok',
    says: off === 0 ? "agrees with the server's" : `${formatDuration(Math.abs(off))} ${off > 0 ? 'behind' : 'ahead of'} the server's`,
    fix: 'Let the machine set its clock from the network (NTP): credentials live for minutes.',
  })
}

/** The proxy that the environment names for the server, if any. */
function onTheWay({ address }: Profile, checks: Check[]): void {
  try {
    const proxy = proxyFor({ ...splitAddress(address), secure: true }, process.env)
    if (proxy) checks.push({ check: 'proxy', state: 'ok', says: `${proxyName(proxy)} leads to ${address} (HTTPS_PROXY)` })
  } catch (cause) {
    const error = toChaperoneError(cause)
    checks.push({ check: 'proxy', state: 'failed', says: error.message, ...(error.fix ? { fix: error.fix } : {}) })
  }
}

/** Something else than the server answers there. A proxy that opens TLS is the usual one, and it is known by whose certificate it shows. */
async function between({ address }: Profile, checks: Check[]): Promise<void> {
  const found = await whoAnswers(address).catch(() => undefined)
  if (!found) return
  checks.push({
    check: 'network',
    state: 'failed',
    says: `${address} shows a certificate of ${found.issuer}, not of the server that you signed in to`,
    fix: 'If that is a proxy of your company that opens TLS: client certificates cannot pass it. Ask for an exception for this address, or let MCP clients use the web address of the server with OAuth or a bearer token (docs/company-network.md).',
  })
}

/** Verbs that let one see what waits. */
const SEE_PINS = ['pins', 'apply', 'audit.read']

/** Definitions of MCP servers that nobody can use until somebody decides; for those who may see them. */
async function definitions(api: Api, checks: Check[]): Promise<void> {
  try {
    // Asked beforehand: to look without the right to is a refusal, and stands in the record as one.
    let allowed = false
    for (const verb of SEE_PINS) allowed ||= (await api.call<Explained>('POST', '/v1/explain', { kind: 'chaperone', verb })).verdict === 'allow'
    if (!allowed) return
    const { pins } = await api.call<{ pins: readonly PinRow[] }>('GET', '/v1/pins')
    const waiting = new Map<string, number>()
    for (const { server, state } of pins) if (state === 'changed' || state === 'new') waiting.set(server, (waiting.get(server) ?? 0) + 1)
    checks.push(
      waiting.size === 0
        ? { check: 'definitions', state: 'ok', says: 'none waits for a decision' }
        : {
            check: 'definitions',
            state: 'warning',
            says: `held back until somebody decides: ${[...waiting].map(([server, count]) => `${count} of ${server}`).join(', ')}`,
            fix: `Look at them: chaperone mcp pins ${waiting.size === 1 ? [...waiting.keys()][0] : 'SERVER'} --diff`,
          },
    )
  } catch (cause) {
    const error = toChaperoneError(cause)
    checks.push({ check: 'definitions', state: 'warning', says: `${error.message} [${error.code}]`, ...(error.fix ? { fix: error.fix } : {}) })
  }
}

function program(name: string, args: readonly string[], use: string, packageName: string): Check {
  const run = spawnSync(name, args, { encoding: 'utf8', timeout: 5000 })
  if (run.status === 0) return { check: name, state: 'ok', says: run.stdout.trim().split('\n')[0] ?? '' }
  return { check: name, state: 'warning', says: `not here; needed only for ${use}`, fix: `Debian: apt-get install ${packageName}` }
}
