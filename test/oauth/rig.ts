import { createHash, randomBytes } from 'node:crypto'
import type { Envelope } from '../../src/audit/record.ts'
import { findIdentity } from '../../src/identity/directory.ts'
import { type Fixture, startFixture } from '../mcp/fixture/fixture.ts'
import { codeOf } from '../parts/factor.ts'
import { type Answered, ask, type House, house, type Member } from '../parts/house.ts'

interface Test {
  after(work: () => Promise<void>): void
}

/** Pinned: as the programs name themselves (the addresses are real, the contents ours). */
export const CLAUDE = 'https://claude.ai/oauth/claude-code-client-metadata'
export const CALLBACK = 'http://localhost:41234/callback'

const documents = (url: string) => `
kind: mcp
name: files
spec: { url: "${url}" }
---
kind: mcp
name: other
spec: { url: "${url}" }
---
kind: oauth-client
name: claude-code
spec: { client_id: "${CLAUDE}", client_name: Claude Code, redirect_uris: ["http://localhost/callback", "http://127.0.0.1/callback"] }
---
kind: oauth-client
name: console
spec: { client_id: console, client_name: Console, redirect_uris: ["https://console.example.com/back"] }
---
kind: role
name: user-of-files
spec: { allow: [ { mcp: files, tools: any }, { mcp: other, tools: any } ] }
---
kind: profile
name: reading
spec: { limits: { effects: [read] }, for: 1h }
---
kind: user
name: boris
spec: { roles: [user-of-files] }
---
kind: user
name: erik
spec: { roles: [user-of-files] }
`

export interface Rig {
  readonly home: House
  readonly fixture: Fixture
  readonly boris: Member
  readonly web: string
  /** what is durable by now */
  readonly records: Envelope[]
  resource(server?: string): string
  get(path: string, headers?: Record<string, string>): Promise<Answered>
  post(path: string, form: Record<string, string>, headers?: Record<string, string>): Promise<Answered>
  postJson(path: string, body: unknown, headers: Record<string, string>): Promise<Answered>
  /** The code of a person's authenticator now; as if none had been used before. */
  code(name: string): Promise<string>
  /** A browser in which this person is signed in. */
  browser(name: string): Promise<Browser>
  token(form: Record<string, string>): Promise<Tokens>
  mcp(token: string | undefined, server?: string, method?: string): Promise<Answered>
  /** JSON, in an MCP session of `files` unless it goes to another path. */
  send(token: string | undefined, session: string | undefined, body: unknown, path?: string): Promise<Answered>
  /** A request from this address of the machine; with a body it is a POST of JSON. */
  from(localAddress: string, path: string, body?: unknown): Promise<Answered>
}

export interface Tokens {
  readonly status: number
  readonly access_token: string
  readonly refresh_token: string
  readonly expires_in: number
  readonly error?: string
  readonly error_description?: string
  readonly headers: Answered['headers']
}

export async function rig(t: Test, more: Parameters<typeof house>[1] = {}, extra = ''): Promise<Rig> {
  const fixture = await startFixture({ era: 'both' })
  t.after(() => fixture.close())
  const home = await house(t, more)
  await home.apply(documents(fixture.url) + extra)
  const boris = await home.enrol('boris')
  const records: Envelope[] = []
  const { parts } = home.server
  parts.audit.watch((envelope) => records.push(envelope))
  const code = (name: string) => codeOf(parts, name)
  const { web } = parts.places
  const host = { host: web }
  const address = home.server.addresses.web
  const resource = (server: string | undefined = 'files') => `https://${web}/mcp/${server}`
  // From many addresses: what one may ask for is counted, and tried by itself.
  let asked = 0
  const from = () => ({ localAddress: `127.0.0.${2 + (asked++ % 200)}` })
  const get: Rig['get'] = (path, headers = {}) => ask(address, path, { ...from(), headers: { ...host, ...headers } })
  const post: Rig['post'] = (path, form, headers = {}) =>
    ask(address, path, {
      ...from(),
      method: 'POST',
      headers: { ...host, 'content-type': 'application/x-www-form-urlencoded', ...headers },
      body: new URLSearchParams(form).toString(),
    })
  return {
    home,
    fixture,
    boris,
    web,
    records,
    resource,
    get,
    post,
    postJson: (path, body, headers) =>
      ask(address, path, { ...from(), method: 'POST', headers: { ...host, ...headers }, body: JSON.stringify(body) }),
    code,
    async browser(name) {
      const identity = await findIdentity(parts.store.db, { name })
      const { secret } = await parts.browsers.begin(identity!)
      return browse({ get, post, web, session: secret, code: () => code(name) })
    },
    async token(form) {
      const { status, text, headers } = await post('/oauth/token', form)
      return { ...(JSON.parse(text) as Omit<Tokens, 'status' | 'headers'>), status, headers }
    },
    from: (localAddress, path, body) =>
      ask(address, path, {
        localAddress,
        headers: { ...host, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
        ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
      }),
    send: (token, session, body, path = '/mcp/files') =>
      ask(address, path, {
        ...from(),
        method: 'POST',
        headers: {
          ...host,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(session === undefined ? {} : { 'mcp-session-id': session, 'mcp-protocol-version': '2025-11-25' }),
        },
        body: JSON.stringify(body),
      }),
    mcp: (token, server = 'files', method = 'POST') =>
      ask(address, `/mcp/${server}`, {
        method,
        headers: {
          ...host,
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
        ...(method === 'POST'
          ? {
              body: JSON.stringify({
                jsonrpc: '2.0',
                id: 1,
                method: 'initialize',
                params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'test', version: '1' } },
              }),
            }
          : {}),
      }),
  }
}

