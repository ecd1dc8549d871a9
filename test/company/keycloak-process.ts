import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { freePort } from '../../src/demo/free-port.ts'
import { fakeAuthority } from '../fakes/authority.ts'
import { ask } from '../parts/house.ts'

/** The last line that runs on Java 17 as well as on newer ones. */
export const KEYCLOAK = '26.0.8'
const INSTALL_MS = 300_000
const START_MS = 420_000
const run = promisify(execFile)
const cache = fileURLToPath(new URL('../../node_modules/.cache/on-demand/', import.meta.url))

/** The folder of a Keycloak: CHAPERONE_KEYCLOAK names one, else Maven brings it. Throws what says why there is none. */
export async function keycloakHome(): Promise<string> {
  await run('java', ['-version'])
  if (process.env.CHAPERONE_KEYCLOAK) return process.env.CHAPERONE_KEYCLOAK
  const home = join(cache, `keycloak-${KEYCLOAK}`)
  if (
    await access(join(home, 'bin')).then(
      () => true,
      () => false,
    )
  )
    return home
  await mkdir(cache, { recursive: true })
  const making = await mkdtemp(join(cache, 'making-'))
  try {
    const artifact = `-Dartifact=org.keycloak:keycloak-quarkus-dist:${KEYCLOAK}:zip`
    await run('mvn', ['-q', '-B', 'dependency:copy', artifact, `-DoutputDirectory=${making}`], { timeout: INSTALL_MS })
    await run('unzip', ['-q', join(making, `keycloak-quarkus-dist-${KEYCLOAK}.zip`), '-d', making])
    await rename(join(making, `keycloak-${KEYCLOAK}`), home)
    return home
  } finally {
    await rm(making, { recursive: true, force: true, maxRetries: 10 })
  }
}

type Json = Record<string, unknown>

export interface Keycloak {
  /** `https://127.0.0.1:port` */
  readonly origin: string
  /** PEM of the authority of its certificate */
  readonly ca: string
  /** What an administrator does there. Returns the body, or the id of what was made. */
  admin<T = Json>(method: string, path: string, body?: unknown): Promise<T>
}

interface Test {
  after(work: () => Promise<void>): void
}

/** Keycloak itself, in memory, over TLS on this machine alone; gone with the test. `believes`: PEM of authorities of what it calls. */
export async function startKeycloak(t: Test, home: string, believes: string): Promise<Keycloak> {
  const dir = await mkdtemp(join(tmpdir(), 'keycloak-'))
  t.after(() => rm(dir, { recursive: true, force: true, maxRetries: 10 }))
  const authority = await fakeAuthority('company')
  const { key, chain } = await authority.issue(['127.0.0.1'])
  await writeFile(join(dir, 'key.pem'), key, { mode: 0o600 })
  await writeFile(join(dir, 'cert.pem'), chain)
  await writeFile(join(dir, 'believes.pem'), believes)
  const [port, plain] = [await freePort(), await freePort()]
  const child = spawn(
    join(home, 'bin', 'kc.sh'),
    [
      'start-dev',
      '--db=dev-mem',
      '--http-host=127.0.0.1',
      `--http-port=${plain}`,
      `--https-port=${port}`,
      `--https-certificate-file=${join(dir, 'cert.pem')}`,
      `--https-certificate-key-file=${join(dir, 'key.pem')}`,
      `--truststore-paths=${join(dir, 'believes.pem')}`,
    ],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        KC_BOOTSTRAP_ADMIN_USERNAME: 'admin',
        KC_BOOTSTRAP_ADMIN_PASSWORD: 'of-the-test',
        JAVA_OPTS_KC_HEAP: '-Xms128m -Xmx640m',
      },
    },
  )
  t.after(() => ended(child))
  await listening(child)
  const origin = `https://127.0.0.1:${port}`
  const at = `127.0.0.1:${port}`

  const form = async (body: Record<string, string>) => {
    const answer = await ask(at, '/realms/master/protocol/openid-connect/token', {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams(body).toString(),
    })
    return (JSON.parse(answer.text) as { access_token: string }).access_token
  }
  return {
    origin,
    ca: authority.certificate,
    async admin<T>(method: string, path: string, body?: unknown) {
      // Its tokens live for a minute.
      const token = await form({ grant_type: 'password', client_id: 'admin-cli', username: 'admin', password: 'of-the-test' })
      const answer = await ask(at, `/admin${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text.slice(0, 300)}`)
      const made = /\/([0-9a-f-]{36})$/.exec(answer.headers.location ?? '')?.[1]
      return (answer.text === '' ? made : JSON.parse(answer.text)) as T
    },
  }
}

async function listening(child: ChildProcess): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const patience = setTimeout(() => reject(new Error(`Keycloak does not listen:\n${said.slice(-20).join('\n')}`)), START_MS)
  const said: string[] = []
  for (const stream of [child.stdout!, child.stderr!])
    createInterface(stream).on('line', (line) => {
      said.push(line)
      if (process.env.COMPANY_DEBUG) console.error(line)
      if (said.length > 200) said.shift()
      if (/Listening on:.*https:/.test(line)) resolve()
    })
  child.once('exit', (status) => reject(new Error(`Keycloak ended with ${status}:\n${said.slice(-20).join('\n')}`)))
  child.once('error', reject)
  await promise.finally(() => clearTimeout(patience))
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const over = once(child, 'exit')
  child.kill()
  await over
}
