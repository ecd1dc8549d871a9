import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { findIdentity } from '../../src/identity/directory.ts'
import { fakeOAuth } from '../fakes/oauth-server.ts'
import { EVERYTHING, openThrough } from '../mcp/through.ts'
import { ask, type House, house, type Member } from '../parts/house.ts'

/** A browser in which somebody is signed in, by its requests. */
async function signedInVisitor({ server }: House, { profile }: Member) {
  const identity = await findIdentity(server.parts.store.db, { name: profile.identity.name })
  const { secret } = await server.parts.browsers.begin(identity!)
  const host = server.parts.places.web
  const headers = { host, cookie: `__Host-chaperone-session=${secret}`, 'sec-fetch-site': 'same-origin' }
  let token = ''
  const get = async (path: string): Promise<string> => {
    const { text } = await ask(server.addresses.web, path, { headers })
    token = /name="token" value="([^"]+)"/.exec(text)?.[1] ?? token
    return text
  }
  return {
    get,
    async post(path: string): Promise<string> {
      const form = { origin: `https://${host}`, 'content-type': 'application/x-www-form-urlencoded' }
      return (
        await ask(server.addresses.web, path, { method: 'POST', headers: { ...headers, ...form }, body: new URLSearchParams({ token }).toString() })
      ).text
    },
  }
}

const script = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bin', 'chaperone.js')

/** Runs the command; `see` gets every piece that it writes to stderr. */
async function chaperone(home: string, args: readonly string[], see: (text: string) => void = () => {}) {
  const child = spawn(process.execPath, [script, ...args], { env: { ...process.env, CHAPERONE_HOME: home }, stdio: ['pipe', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
    see(stderr)
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, stdout, stderr }
}

test('boris logs in at a server that wants OAuth, his client uses it without a token, and logs out', { timeout: 120_000 }, async (t) => {
  const fake = await fakeOAuth()
  t.after(() => fake.close())
  const house = await openThrough(`${EVERYTHING}---\nkind: mcp\nname: wiki\nspec: { url: "${fake.url}", auth: { oauth: { for: each } } }\n`)
  t.after(() => house.close())
  const { url } = await house.open('wiki')
  const connect = async () => {
    const client = new Client({ name: 'claude-code', version: '1' })
    await client.connect(new StreamableHTTPClientTransport(new URL(url)))
    return client
  }
  await assert.rejects(connect(), /chaperone mcp login wiki/)

  let visited: Promise<Response> | undefined
  const done = await chaperone(house.home, ['mcp', 'login', 'wiki', '--no-browser'], (text) => {
    const page = /within ten minutes: (http\S+)\n/.exec(text)?.[1]
    if (page === undefined || visited) return
    const redirect = new URL(page).searchParams.get('redirect_uri')
    visited = fetch(`${redirect}?${fake.approve(page)}`)
  })
  assert.equal(done.code, 0, done.stderr)
  assert.match(done.stdout, /^Logged in at http:\S+ for wiki, with read offline_access\.\n$/)
  assert.match(await (await visited!).text(), /go back to the command line/)

  const client = await connect()
  const { content } = await client.callTool({ name: 'look', arguments: {} })
  assert.deepEqual(content, [{ type: 'text', text: 'done' }])
  const { headers } = fake.of('/mcp').findLast(({ text }) => text.includes('tools/call'))!
  assert.equal(headers.authorization, `Bearer ${fake.tokens[0]!.access}`)
  await client.close()

  const out = await chaperone(house.home, ['mcp', 'logout', 'wiki'])
  assert.deepEqual([out.code, out.stdout], [0, 'Logged out of wiki.\n'], out.stderr)
  // A token that was read is believed for a second at most, on other nodes; here it is gone at once.
  await assert.rejects(connect(), /chaperone mcp login wiki/)
})

test('a client that can show a page gets the link; the login there comes back to our own page, and the token stays here', {
  timeout: 120_000,
}, async (t) => {
  const fake = await fakeOAuth()
  t.after(() => fake.close())
  const home = await house(t)
  await home.apply(`kind: mcp
name: wiki
spec: { url: "${fake.url}", auth: { oauth: { for: each } } }
---
kind: role
name: wiki
spec: { allow: [{ mcp: wiki, can: any }] }
---
kind: user
name: boris
spec: { roles: [wiki] }
`)
  const boris = await home.enrol('boris')
  const { key, certificate: cert } = boris.profile
  const initialize = async (capabilities: object) => {
    const { text } = await ask(home.server.addresses.data, '/mcp/wiki', {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: 1,
        method: 'initialize',
        params: { protocolVersion: '2025-11-25', capabilities, clientInfo: { name: 'x', version: '1' } },
      }),
      key,
      cert,
    })
    return JSON.parse(text) as {
      error?: { code: number; message: string; data: { elicitations?: { mode: string; url: string }[] } }
      result?: unknown
    }
  }
  const page = `https://${home.server.parts.places.web}/connect/wiki`
  const plain = await initialize({})
  assert.notEqual(plain.error?.code, -32042)
  assert.match(plain.error!.message, new RegExp(`chaperone mcp login wiki.*${page}`))
  const able = await initialize({ elicitation: { url: {} } })
  assert.equal(able.error?.code, -32042)
  assert.deepEqual(
    able.error!.data.elicitations?.map(({ mode, url }) => [mode, url]),
    [['url', page]],
  )

  const visitor = await signedInVisitor(home, boris)
  assert.match(await visitor.get('/connect/wiki'), /Log in at wiki/)
  assert.match(await visitor.get('/connect/nothing'), /nothing here/i)
  await visitor.get('/connect/wiki')
  const going = await visitor.post('/connect/wiki')
  const authorize = /href="(http:[^"]+authorize[^"]+)"/.exec(going)![1]!.replaceAll('&amp;', '&')
  assert.equal(new URL(authorize).searchParams.get('redirect_uri'), `https://${home.server.parts.places.web}/connect/.back`)
  const back = `/connect/.back?${fake.approve(authorize)}`
  assert.match(await visitor.get(back), /You are logged in at <strong>wiki/)
  assert.match(await visitor.get(back), /used already/, 'once')
  assert.ok((await initialize({})).result !== undefined, 'the client asks again, and is in')
  for (const text of [going]) assert.doesNotMatch(text, /access-|refresh-/)
})
