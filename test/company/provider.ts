import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { IncomingHttpHeaders } from 'node:http'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { fakeAuthority } from '../fakes/authority.ts'

/** A browser without a screen: cookies by host, redirects one at a time. */
export function browser(as: string) {
  const jars = new Map<string, Map<string, string>>()
  const ask = (url: string, form?: Record<string, string>, headers: Record<string, string> = {}) => {
    const { host, origin } = new URL(url)
    const jar = jars.get(host) ?? new Map<string, string>()
    jars.set(host, jar)
    const body = form && new URLSearchParams(form).toString()
    const { promise, resolve, reject } = Promise.withResolvers<{
      status: number
      text: string
      location: string | undefined
      headers: IncomingHttpHeaders
    }>()
    const sent = request(
      url,
      {
        method: form ? 'POST' : 'GET',
        rejectUnauthorized: false,
        agent: false,
        headers: {
          cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; '),
          'x-as': as,
          ...(body === undefined
            ? {}
            : { origin, 'content-type': 'application/x-www-form-urlencoded', 'content-length': String(Buffer.byteLength(body)) }),
          ...headers,
        },
      },
      (answer) => {
        for (const cookie of answer.headers['set-cookie'] ?? []) {
          const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(cookie) ?? []
          if (value === '') jar.delete(name)
          else jar.set(name, value)
        }
        let text = ''
        answer.on('data', (chunk) => {
          text += chunk
        })
        answer.on('end', () =>
          resolve({
            status: answer.statusCode!,
            text,
            headers: answer.headers,
            location: answer.headers.location && new URL(answer.headers.location, url).href,
          }),
        )
      },
    )
    sent.once('error', reject)
    sent.end(body)
    return promise
  }
  return { ask, jars }
}

const unescaped = (text: string) => text.replaceAll('&amp;', '&')

export interface Leaving {
  /** where it says that somebody has signed out (Back-Channel Logout 1.0) */
  readonly logout: string
  /** PEM of the authority of that address */
  readonly authorities: string
}

/** Such a provider; gone with the test. */
export async function company(t: TestContext, redirect: string, people: Record<string, Record<string, unknown>>, leaving?: Leaving) {
  const authority = await fakeAuthority()
  const { key, chain } = await authority.issue(['127.0.0.1'])
  const dir = await mkdtemp(join(tmpdir(), 'company-'))
  t.after(() => rm(dir, { recursive: true, force: true, maxRetries: 10 }))
  const extra = join(dir, 'ca.pem')
  await writeFile(extra, leaving?.authorities ?? authority.certificate)
  const child = spawn(process.execPath, [fileURLToPath(new URL('../fakes/company-provider.ts', import.meta.url))], {
    stdio: ['pipe', 'pipe', process.env.COMPANY_DEBUG ? 'inherit' : 'ignore'],
    env: { ...process.env, NODE_EXTRA_CA_CERTS: extra },
  })
  const ended = once(child, 'exit')
  const stop = async () => {
    child.kill()
    await ended
  }
  t.after(stop)
  child.stdin.end(JSON.stringify({ key, cert: chain, redirect, people, logout: leaving?.logout }))
  const lines = createInterface(child.stdout)
  const [issuer] = (await once(lines, 'line')) as [string]
  return { issuer, ca: authority.certificate, stop }
}

/** There and back; what the last page says. */
export async function signInAt(
  { web, issuer }: { readonly web: string; readonly issuer: string },
  visitor: ReturnType<typeof browser>,
  next = '/requests',
) {
  const sent = await visitor.ask(`${web}/signin/with`, { directory: 'company', next })
  let url: string | undefined = unescaped(/http-equiv="refresh" content="0; url=([^"]+)"/.exec(sent.text)?.[1] ?? assert.fail(sent.text))
  assert.ok(url.startsWith(issuer))
  while (url && !url.startsWith(web)) url = (await visitor.ask(url)).location
  // As a browser does it: the answer comes from another site, so what is Strict stays behind, and our page asks once more.
  const landed = await visitor.ask(url!, undefined, { 'sec-fetch-site': 'cross-site' })
  const again = `${web}${unescaped(/content="0; url=([^"]+)"/.exec(landed.text)?.[1] ?? assert.fail(landed.text))}`
  const done = await visitor.ask(again, undefined, { 'sec-fetch-site': 'same-origin' })
  return { done, url: url! }
}