/** What a client keeps while its person is away in the browser. */
export interface Flow {
  readonly verifier: string
  readonly state: string
  /** of the authorization request */
  readonly query: string
}

export function begin(more: Record<string, string | undefined> = {}): Flow {
  const verifier = randomBytes(32).toString('base64url')
  const state = randomBytes(8).toString('hex')
  const given = {
    response_type: 'code',
    client_id: CLAUDE,
    redirect_uri: CALLBACK,
    scope: 'mcp',
    state,
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
    ...more,
  }
  const pairs = Object.entries(given).filter((pair): pair is [string, string] => pair[1] !== undefined)
  return { verifier, state, query: new URLSearchParams(pairs).toString() }
}

export interface Browser {
  readonly cookies: Map<string, string>
  get(path: string): Promise<Answered>
  /** Up to the page that asks; its path. */
  open(flow: Flow): Promise<{ readonly path: string; readonly page: Answered }>
  /** Sends the page's form with these fields changed. */
  answer(page: { readonly path: string; readonly page: Answered }, fields: Record<string, string>): Promise<Answered>
  /** All of it, with a code where the page wants one: where the client is sent in the end. */
  agree(flow: Flow, fields?: Record<string, string>): Promise<URL>
  /** The rest of it, from a page that he sees. */
  finish(page: { readonly path: string; readonly page: Answered }, fields?: Record<string, string>): Promise<URL>
}

interface Doors extends Pick<Rig, 'get' | 'post' | 'web'> {
  readonly session: string
  readonly code: () => Promise<string>
}

function browse({ get, post, web, session, code }: Doors): Browser {
  const cookies = new Map([['__Host-chaperone-session', session]])
  const header = () => ({ cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') })
  const keep = (answered: Answered): Answered => {
    for (const line of answered.headers['set-cookie'] ?? []) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!
      if (value === '') cookies.delete(name!)
      else cookies.set(name!, value!)
    }
    return answered
  }
  const visit = async (path: string) => keep(await get(path, header()))
  const browser: Browser = {
    cookies,
    get: visit,
    async open(flow) {
      const sent = await visit(`/oauth/authorize?${flow.query}`)
      const path = sent.headers.location ?? ''
      if (!path.startsWith('/oauth/consent/')) throw new Error(`${sent.status} ${path} ${sent.text}`)
      return { path, page: await visit(path) }
    },
    answer({ path, page }, fields) {
      return post(path, { ...fieldsOf(page.text), ...fields }, { ...header(), origin: `https://${web}` }).then(keep)
    },
    agree: async (flow, fields) => browser.finish(await browser.open(flow), fields),
    async finish(page, fields = {}) {
      const factor: Record<string, string> = page.page.text.includes('id="consent-code"') ? { code: await code() } : {}
      const answered = await browser.answer(page, { verdict: 'agree', ...factor, ...fields })
      const next = /http-equiv="refresh" content="0; url=([^"]+)"/.exec(answered.text)?.[1]
      if (next === undefined) throw new Error(`${answered.status} ${/role="alert"[^>]*>(.*?)<\/div>/s.exec(answered.text)?.[1]}`)
      const back = await visit(next.replaceAll('&amp;', '&'))
      return new URL(back.headers.location ?? `error:${back.status}${back.text}`)
    },
  }
  return browser
}

/** What the consent page's form would send as it is. */
function fieldsOf(page: string): Record<string, string> {
  const form = /<form method="post" action="\/oauth\/consent\/[^"]*"[^>]*>(.*?)<\/form>/s.exec(page)?.[1] ?? ''
  const hidden = [...form.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g)].map(([, name, value]) => [name!, value!])
  const chosen = [...form.matchAll(/<select id="([^"]+)".*?<\/select>/gs)].map(([select, name]) => {
    const options = [...select.matchAll(/<option value="([^"]*)" ?(selected)?/g)]
    return [name!, (options.find(([, , selected]) => selected) ?? options[0])![1]!]
  })
  return Object.fromEntries([...hidden, ...chosen])
}
